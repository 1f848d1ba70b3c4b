//! Retention of batches and producers, shared by all engines.

use kernel::TopicPartition;
use rules::commands::Command;
use rules::documents::{DocumentKind, Key, ProducerDocument, ProducerKey, TopicDocument};

/// Kafka's `producer.id.expiration.ms`: producers expire after a day without a batch.
pub(in crate::engines) const PRODUCER_EXPIRY_MS: i64 = 86_400_000;

/// A topic's retention limits.
#[derive(Debug, Clone, Copy)]
pub(in crate::engines) struct RetentionLimits {
    pub(in crate::engines) retention_ms: Option<i64>,
    pub(in crate::engines) retention_bytes: Option<i64>,
}

impl RetentionLimits {
    /// The partitions of a topic with its limits, if it has any.
    pub(in crate::engines) fn of_partitions(topic: &TopicDocument) -> Vec<(TopicPartition, Self)> {
        let config = topic.effective();
        let limits = Self { retention_ms: config.retention_ms, retention_bytes: config.retention_bytes };
        if limits.retention_ms.is_none() && limits.retention_bytes.is_none() {
            return Vec::new();
        }
        topic.all_partitions().map(|partition| (partition, limits)).collect()
    }

    /// Whether the oldest batch of a log expires, or some of the oldest do together: it is too old, or the log without it still reaches the size
    /// limit, as in Kafka.
    pub(in crate::engines) fn expires(
        &self,
        max_timestamp: i64,
        log_bytes: u64,
        batch_bytes: u64,
        now_ms: i64,
    ) -> bool {
        let too_old = self.retention_ms.is_some_and(|limit| now_ms - max_timestamp > limit);
        let too_many =
            self.retention_bytes.is_some_and(|limit| log_bytes - batch_bytes.min(log_bytes) >= limit as u64);
        too_old || too_many
    }
}

/// The command that expires an idle producer.
pub(in crate::engines) fn expire_producer(key: &Key, unused_since_ms: i64) -> Option<Command> {
    let ProducerKey { partition, producer, origin } = ProducerDocument::parse_key(key)?;
    Some(Command::ExpireProducer { partition, producer, origin, unused_since_ms })
}
