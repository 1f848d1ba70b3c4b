//! A partition's log, without its batches.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};

/// A partition's log, without its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDocument {
    /// The first offset that can be read.
    pub log_start: i64,
    /// The offset after the last record: high watermark, last stable offset and log end are one here, because a
    /// batch becomes visible only once it is durable.
    pub end: i64,
    /// The leader epoch that batches are stored with.
    pub leader_epoch: i32,
}

/// By topic id, so that a deleted topic's log is never taken for a later one's.
impl DocumentKind for PartitionDocument {
    const PREFIX: &'static str = "partition";
    type Key = TopicPartition;

    fn lock_root(at: &TopicPartition) -> LockRoot {
        LockRoot::Partition(*at)
    }
}
