//! Where commands become durable: one trait of a few verbs, one folder per engine.
//!
//! An engine runs the rules and stores what they decide. What Kafka means is written in `rules`, never here. What an engine
//! keeps beside documents and batches (numbers of partitions, packed keys, sizes) is its own, and so are the limits that
//! follow from it.

pub mod memory;
#[cfg(test)]
mod model_groups;
#[cfg(test)]
mod model_tests;
mod resident;
pub mod sqlite;
mod watch;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::budget::Lease;
use kernel::metrics::Page;
use kernel::ports::BoxFuture;
use rules::commands::{Command, Outcome};
use rules::documents::{Document, Key, Prefix};

use crate::settings::Settings;
pub use watch::{Subject, Watch, Watchers};

/// An engine over an open store, or why it cannot be opened.
pub type OpenedEngine = Result<Arc<dyn Engine>, StoreError>;

/// How a store's URL chooses its engine.
pub struct EngineKind {
    /// The part before `://`.
    scheme: &'static str,
    /// What a URL looks like, for errors and the reference.
    form: &'static str,
    /// Whether the part after `://` is one.
    accepts: fn(&str) -> bool,
    /// Opens the store; the text is the part after `://`. It may block.
    open: fn(&str, &Settings) -> OpenedEngine,
}

/// All engines. A new one is a folder, and a line here.
static ENGINES: [&EngineKind; 2] = [&sqlite::KIND, &memory::KIND];

/// The engine of a store's URL, with what stands behind `://`.
///
/// # Errors
/// A sentence that says what a URL looks like.
pub fn find(url: &str) -> Result<(&'static EngineKind, &str), String> {
    let parts = url.split_once("://");
    let kind = parts.and_then(|(scheme, _)| ENGINES.iter().find(|kind| kind.scheme == scheme));
    match (kind, parts) {
        (Some(kind), Some((_, place))) if (kind.accepts)(place) => Ok((kind, place)),
        _ => {
            let forms: Vec<&str> = ENGINES.iter().map(|kind| kind.form).collect();
            Err(format!("{url:?} is not a store: write {}", forms.join(" or ")))
        }
    }
}

/// Opens the store that the settings name. It may block on a disk.
///
/// # Errors
/// A sentence with the cause and the remedy.
pub fn open(settings: &Settings) -> OpenedEngine {
    let (kind, place) = find(&settings.url).map_err(StoreError)?;
    (kind.open)(place, settings)
}

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

/// Memory that commands hold: given back once they are durable, also when nobody waits for them any more.
pub type Holds = Vec<Arc<Lease>>;

/// A read of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSpec {
    /// The partition.
    pub partition: TopicPartition,
    /// Where to begin.
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
    /// Each command is atomic by itself. `holds` is kept until then.
    fn commit(&self, commands: Vec<Command>, holds: Holds) -> Pending<Vec<Outcome>>;

    /// Reads many partitions at once, in at most `bytes_max` bytes in all; the first batch found is given even if it
    /// is larger (KIP-74).
    fn read(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> Pending<Vec<ReadOutcome>>;

    /// Documents by key, each at its key's place, as they are at one moment.
    fn get(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>>;

    /// The first `limit` documents of a prefix after a key, in the order of keys.
    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>>;

    /// Bytes of the batches in each partition; 0 for one that is not there.
    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>>;

    /// Watches for appends to partitions and for changes of groups; subscribe before reading.
    fn watch(&self, subjects: &[Subject]) -> Watch;

    /// Retention and garbage, by this time in ms.
    fn maintain(&self, now_ms: i64) -> Pending<Maintained>;

    /// Writes its metrics.
    fn collect(&self, page: &mut Page);

    /// Ends what is queued and closes the store.
    fn close(&self) -> Pending<()>;
}
