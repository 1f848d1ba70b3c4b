//! Reads from the file: jobs, and the threads' work. The threads are in [`super::lane`].

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicPartition;
use rules::documents::{Document, DocumentKind, Key, PartitionDocument, Prefix};
use rusqlite::Connection;
use tracing::warn;

use super::batches::{Reading, View};
use super::commit::document;
use super::damage::Part;
use super::foreign::refuse_foreign;
use super::index::{Span, Step};
use super::lane::{Lane, Work};
use super::logs::Log;
use super::look_up::find;
use super::owner::check_name;
use super::pieces::{Found, Place};
use super::schema::{damaged, failed, is_about_damage, is_damage};
use super::state::{known_document, known_partition};
use super::writer::AnswerTo;
use super::{Shared, open, scan};
use crate::engines::resident::{ReadBudget, empty, outcome_of};
use crate::engines::{
    DirtyLook, Pending, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, RetentionLimits, RetentionOutcome,
    StoreError,
};

pub(super) enum Job {
    Read {
        specs: Vec<ReadSpec>,
        limits: ReadLimits,
        answer: AnswerTo<Vec<Found>>,
    },
    /// Records of a reply that is being sent.
    Piece {
        place: Place,
        bytes: usize,
        answer: AnswerTo<(Bytes, Place)>,
    },
    Get {
        keys: Vec<Key>,
        answer: AnswerTo<Vec<Option<Document>>>,
    },
    Scan {
        prefix: Prefix,
        after: Option<Key>,
        limit: usize,
        answer: AnswerTo<Vec<(Key, Document)>>,
    },
    Sizes {
        partitions: Vec<TopicPartition>,
        answer: AnswerTo<Vec<u64>>,
    },
    /// What retention does to partitions, as of a time in ms.
    Retention {
        partitions: Vec<(TopicPartition, RetentionLimits)>,
        now_ms: i64,
        answer: AnswerTo<Vec<RetentionOutcome>>,
    },
    /// How much of a partition is dirty, without batches that are younger than a time in ms.
    Dirty {
        partition: TopicPartition,
        young_after_ms: Option<i64>,
        answer: AnswerTo<Option<DirtyLook>>,
    },
}

/// A scan of so many documents is short. Consumers wait for some: of aborted transactions, of pending offsets.
const SHORT_SCAN: usize = 1_024;

/// Threads for reads from offsets and of documents, which are short, and others for look-ups, which may be long: a search
/// by time must not delay consumers.
#[derive(Clone)]
pub(super) struct Readers {
    reads: Arc<Lane<Reader>>,
    look_ups: Arc<Lane<Reader>>,
}

impl Readers {
    pub(super) fn new(path: &Path, shared: &Arc<Shared>) -> Self {
        let lane = |name, threads| {
            let (path, shared) = (path.to_owned(), Arc::clone(shared));
            let watched = Arc::clone(&shared);
            let reader = move || {
                let connection = open::reader(&path)?;
                // It was opened by its name, too, which the store may have lost since.
                check_name(&shared.lock).inspect_err(|lost| shared.health.fail(lost.clone()))?;
                Ok(Reader { connection, shared: Arc::clone(&shared) })
            };
            Arc::new(Lane::new(name, threads, reader, move |why| watched.health.fail(why)))
        };
        // Two keep the disk busy; more only cost memory.
        Self { reads: lane("sqlite-reader", 2), look_ups: lane("sqlite-look-up", 1) }
    }

    pub(super) fn read(&self, specs: Vec<ReadSpec>, limits: ReadLimits) -> Pending<Vec<ReadOutcome>> {
        let by_offset = specs.iter().all(|spec| matches!(spec.from, ReadFrom::Offset(_)));
        let lane = if by_offset { &self.reads } else { &self.look_ups };
        let asked = lane.ask(move |answer| Job::Read { specs, limits, answer });
        // A reply outlives the store if it is closed meanwhile; it must not keep its threads.
        let readers = Arc::downgrade(&self.reads);
        Box::pin(async move { Ok(asked.await?.into_iter().map(|found| found.outcome(&readers)).collect()) })
    }

