//! Compaction: batches of a log that are replaced, in small steps.
//!
//! A cleaner has read them, and says in which state of the log. If that is not its state any more, because it was trimmed,
//! deleted, or cleaned by somebody else, nothing is done: the cleaner begins anew.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::append::Payload;

/// One step: replaces some batches of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clean {
    /// The partition.
    pub partition: TopicPartition,
    /// How often batches of it were replaced when these were read.
    pub steps: u64,
    /// The log start offset then: what was before it is not among them.
    pub log_start: i64,
    /// The runs of batches that are replaced, in the order of offsets.
    pub runs: Vec<CleanedRun>,
    /// Aborted transactions of which nothing is left but the marker: the offset of that, and the producer id.
    pub ended: Vec<(i64, i64)>,
    /// How far the log is clean with this step, if it is the last of a pass.
    pub clean_end: Option<i64>,
}

impl Clean {
    /// Bytes of the new batches, and of what is said about them.
    pub(super) fn bytes(&self) -> usize {
        let batches = self.runs.iter().flat_map(|run| &run.batches);
        256 + batches.map(|batch| batch.payload.0.len()).sum::<usize>()
    }
}

/// Consecutive batches, and those that take their place. The new ones have the same offsets together: readers go from the
/// end of one batch to the next. So for batches of which nothing is left there is one without records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanedRun {
    /// The first offset of the first batch.
    pub from: i64,
    /// The offset after the last one.
    pub until: i64,
    /// What takes their place.
    pub batches: Vec<CleanedBatch>,
}

impl CleanedRun {
    /// Whether the new batches have the offsets of the old ones.
    pub(crate) fn is_whole(&self) -> bool {
        let mut at = self.from;
        self.from < self.until
            && self.batches.iter().all(|batch| {
                batch.base_offset == std::mem::replace(&mut at, batch.next_offset)
                    && batch.base_offset < batch.next_offset
            })
            && at == self.until
    }
}

/// A batch as a cleaner leaves it, with its final header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanedBatch {
    /// Its first offset.
    pub base_offset: i64,
    /// The offset after its last one.
    pub next_offset: i64,
    /// The greatest timestamp of a record, in ms; -1 if no record has one, or there is none.
    pub max_timestamp: i64,
    /// Whether it has records.
    pub has_records: bool,
    /// The batch.
    pub payload: Payload,
}

/// Ends a look at a log that is not to be cleaned yet, and says when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwaitCleaning {
    /// The partition.
    pub partition: TopicPartition,
    /// The time of the entry of the due index that the look is for, in ms; it is deleted.
    pub taken_ms: Option<i64>,
    /// The log end offset when the log was looked at.
    pub end: i64,
    /// When to look again, in ms: a time of the due index. `None` if only an append can make it dirty enough.
    pub next_ms: Option<i64>,
}
