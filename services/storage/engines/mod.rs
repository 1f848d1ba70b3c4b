//! Where commands become durable: one trait of five verbs, one folder or file per engine.
//!
//! An engine runs the rules and stores what they decide. What Kafka means is written in `rules`, never here.

pub mod memory;
#[cfg(test)]
mod model_groups;
#[cfg(test)]
mod model_tests;
mod retention;
pub mod sqlite;
mod stats;
mod table;
mod watch;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::metrics::Page;
use kernel::ports::BoxFuture;

use crate::rules::{Command, Document, Key, Outcome};
pub use watch::{Subject, Watch, Watchers};

/// The store failed: nothing is known to have changed. Clients get KAFKA_STORAGE_ERROR, which they retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreError(pub String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// What an engine gives back, in time.
pub type Pending<T> = BoxFuture<'static, Result<T, StoreError>>;

/// A read of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSpec {
    /// Which.
    pub partition: TopicPartition,
    /// From where.
    pub from: From,
    /// Whole batches up to this many bytes, and at least one (KIP-74).
    pub bytes_max: usize,
}

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the batch that holds this offset.
    Offset(i64),
    /// At the first batch with a record of this time or later, in ms since the epoch.
    Timestamp(i64),
    /// At the first batch that holds the latest timestamp.
    MaxTimestamp,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The partition is there.
    Read {
        /// The first offset that can be read.
        log_start: i64,
        /// The offset after the last record that can be read.
        high_watermark: i64,
        /// Whole batches with their offsets, one after the other; empty at the end of the log.
        batches: Vec<Bytes>,
    },
    /// The offset is before the log's beginning or past its end.
    OutOfRange {
        /// The first offset that can be read.
        log_start: i64,
        /// The offset after the last record that can be read.
        high_watermark: i64,
    },
    /// There is no such partition (any more).
    UnknownPartition,
}

/// Which documents to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// These; those that are absent are left out of the answer.
    Keys(Vec<Key>),
    /// Every topic, in the order of names.
    Topics,
    /// A group and then its members, as they are at one moment.
    Group(Arc<str>),
    /// Every group without its members, in the order of ids.
    Groups,
    /// Every subscription to clients' metrics, in the order of names.
    ClientMetrics,
    /// The idempotent producers of a partition.
    Producers(TopicPartition),
}

/// What `maintain` goes by.
#[derive(Debug, Clone, Copy)]
pub struct Upkeep {
    /// The time, in ms.
    pub now_ms: i64,
    /// How long committed offsets are kept after their group was last in use, in ms.
    pub offsets_retention_ms: i64,
}

/// What `maintain` did, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Maintained {
    /// Partitions whose beginning moved.
    pub partitions_trimmed: usize,
    /// Idle producers forgotten.
    pub producers_forgotten: usize,
    /// Bytes of garbage given back.
    pub bytes_freed: u64,
}

/// An engine.
pub trait Engine: Send + Sync {
    /// Queues commands, in the order of the calls, before it returns; what it returns ends once they are durable.
    /// Each command is atomic by itself.
    fn commit(&self, commands: Vec<Command>) -> Pending<Vec<Outcome>>;

    /// Reads many partitions at once, in at most `bytes_max` bytes in all; the first batch found is given even if it
    /// is larger (KIP-74).
    fn read(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> Pending<Vec<ReadOutcome>>;

    /// Loads documents.
    fn load(&self, load: Load) -> Pending<Vec<(Key, Document)>>;

    /// Watches for appends to partitions and for changes of groups; subscribe before reading.
    fn watch(&self, subjects: &[Subject]) -> Watch;

    /// Retention and garbage.
    fn maintain(&self, upkeep: Upkeep) -> Pending<Maintained>;

    /// Writes its metrics.
    fn collect(&self, page: &mut Page);

    /// Ends what is queued and closes the store.
    fn close(&self) -> Pending<()>;
}
