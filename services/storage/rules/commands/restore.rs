//! What another store holds, put into a new one as it is.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::append::{BatchFacts, Payload};
use crate::documents::{CopyMark, Key};

/// Puts documents and batches of another store into a new one. Nothing is decided anew: offsets, producers, and times are as
/// they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// The text of each document, by its key; that of the log's partition among them, if there is a log.
    pub documents: Vec<(Key, String)>,
    /// Some batches of a log.
    pub log: Option<RestoredLog>,
    /// The copy that does it, which has marked the store.
    pub copy: Uuid,
}

/// A copy marks a store, so that nobody else has it. Times are store time, in ms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyCommand {
    /// Marks it, unless a broker or another copy has it.
    Begin {
        /// The mark.
        mark: CopyMark,
        /// The time.
        now_ms: i64,
    },
    /// Has the mark last longer, unless it has ended.
    Renew {
        /// The mark.
        mark: CopyMark,
        /// The time.
        now_ms: i64,
    },
    /// Takes the mark away.
    End {
        /// The copy.
        id: Uuid,
    },
}

/// Consecutive batches of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredLog {
    /// The partition.
    pub partition: TopicPartition,
    /// The log start offset, if these are the first of it: then the log is made.
    pub first: Option<i64>,
    /// The batches.
    pub batches: Vec<RestoredBatch>,
}

/// A batch, with its final header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredBatch {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The leader epoch that it was stored with.
    pub leader_epoch: i32,
    /// Its header fields. It has as many records as offsets, for all that compaction has left of them.
    pub batch: BatchFacts,
    /// When it was appended, in ms, as far as that is known.
    pub appended_ms: i64,
    /// The batch.
    pub payload: Payload,
}

impl Restore {
    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        let documents: usize = self.documents.iter().map(|(key, text)| key.as_str().len() + text.len()).sum();
        let batches = self.log.iter().flat_map(|log| &log.batches);
        256 + documents + batches.map(|batch| batch.payload.0.len()).sum::<usize>()
    }
}
