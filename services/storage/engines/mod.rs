//! Storage engines, which make commands durable: one trait, one folder per engine.
//!
//! An engine runs the rules and stores what they decide. Kafka's semantics are in `rules`, never here. What
//! an engine keeps besides documents and batches (partition numbers, packed keys, sizes) is private to it,
//! and so are the limits that follow from it.

mod dirty;
mod gaps;
mod gauges;
mod health;
pub mod memory;
#[cfg(test)]
mod model_cleaning;
#[cfg(test)]
mod model_copy;
#[cfg(test)]
mod model_groups;
#[cfg(test)]
mod model_look_ups;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod model_transactions;
mod opening;
pub mod outbox;
pub mod postgres;
mod resident;
mod retention;
mod room;
mod searched;
pub mod sqlite;
mod verified;
mod watch;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::budget::Lease;
use kernel::clock::SharedStoreClock;
use kernel::masked;
use kernel::metrics::Page;
use kernel::panics::caught;
use kernel::ports::BoxFuture;
use kernel::records::Batch;
use kernel::records_later::RecordsLater;
use rules::commands::{Command, Outcome};
use rules::documents::{Document, Key, PartitionDocument, Prefix};

use crate::settings::Settings;
pub use dirty::DirtyLook;
pub(crate) use opening::store_level;
use opening::{Opener, checked};
use outbox::Outbox;
pub use resident::Gauges;
pub use retention::{RetentionLimits, RetentionLook, RetentionOutcome};
pub use room::WhyFull;
pub use verified::VerifyReport;
pub use watch::{ChangeFeed, Subject, Watch, Watchers};

/// An engine over an open store, or why it cannot be opened.
pub type OpenedEngine = Result<Arc<dyn Engine>, StoreError>;

/// How a store's URL selects its engine.
pub struct EngineKind {
    /// The part before `://`; some engines have two names.
    schemes: &'static [&'static str],
    /// The form of a URL, for errors and the reference.
    form: &'static str,
    /// What tells the store from others, if two services must not share it, because each would assume that it is the
    /// only one. The text is the part after `://`.
    pub(crate) holds: fn(&str) -> Option<String>,
    /// Checks the part after `://`.
    check: fn(&str) -> Result<(), UrlFault>,
    /// Opens the store; the text is the part after `://`.
    open: fn(&str, &Settings) -> Pending<Arc<dyn Engine>>,
    /// Opens a store that is there, beside the brokers that have it; `None` for an engine whose stores they do not share.
    beside: Option<OpenStore>,
    /// Opens a store that is there, and which no broker uses meanwhile; `None` for an engine that keeps nothing.
    existing: Option<OpenStore>,
    /// Checks a store's consistency; `None` for an engine that keeps nothing.
    verify: Option<VerifyStore>,
}

/// Opens the store at a place, the part of its URL after `://`.
type OpenStore = fn(&str) -> Pending<Arc<dyn Engine>>;

/// Checks the store at a place, the part of its URL after `://`. The second gets what is done of how much.
type VerifyStore =
    for<'a> fn(&'a str, &'a mut Progress<'a>) -> BoxFuture<'a, Result<VerifyReport, StoreError>>;

/// Gets how much is done, and of how much.
pub type Progress<'a> = dyn FnMut(u64, u64) + Send + 'a;

/// What is wrong with a URL.
enum UrlFault {
    /// It does not have the form of its engine.
    Form,
    /// This, as a sentence.
    Says(String),
}

/// All engines. A new engine is a folder and a line here.
static ENGINES: [&EngineKind; 3] = [&sqlite::KIND, &postgres::KIND, &memory::KIND];

