//! A partition's log, without its batches.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};

/// A partition's log, without its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDocument {
    /// Log start offset.
    pub log_start: i64,
    /// Log end offset. High watermark and last stable offset are the same here, because a batch becomes
    /// visible only once it is durable.
    pub end: i64,
    /// The leader epoch of its last batch. Earlier ones are in its [`EpochHistory`](super::EpochHistory).
    pub leader_epoch: i32,
    /// Whether the next append must put it into the due index: retention by size has found nothing to delete, and only
    /// an append can change that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub look_after_append: bool,
    /// The last log append time, in ms: it never goes back, whatever the clock does. None was given yet if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append_time_ms: Option<i64>,
}

impl PartitionDocument {
    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.log_start == self.end
    }
}

/// By topic id, so that a topic never gets the log of a deleted topic with its name.
impl DocumentKind for PartitionDocument {
    const PREFIX: &'static str = "partition";
    type Key = TopicPartition;

    fn lock_root(at: &TopicPartition) -> LockRoot {
        LockRoot::Partition(*at)
    }
}
