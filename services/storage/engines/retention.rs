//! What retention asks of a log: the limits of its topic, and what a look at the log finds. Shared by all engines.

use rules::documents::{PartitionDocument, TopicDocument};

use super::StoreError;
use super::resident::Times;
use super::searched::{IsOver, Searched};

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

    /// Looks at a log of so many bytes. `search` begins at the batch that holds an offset.
    pub(in crate::engines) fn look<E>(
        &self,
        document: &PartitionDocument,
        bytes: u64,
        now_ms: i64,
        mut search: impl FnMut(i64, &mut IsOver<'_>) -> Result<Option<Searched>, E>,
    ) -> Result<RetentionLook, E> {
        let PartitionDocument { log_start, end, .. } = *document;
        let mut sweep = Sweep { limits: *self, now_ms, bytes, expired_to: None };
        let mut first_kept = search(log_start, &mut |batches| sweep.passes(batches))?;
        if let Some(first) = first_kept.filter(|first| sweep.expires(first).is_none()) {
            // The size limit is reached within this batch of unknown age: it expires with a later one that is too old.
            sweep.bytes = sweep.bytes.saturating_sub(first.bytes);
            first_kept = search(first.next, &mut |batches| sweep.passes(batches))?;
        }
        let from = sweep.expired_to.filter(|from| *from > log_start);
        let next_ms = match first_kept {
            Some(first) => self.expires_ms(first.times),
            // Those of unknown age, if any, expire with what follows them.
            None => self.expires_ms(Times::read(now_ms, -1)).filter(|_| from.unwrap_or(log_start) < end),
        };
        Ok(RetentionLook { end, log_start: from, next_ms })
    }

    /// Whether a log is larger than its limit, so that small batches at its start may expire by size. Once it is not, none
    /// that follows does.
    pub(in crate::engines) fn is_exceeded(&self, log_bytes: u64) -> bool {
        self.retention_bytes.is_some_and(|limit| log_bytes > limit as u64)
    }

    /// When a batch is too old, in ms; `None` if never, or if its age is not known.
    pub(in crate::engines) fn expires_ms(&self, times: Times) -> Option<i64> {
        let (limit_ms, youngest) = (self.retention_ms?, times.youngest()?);
        Some(youngest.saturating_add(limit_ms).saturating_add(1))
    }
}

/// Retention's search for the oldest batch that stays.
struct Sweep {
    limits: RetentionLimits,
    now_ms: i64,
    /// Bytes of the log from where the search has come to.
    bytes: u64,
    /// Where the last batch ends that expires.
    expired_to: Option<i64>,
}

impl Sweep {
    /// What all batches of a span do together, the oldest of them do as well.
    fn expires(&self, batches: &Searched) -> Option<bool> {
        self.limits.expires(batches.times, self.bytes, batches.bytes, self.now_ms)
    }

    fn passes(&mut self, batches: &Searched) -> bool {
        match self.expires(batches) {
            Some(false) => return false,
            // The oldest of these batches of unknown age may exceed the size, although not all together do.
            None if self.limits.is_exceeded(self.bytes) => return false,
            None => {}
            Some(true) => self.expired_to = Some(batches.next),
        }
        self.bytes = self.bytes.saturating_sub(batches.bytes);
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_counts_also_for_batches_of_unknown_age() {
        let limits = RetentionLimits { retention_ms: Some(500), retention_bytes: Some(100) };
        let expires = |times, log_bytes| limits.expires(times, log_bytes, 10, 1_000);
        assert_eq!(expires(Times::default(), 110), Some(true));
        assert_eq!(expires(Times::default(), 109), None);
        assert_eq!(expires(Times::read(499, -1), 20), Some(true));
        assert_eq!(expires(Times::read(500, -1), 20), Some(false));
        assert!(limits.is_exceeded(101) && !limits.is_exceeded(100));
        let by_size = RetentionLimits { retention_ms: None, ..limits };
        assert_eq!(by_size.expires(Times::default(), 109, 10, 1_000), Some(false));
        let by_age = RetentionLimits { retention_bytes: None, ..limits };
        assert!(!by_age.is_exceeded(u64::MAX));
    }
}