/// The engine of a store's URL, and the part after `://`.
///
/// # Errors
/// A sentence with the valid forms of a URL.
pub fn find(url: &str) -> Result<(&'static EngineKind, &str), String> {
    let parts = url.split_once("://");
    let kind = parts.and_then(|(scheme, _)| ENGINES.iter().find(|kind| kind.schemes.contains(&scheme)));
    let checked = kind.zip(parts).ok_or(UrlFault::Form).and_then(|(kind, (_, place))| {
        (kind.check)(place)?;
        Ok((*kind, place))
    });
    checked.map_err(|fault| match fault {
        UrlFault::Form => {
            let forms: Vec<&str> = ENGINES.iter().map(|kind| kind.form).collect();
            format!("{:?} is not a store: write {}", masked::url(url), forms.join(" or "))
        }
        // Without the URL, which may have a password in it.
        UrlFault::Says(what) => format!("the store's URL cannot be used: {what}"),
    })
}

/// Opens the store in the settings.
///
/// # Errors
/// A sentence with the cause and the remedy.
pub async fn open(settings: &Settings) -> OpenedEngine {
    let (kind, place) = find(&settings.url).map_err(StoreError)?;
    checked((kind.open)(place, settings).await?, Opener::Broker).await
}

/// Opens a store beside the brokers that share it.
///
/// # Errors
/// There is no such store, or brokers cannot share it, as a sentence.
pub async fn open_beside_brokers(url: &str) -> OpenedEngine {
    let (kind, place) = find(url).map_err(StoreError)?;
    match kind.beside {
        Some(beside) => checked(beside(place).await?, Opener::Operator).await,
        None => Err(StoreError(format!(
            "{} has one broker at a time; a store in Postgres is what several share",
            masked::url(url)
        ))),
    }
}

/// Opens a store that is there, to read all of it.
///
/// # Errors
/// There is no such store, a broker has it, or it keeps nothing, as a sentence.
pub async fn open_existing(url: &str) -> OpenedEngine {
    let (kind, place) = find(url).map_err(StoreError)?;
    match kind.existing {
        Some(existing) => checked(existing(place).await?, Opener::Operator).await,
        None => Err(StoreError(format!("{url} keeps nothing that could be copied"))),
    }
}

/// Checks the consistency of a store.
///
/// # Errors
/// It cannot be read, as a sentence.
pub async fn verify<'a>(url: &'a str, progress: &'a mut Progress<'a>) -> Result<VerifyReport, StoreError> {
    let (kind, place) = find(url).map_err(StoreError)?;
    match kind.verify {
        Some(verify) => verify(place, progress).await,
        None => Err(StoreError(format!("{url} keeps nothing that could be checked"))),
    }
}

/// A batch as it is stored, checked, and whether a record of it has no timestamp.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn stored_batch(data: &Bytes) -> Result<(Batch, bool), String> {
    match gaps::as_gap(data) {
        Some(gap) => Ok((gap, false)),
        None => gaps::check_stored(data),
    }
}

/// Opens a store whose engine blocks on a disk.
fn open_blocking<E: Engine + 'static>(
    open: impl FnOnce() -> Result<E, StoreError> + Send + 'static,
) -> Pending<Arc<dyn Engine>> {
    Box::pin(async move {
        let opened = tokio::task::spawn_blocking(move || caught(open)).await;
        let opened = opened.map_err(|error| StoreError(format!("opening the store was cut off: {error}")))?;
        let opened = opened.map_err(|panic| {
            StoreError(format!(
                "opening the store panicked: {panic}; this is a bug in Yagura, please report it"
            ))
        })?;
        Ok(Arc::new(opened?) as Arc<dyn Engine>)
    })
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

/// The future result of an engine operation.
pub type Pending<T> = BoxFuture<'static, Result<T, StoreError>>;

/// Memory that commands hold. It is released once they are durable, even if the caller no longer waits.
pub type Holds = Vec<Arc<Lease>>;

/// Which records a reader sees (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// All.
    ReadUncommitted,
    /// Those before the last stable offset. Aborted ones are among them: a client skips them by a list that it gets.
    ReadCommitted,
}

impl Isolation {
    /// Where the log ends for such a reader: at the high watermark, or at the last stable offset.
    pub fn end_of(self, log: &PartitionDocument) -> i64 {
        match self {
            Isolation::ReadUncommitted => log.end,
            Isolation::ReadCommitted => log.last_stable(),
        }
    }
}

