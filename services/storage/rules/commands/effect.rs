//! What an engine must do to logs.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::append::{BatchFacts, Payload};

/// What an engine must do to a log, in this order, together with the changed documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// A partition begins, empty.
    CreateLog {
        /// The partition.
        partition: TopicPartition,
    },
    /// Store a batch.
    Append {
        /// The partition.
        partition: TopicPartition,
        /// The offset of its first record.
        base_offset: i64,
        /// The leader epoch that it is stored with.
        leader_epoch: i32,
        /// What its header says.
        batch: BatchFacts,
        /// The batch, with its base offset and leader epoch yet to be patched.
        payload: Payload,
    },
    /// Batches that end at or before an offset are garbage.
    Trim {
        /// The partition.
        partition: TopicPartition,
        /// Where the log began before.
        was: i64,
        /// The first offset to keep.
        log_start: i64,
    },
    /// All of the partition is garbage, its producers too.
    DropLog {
        /// The partition.
        partition: TopicPartition,
    },
}
