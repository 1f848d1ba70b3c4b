//! Commands on the due index.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use crate::documents::{DueComplete, DueSubject};

/// A change of the due index alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DueCommand {
    /// Moves entries of a subject to another time, or deletes them. Without entries to move, it puts one.
    Move {
        /// The subject.
        subject: DueSubject,
        /// The times of the entries, in ms; one that is not there is no error.
        from_ms: Vec<i64>,
        /// The time of the entry that takes their place, in ms.
        to_ms: Option<i64>,
    },
    /// Says that the index is complete.
    Complete(DueComplete),
}

/// Applies retention to a partition, after a look at its log, and says when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retain {
    /// The partition.
    pub partition: TopicPartition,
    /// The time of the entry of the due index that the look is for, in ms; it is deleted.
    pub taken_ms: Option<i64>,
    /// The log end offset when the log was looked at.
    pub end: i64,
    /// The new log start offset, if something is deleted.
    pub log_start: Option<i64>,
    /// When to look again, in ms: a time of the due index. `None` if nothing that is left will be too old.
    pub next_ms: Option<i64>,
    /// Whether an append can make something due: the topic has a limit on bytes.
    pub after_append: bool,
}
