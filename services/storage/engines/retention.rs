//! What retention asks of a log: the limits of its topic, and what a look at the log finds. Shared by all engines.

use rules::documents::TopicDocument;

use super::StoreError;
use super::resident::Times;

/// A topic's retention limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionLimits {
    /// The greatest age of a batch, in ms.
    pub retention_ms: Option<i64>,
    /// The greatest size of a partition, in bytes.
    pub retention_bytes: Option<i64>,
}

impl RetentionLimits {
    /// The limits of a topic.
    pub fn of(topic: &TopicDocument) -> Self {
        let config = topic.effective();
        Self { retention_ms: config.retention_ms, retention_bytes: config.retention_bytes }
    }

    /// Whether there are none.
    pub fn is_unlimited(&self) -> bool {
        self.retention_ms.is_none() && self.retention_bytes.is_none()
    }

    /// Whether the oldest batch of a log expires, or some of the oldest do together: it is too old, or the log without it
    /// still reaches the size limit, as in Kafka. `None` if that is not known: it expires with the next one that does.
    pub(in crate::engines) fn expires(
        &self,
        times: Times,
        log_bytes: u64,
        batch_bytes: u64,
        now_ms: i64,
    ) -> Option<bool> {
        if self.retention_bytes.is_some_and(|limit| log_bytes.saturating_sub(batch_bytes) >= limit as u64) {
            return Some(true);
        }
        if self.retention_ms.is_none() {
            return Some(false);
        }
        times.youngest().map(|_| self.expires_ms(times).is_some_and(|expires_ms| expires_ms <= now_ms))
    }

    /// When a batch is too old, in ms; `None` if never, or if its age is not known.
    pub(in crate::engines) fn expires_ms(&self, times: Times) -> Option<i64> {
        let (limit_ms, youngest) = (self.retention_ms?, times.youngest()?);
        Some(youngest.saturating_add(limit_ms).saturating_add(1))
    }
}

/// What a look at a log has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionLook {
    /// The log end offset.
    pub end: i64,
    /// The log start offset after retention, if it advances. The oldest batch goes first, and none after one that stays.
    pub log_start: Option<i64>,
    /// When the oldest batch that stays will be too old, in ms.
    pub next_ms: Option<i64>,
}

/// The look at one partition; `None` if it does not exist. One that cannot be read fails by itself.
pub type RetentionOutcome = Result<Option<RetentionLook>, StoreError>;
