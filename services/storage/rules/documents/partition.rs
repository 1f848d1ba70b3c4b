//! A partition's log, without its batches.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};

/// A partition's log, without its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDocument {
    /// Log start offset.
    pub log_start: i64,
    /// Log end offset. The high watermark is the same here, because a batch becomes visible only once it is durable.
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
    /// The first offset of the earliest open transaction; `None` if none is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_unstable: Option<i64>,
    /// The offset of the last marker that has aborted a transaction with records here; `None` if there was none. A reader
    /// of committed records from a later offset on has none to skip, and need not look for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_aborted: Option<i64>,
    /// How far it is compacted; left out for one that never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaning: Option<LogCleaning>,
}

/// How far a log is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogCleaning {
    /// The log is clean up to this offset.
    pub clean_end: i64,
    /// How often batches were replaced. A cleaner says on which state it has worked, so that of two only one goes on.
    pub steps: u64,
    /// Whether the next append must put it into the due index: too little is dirty, and only an append can change that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub look_after_append: bool,
}

impl PartitionDocument {
    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.log_start == self.end
    }

    /// How often batches were replaced.
    pub fn cleaning_steps(&self) -> u64 {
        self.cleaning.map_or(0, |cleaning| cleaning.steps)
    }

    /// The last stable offset: no transaction is open before it.
    pub fn last_stable(&self) -> i64 {
        // Records of an open transaction may have been deleted.
        self.first_unstable.map_or(self.end, |first| first.max(self.log_start))
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