/// A read from one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSpec {
    /// The partition.
    pub partition: TopicPartition,
    /// Where the read begins.
    pub from: ReadFrom,
    /// Whole batches up to this many bytes, and at least one (KIP-74).
    pub bytes_max: usize,
    /// Whom it is for. It ends where the log ends for such a reader.
    pub isolation: Isolation,
}

impl ReadSpec {
    /// A read of all records.
    pub fn uncommitted(partition: TopicPartition, from: ReadFrom, bytes_max: usize) -> Self {
        Self { partition, from, bytes_max, isolation: Isolation::ReadUncommitted }
    }
}

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the batch that holds this offset.
    Offset(i64),
    /// At the first batch with a record of this timestamp or later, in ms since the Unix epoch.
    Timestamp(i64),
    /// At the first batch with the maximum timestamp, of those that begin at the log start offset or later: what a batch
    /// has before it is gone, and only its records tell whether the maximum is one of them.
    MaxTimestamp,
}

/// How much a read of many partitions may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of all batches; the first is returned even if it is larger (KIP-74).
    pub bytes_max: usize,
    /// Bytes that are read now. Batches beyond them are only located, and read when they are sent.
    pub now_max: usize,
}

impl ReadLimits {
    /// Everything is read now.
    pub fn all_now(bytes_max: usize) -> Self {
        Self { bytes_max, now_max: usize::MAX }
    }
}

/// Whole batches that were located but not read.
#[derive(Debug)]
pub struct Rest {
    /// The offset after the last of them.
    pub next_offset: i64,
    /// Reads them.
    pub records: RecordsLater,
}

impl PartialEq for Rest {
    fn eq(&self, other: &Self) -> bool {
        (self.next_offset, self.records.bytes) == (other.next_offset, other.records.bytes)
    }
}

/// The result of a read.
#[derive(Debug, PartialEq)]
pub enum ReadOutcome {
    /// The partition exists.
    Read {
        /// The log start offset.
        log_start: i64,
        /// The high watermark: the offset after the last record that can be read.
        high_watermark: i64,
        /// The last stable offset: no transaction is open before it.
        last_stable: i64,
        /// The offset of the last marker that has aborted a transaction, of the moment of the read.
        last_aborted: Option<i64>,
        /// How often compaction has replaced batches, of the moment of the read or earlier.
        cleaning_steps: u64,
        /// Whole batches in offset order; empty where the log ends for the reader.
        batches: Vec<Bytes>,
        /// Those that follow them.
        rest: Option<Rest>,
    },
    /// The offset is before the log start offset or after the high watermark.
    OutOfRange {
        /// The log start offset.
        log_start: i64,
        /// The high watermark: the offset after the last record that can be read.
        high_watermark: i64,
    },
    /// The partition does not exist, or was deleted.
    UnknownPartition,
    /// It cannot be read; the others of the same call can.
    Failed(StoreError),
}

/// What brokers share besides a store's contents.
pub struct Sharing {
    /// The store's own clock.
    pub clock: SharedStoreClock,
    /// What changes, through whichever broker.
    pub changes: ChangeFeed,
}

/// What a look at a store has found that brokers share.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The store is another than when [`Engine::accept`] was last called: one that was restored.
    pub is_another: bool,
    /// Which of all copies of the store it was when [`Engine::accept`] was last called, by whichever broker.
    pub instance: Option<Arc<str>>,
    /// The connection that this broker keeps to it.
    pub session: Option<Arc<str>>,
    /// Those of the connections asked for that have ended.
    pub ended: Vec<Arc<str>>,
}