    pub(super) fn get(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>> {
        self.reads.ask(move |answer| Job::Get { keys, answer })
    }

    pub(super) fn scan(
        &self,
        prefix: Prefix,
        after: Option<Key>,
        limit: usize,
    ) -> Pending<Vec<(Key, Document)>> {
        let lane = if limit <= SHORT_SCAN { &self.reads } else { &self.look_ups };
        lane.ask(move |answer| Job::Scan { prefix, after, limit, answer })
    }

    pub(super) fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>> {
        self.reads.ask(move |answer| Job::Sizes { partitions, answer })
    }

    pub(super) fn retention(
        &self,
        partitions: Vec<(TopicPartition, RetentionLimits)>,
        now_ms: i64,
    ) -> Pending<Vec<RetentionOutcome>> {
        self.look_ups.ask(move |answer| Job::Retention { partitions, now_ms, answer })
    }

    pub(super) fn dirty(
        &self,
        partition: TopicPartition,
        young_after_ms: Option<i64>,
    ) -> Pending<Option<DirtyLook>> {
        self.look_ups.ask(move |answer| Job::Dirty { partition, young_after_ms, answer })
    }
}

/// Whether what was read is kept in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Cached,
    Nothing,
}

/// A partition's document and log of one moment.
pub(super) type OfMoment = (PartitionDocument, Arc<Log>);

/// A thread's connection.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
}

impl Work for Reader {
    type Job = Job;

    fn run(&mut self, job: Job) {
        // Nothing is read for a client that has disconnected, and sending fails if it does so meanwhile.
        match job {
            Job::Read { specs, limits, answer } => {
                if let Some(found) = self.read_all(specs, limits, || answer.is_closed()) {
                    let _ = answer.send(Ok(found));
                }
            }
            Job::Piece { place, bytes, answer } => reply(answer, || self.piece(place, bytes)),
            Job::Get { keys, answer } => reply(answer, || self.get(&keys)),
            Job::Scan { prefix, after, limit, answer } => {
                reply(answer, || scan::scan(&self.connection, &self.shared, &prefix, after.as_ref(), limit));
            }
            Job::Sizes { partitions, answer } => reply(answer, || self.sizes(&partitions)),
            Job::Retention { partitions, now_ms, answer } => {
                let look = |(at, limits): &(TopicPartition, RetentionLimits)| {
                    let looked = self.retention(*at, limits, now_ms);
                    looked.inspect_err(|failure| self.shared.damage.not_read(*at, failure))
                };
                reply(answer, || Ok(partitions.iter().map(look).collect()));
            }
            Job::Dirty { partition, young_after_ms, answer } => {
                reply(answer, || self.dirty(partition, young_after_ms));
            }
        }
    }
}

fn reply<T>(answer: AnswerTo<T>, work: impl FnOnce() -> Result<T, StoreError>) {
    if !answer.is_closed() {
        let _ = answer.send(work());
    }
}

impl Reader {
    /// Reads partition by partition, as long as somebody waits for it. Each partition fails by itself.
    fn read_all(
        &self,
        specs: Vec<ReadSpec>,
        limits: ReadLimits,
        is_unwanted: impl Fn() -> bool,
    ) -> Option<Vec<Found>> {
        let mut budget = ReadBudget::new(limits);
        let mut all = Vec::with_capacity(specs.len());
        for spec in specs {
            if is_unwanted() {
                return None;
            }
            let found = self.read(spec, &mut budget);
            if let Err(failure) = &found {
                self.shared.damage.not_read(spec.partition, failure);
            }
            all.push(found.unwrap_or_else(|error| Found::from(ReadOutcome::Failed(error))));
        }
        Some(all)
    }

