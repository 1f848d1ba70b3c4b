//! What is too old or too much, for every engine alike.

use std::sync::Arc;

use kernel::TopicPartition;

use super::Upkeep;
use super::table::Table;
use crate::rules::groups::GroupChange;
use crate::rules::{Command, Key};

/// Producers are forgotten after a day without a batch, Kafka's `producer.id.expiration.ms`.
pub(crate) const PRODUCER_EXPIRY_MS: i64 = 86_400_000;

/// A topic's retention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) retention_ms: Option<i64>,
    pub(crate) retention_bytes: Option<i64>,
}

impl Limits {
    /// Whether the oldest batch of a log goes: it is too old, or the log without it still reaches its limit, which is
    /// how Kafka counts.
    pub(crate) fn expires(&self, max_timestamp: i64, log_bytes: u64, batch_bytes: u64, now_ms: i64) -> bool {
        let too_old = self.retention_ms.is_some_and(|limit| now_ms - max_timestamp > limit);
        let too_many =
            self.retention_bytes.is_some_and(|limit| log_bytes - batch_bytes.min(log_bytes) >= limit as u64);
        too_old || too_many
    }
}

/// Every partition under a retention limit.
pub(crate) fn limited_partitions(table: &Table) -> Vec<(TopicPartition, Limits)> {
    let mut limited = Vec::new();
    for topic in table.topics() {
        let config = topic.effective();
        let limits = Limits { retention_ms: config.retention_ms, retention_bytes: config.retention_bytes };
        if limits.retention_ms.is_some() || limits.retention_bytes.is_some() {
            limited.extend(topic.all_partitions().map(|partition| (partition, limits)));
        }
    }
    limited
}

/// The command that forgets an idle producer.
pub(crate) fn expire(key: &Key, unused_since_ms: i64) -> Option<Command> {
    match key {
        Key::Producer(partition, producer) => {
            Some(Command::ExpireProducer { partition: *partition, producer: *producer, unused_since_ms })
        }
        _ => None,
    }
}

/// The commands that look for offsets which nobody needs any more.
pub(crate) fn expire_offsets(table: &Table, upkeep: Upkeep) -> Vec<Command> {
    let Upkeep { now_ms, offsets_retention_ms: retention_ms } = upkeep;
    let command = |(group, _): (&Arc<str>, _)| Command::Group {
        group: Arc::clone(group),
        change: GroupChange::ExpireOffsets { now_ms, retention_ms },
    };
    table.groups().map(command).collect()
}