/// A storage engine.
pub trait Engine: Send + Sync {
    /// Queues commands, in the order of the calls, before it returns. The returned future completes once they
    /// are durable. Each command is atomic by itself. `holds` is kept until then.
    ///
    /// If the future is dropped, they take effect nevertheless; but an engine whose store processes share calls off commands of
    /// transactions that were not written yet: their client may have gone on at another broker.
    fn commit(&self, commands: Vec<Command>, holds: Holds) -> Pending<Vec<Outcome>>;

    /// Reads many partitions.
    fn read(&self, specs: Vec<ReadSpec>, limits: ReadLimits) -> Pending<Vec<ReadOutcome>>;

    /// Documents by key, in the order of `keys`, from one consistent snapshot.
    fn get(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>>;

    /// The first `limit` documents of a prefix after a key, in key order.
    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>>;

    /// Total size of each partition's batches; 0 if the partition does not exist.
    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>>;

    /// Watches appends to partitions and changes of groups. Subscribe before reading.
    fn watch(&self, subjects: &[Subject]) -> Watch;

    /// A number that grows whenever topics change, unique among all stores of the process.
    fn topics_version(&self) -> u64;

    /// Looks at what retention deletes from partitions at this time in ms, and when it will delete more. It costs a few
    /// look-ups for each, however long its log is, and changes nothing.
    fn retention(
        &self,
        partitions: Vec<(TopicPartition, RetentionLimits)>,
        now_ms: i64,
    ) -> Pending<Vec<RetentionOutcome>>;

    /// Looks at how much of a partition is dirty, without batches that are younger than a time in ms; `None` if it does not
    /// exist. It costs a few look-ups, however long its log is.
    fn dirty(&self, partition: TopicPartition, young_after_ms: Option<i64>) -> Pending<Option<DirtyLook>>;

    /// Frees garbage, as of this time in ms, and returns how many bytes.
    fn maintain(&self, now_ms: i64) -> Pending<u64>;

    /// Follows whether the store has no room for records, and why. Until it has some again, commands that add records,
    /// topics or partitions are refused, and all others decided as always.
    fn full(&self) -> tokio::sync::watch::Receiver<WhyFull>;

    /// Writes the metrics of its commits and its room.
    fn collect(&self, page: &mut Page);

    /// Reads the gauges of its documents, without a lock that a commit needs for long.
    fn gauges(&self) -> Pending<Gauges>;

    /// What this broker shares with others; `None` for an engine whose store one broker has at a time.
    fn sharing(&self) -> Option<Sharing> {
        None
    }

    /// What is known to be damaged, if anything is: the name of some of it. Reads leave it out.
    fn damaged(&self) -> Option<String> {
        None
    }

    /// What `yagura store copy` leaves behind, because it is neither documents nor records: how many of what.
    fn not_copied(&self) -> Pending<Vec<(u64, &'static str)>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Sets the level of the documents that it writes from now on, if brokers share the store. Until then it writes those of the
    /// level before this release's.
    fn write_at(&self, level: u32) {
        let _ = level;
    }

    /// Looks at the store's clock, if brokers share it, and at connections that others keep to it.
    fn look(&self, sessions: Vec<Arc<str>>) -> Pending<Looked> {
        drop(sessions);
        Box::pin(std::future::ready(Ok(Looked::default())))
    }

    /// Leader epochs were taken for the store as it is.
    fn accept(&self) -> Pending<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Tells other brokers that some have come, gone, or were drained.
    fn tell_of_brokers(&self) -> Pending<()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Tells whether other brokers are there, which want to know of changes.
    fn has_others(&self, has_others: bool) {
        let _ = has_others;
    }

    /// Another broker may have changed something and died before it could say so: whoever waits looks again.
    fn doubt(&self) {}

    /// The messages that other programs leave in the store; `None` for an engine where nobody else can.
    fn outbox(&self) -> Option<Arc<dyn Outbox>> {
        None
    }

    /// Resolves once the engine cannot go on, such as when another process has taken over its store: no command will
    /// be durable any more.
    fn failed(&self) -> BoxFuture<'static, StoreError>;

    /// Completes queued commands and closes the store.
    fn close(&self) -> Pending<()>;
}