    fn read(&self, spec: ReadSpec, budget: &mut ReadBudget) -> Result<Found, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading", &error);
        let cleaned = self.shared.cleanings.count(spec.partition);
        let before = *budget;
        // The log is looked at first: a batch stored later is after its end and is left out, so that the answer is a
        // consistent state of the log.
        let view = match spec.from {
            ReadFrom::Offset(offset) => {
                self.with_log(spec.partition, |document, log| View::of(document, log, offset, &spec, budget))?
            }
            ReadFrom::Timestamp(_) | ReadFrom::MaxTimestamp => {
                let (log, _snapshot) = self.snapshot(spec.partition, Keep::Cached)?;
                let Some((document, log)) = log else { return Ok(ReadOutcome::UnknownPartition.into()) };
                let found = find(&self.connection, &log, document.log_start, spec.from).map_err(reading)?;
                let Some(found) = found else { return Ok(empty(&document).into()) };
                let from = found.base.max(document.log_start);
                Some(View::of(&document, &log, from, &spec, budget))
            }
        };
        let Some(view) = view else { return Ok(ReadOutcome::UnknownPartition.into()) };
        if let Some(outcome) = view.outcome_without_log() {
            return Ok(outcome.into());
        }
        let (read, missing) = match view.read(&self.connection, spec.bytes_max, budget) {
            Ok(read) if read.is_missing && read.batches.is_empty() => {
                let missing = damaged(format!("the batch at offset {} is missing", read.at));
                (Reading::default(), Some(missing))
            }
            Ok(read) => (read, None),
            Err(error) => (Reading::default(), Some(error)),
        };
        if let Some(error) = missing {
            let now = self.with_log(spec.partition, |document, _| document.log_start)?;
            let is_trimmed = now.is_none_or(|now| now != view.document.log_start);
            if is_trimmed || self.shared.cleanings.wait_if_changed(spec.partition, cleaned) {
                // Trimmed, cleaned or deleted after the document was read.
                *budget = before;
                return self.read(spec, budget);
            }
            return Err(reading(error));
        }
        let read = self.without_stale_rest((spec.partition, cleaned), read);
        let has_nothing = read.as_ref().is_none_or(|read| read.batches.is_empty());
        let found = read.map(|read| self.found((spec.partition, cleaned), &view, read));
        match found {
            Some(Ok(found)) => Ok(found),
            Some(Err(_)) | None
                if has_nothing && self.shared.cleanings.wait_if_changed(spec.partition, cleaned) =>
            {
                *budget = before;
                self.read(spec, budget)
            }
            Some(Err(error)) => Err(error),
            None => Ok(outcome_of(&view.document, Vec::new(), None).into()),
        }
    }

    /// A rest that was located by the index is not what is in the file, if that was cleaned meanwhile. The client asks for
    /// it again; `None` if there is nothing else.
    fn without_stale_rest(&self, (at, cleaned): (TopicPartition, u64), mut read: Reading) -> Option<Reading> {
        let is_stale = read.rest.is_some() && self.shared.cleanings.have_changed(at, cleaned);
        if is_stale {
            read.rest = None;
        }
        (!is_stale || !read.batches.is_empty()).then_some(read)
    }

    /// The outcome of a read, whose rest ends before what is known to be damaged.
    fn found(
        &self,
        (at, cleaned): (TopicPartition, u64),
        view: &View,
        read: Reading,
    ) -> Result<Found, StoreError> {
        let damaged = |rest: &Span| self.shared.damage.damaged_in(at, rest.base..rest.next);
        let rest = match (read.rest, read.rest.as_ref().and_then(damaged)) {
            (Some(rest), Some(from)) => {
                let before = self.before(view, rest, from)?;
                if before.is_none() && read.batches.is_empty() {
                    return Err(StoreError(format!("the batch at offset {from} could not be read")));
                }
                before
            }
            (rest, _) => rest,
        };
        let rest = rest.map(|rest| (Place::of(at, view.number, &rest, cleaned), rest));
        Ok(Found { outcome: outcome_of(&view.document, read.batches, None), rest })
    }

    /// The batches of a rest that end before an offset.
    fn before(&self, view: &View, rest: Span, until: i64) -> Result<Option<Span>, StoreError> {
        let mut before: Option<Span> = None;
        let searched = view.search(&self.connection, rest.base, &mut |span| {
            if span.next > until {
                return Step::Into;
            }
            before = Some(before.map_or(*span, |before| before.and(*span)));
            Step::Over
        });
        searched.map_err(|error| failed("reading", &error))?;
        Ok(before)
    }

    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Document>>, StoreError> {
        let unfolded = self.shared.unfolded.read();
        let mut clean = self.shared.clean.lock();
        let version = clean.version;
        let known: Vec<_> = keys.iter().map(|key| known_document(&unfolded, &mut clean, key)).collect();
        drop(clean);
        let _snapshot = Snapshot::begin(&self.connection)?;
        drop(unfolded);
        let mut found = Vec::with_capacity(keys.len());
        for (key, known) in keys.iter().zip(known) {
            found.push(match known {
                Some(document) => document,
                None => self.load(key, Some(version))?,
            });
        }
        Ok(found)
    }

    /// A document in the file. It is kept in the cache if the file still has this version.
    fn load(&self, key: &Key, version: Option<u64>) -> Result<Option<Document>, StoreError> {
        let loaded = document(&self.connection, key);
        let (document, bytes) = loaded.inspect_err(|failure| self.note(key, failure))?;
        let mut clean = self.shared.clean.lock();
        if Some(clean.version) == version {
            clean.put_document(key.clone(), document.clone(), bytes);
        }
        Ok(document)
    }

    /// Notes a document that is damaged.
    fn note(&self, key: &Key, failure: &StoreError) {
        if is_about_damage(failure) {
            let partition = PartitionDocument::parse_key(key).map(Part::Partition);
            self.shared.damage.note(&partition.unwrap_or_else(|| Part::Document(key.clone())), failure);
        }
    }

    /// Looks at a partition's document and log of the same moment; `None` if it does not exist.
    pub(super) fn with_log<T>(
        &self,
        at: TopicPartition,
        look: impl FnOnce(&PartitionDocument, &Log) -> T,
    ) -> Result<Option<T>, StoreError> {
        let unfolded = self.shared.unfolded.read();
        let mut clean = self.shared.clean.lock();
        let document = known_partition(&unfolded, &mut clean, at);
        let cached = clean.log(at);
        drop(clean);
        let log = match unfolded.logs.get(&at) {
            Some(log) => Some(log.as_ref()),
            None => cached.as_ref().map(Option::as_deref),
        };
        if let (Some(document), Some(log)) = (document, log) {
            return Ok(document.zip(log).map(|(document, log)| look(&document, log)));
        }
        drop(unfolded);
        let (found, _snapshot) = self.snapshot(at, Keep::Cached)?;
        Ok(found.map(|(document, log)| look(&document, &log)))
    }

    /// A partition's document and log, and the state of the file of the same moment.
    pub(super) fn snapshot(
        &self,
        at: TopicPartition,
        keep: Keep,
    ) -> Result<(Option<OfMoment>, Snapshot<'_>), StoreError> {
        loop {
            let cleaned = self.shared.cleanings.count(at);
            let (found, snapshot) = self.snapshot_of(at, keep)?;
            // The file may have what memory did not have yet.
            if !self.shared.cleanings.have_changed(at, cleaned) {
                return Ok((found, snapshot));
            }
        }
    }

    fn snapshot_of(
        &self,
        at: TopicPartition,
        keep: Keep,
    ) -> Result<(Option<OfMoment>, Snapshot<'_>), StoreError> {
        let key = PartitionDocument::key(&at);
        let unfolded = self.shared.unfolded.read();
        let mut clean = self.shared.clean.lock();
        let version = (keep == Keep::Cached).then_some(clean.version);
        let document = known_document(&unfolded, &mut clean, &key);
        let cached = clean.log(at);
        drop(clean);
        let log = unfolded.logs.get(&at).map(|log| log.clone().map(Arc::new)).or(cached);
        let snapshot = Snapshot::begin(&self.connection)?;
        drop(unfolded);
        let document = match document {
            Some(document) => document,
            None => self.load(&key, version)?,
        };
        let log = match log {
            Some(log) => log,
            None => self.load_log(at, version)?,
        };
        let document = document.as_ref().and_then(Document::get::<PartitionDocument>).copied();
        Ok((document.zip(log), snapshot))
    }

    fn load_log(&self, at: TopicPartition, version: Option<u64>) -> Result<Option<Arc<Log>>, StoreError> {
        let log = Log::load(&self.connection, at).map_err(|error| failed("reading a log", &error))?;
        let mut clean = self.shared.clean.lock();
        if Some(clean.version) == version {
            clean.put_log(at, log.clone());
        }
        Ok(log.map(Arc::new))
    }

    fn sizes(&self, partitions: &[TopicPartition]) -> Result<Vec<u64>, StoreError> {
        let size = |at: &TopicPartition| match self.with_log(*at, |_, log| log.bytes) {
            Err(failure) if is_about_damage(&failure) => {
                self.shared.damage.not_read(*at, &failure);
                Ok(0)
            }
            size => size.map(|size| size.unwrap_or(0)),
        };
        partitions.iter().map(size).collect()
    }
}

/// A read transaction, whose reads all see the same state of the file. It ends when it is dropped.
pub(super) struct Snapshot<'a>(&'a Connection);

impl<'a> Snapshot<'a> {
    /// Begins it now: to be called while what belongs to it is locked.
    pub(super) fn begin(connection: &'a Connection) -> Result<Self, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading", &error);
        connection.execute_batch("BEGIN").map_err(reading)?;
        let snapshot = Self(connection);
        // A transaction sees the state of its first read.
        let first = "SELECT value FROM counters WHERE name = 'folded_seq'";
        let mut first = connection.prepare_cached(first).map_err(reading)?;
        first.query_row([], |_| Ok(())).map_err(reading)?;
        Ok(snapshot)
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        // A page that the disk could not read has ended it.
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("COMMIT")
            // Whoever met damage names it.
            && !is_damage(&error)
        {
            warn!("a read of the store did not end: {error}");
        }
    }
}

/// A connection for tools that read a store, which a broker may have open.
pub(super) fn outside(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError(format!("there is no file {}", path.display())));
    }
    refuse_foreign(path)?;
    open::reader(path)
}
