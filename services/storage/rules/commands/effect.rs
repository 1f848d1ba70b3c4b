//! What an engine must do to logs.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::append::{BatchFacts, Payload};
use super::cleaning::CleanedRun;

/// What an engine must do to a log, in this order, together with the changed documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Create an empty log.
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
        /// Its header fields, settled.
        batch: BatchFacts,
        /// When it was appended, in ms. Records without a timestamp are as old as that.
        appended_ms: i64,
        /// The batch; its header is still as the producer sent it.
        payload: Payload,
    },
    /// Batches that end at or before an offset may be deleted.
    Trim {
        /// The partition.
        partition: TopicPartition,
        /// The previous log start offset.
        was: i64,
        /// The new log start offset.
        log_start: i64,
    },
    /// Replace consecutive batches. The old bytes are of no use any more.
    Clean {
        /// The partition.
        partition: TopicPartition,
        /// The batches. They are there: nothing else changes those that were stored before.
        run: CleanedRun,
    },
    /// The whole log and its producer states may be deleted.
    DropLog {
        /// The partition.
        partition: TopicPartition,
    },
}
