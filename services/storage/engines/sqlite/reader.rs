//! Reads from the file: jobs, and the threads' work. The threads are in [`super::lane`].

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kernel::TopicPartition;
use rules::documents::{Document, Key, PartitionDocument, Prefix, read};
use rusqlite::{Connection, params};
use tracing::warn;

use super::lane::{Lane, Work};
use super::schema::{failed, pack, rows_of};
use super::writer::AnswerTo;
use super::{Shared, open};
use crate::engines::resident::empty;
use crate::engines::{Pending, ReadFrom, ReadOutcome, ReadSpec, StoreError};

/// How long a partition that cannot be read is not logged again, and how many are remembered for it.
const LOG_PAUSE: Duration = Duration::from_secs(60);
const UNREADABLE_MAX: usize = 1_000;

pub(super) enum Job {
    Read { specs: Vec<ReadSpec>, bytes_max: usize, answer: AnswerTo<Vec<ReadOutcome>> },
    Scan { prefix: Prefix, after: Option<Key>, limit: usize, answer: AnswerTo<Vec<(Key, Document)>> },
}

/// Threads for reads from offsets, which are short, and others for look-ups, which may be long: a search by time
/// must not delay consumers.
pub(super) struct Readers {
    reads: Arc<Lane<Reader>>,
    look_ups: Arc<Lane<Reader>>,
}

impl Readers {
    pub(super) fn new(path: &Path, shared: &Arc<Shared>) -> Self {
        let lane = |name, threads| {
            let (path, shared) = (path.to_owned(), Arc::clone(shared));
            let reader = move || Ok(Reader { connection: open::reader(&path)?, shared: Arc::clone(&shared) });
            Arc::new(Lane::new(name, threads, reader))
        };
        // Two keep the disk busy; more only cost memory.
        Self { reads: lane("sqlite-reader", 2), look_ups: lane("sqlite-look-up", 1) }
    }

    pub(super) fn read(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> Pending<Vec<ReadOutcome>> {
        let by_offset = specs.iter().all(|spec| matches!(spec.from, ReadFrom::Offset(_)));
        let lane = if by_offset { &self.reads } else { &self.look_ups };
        lane.ask(move |answer| Job::Read { specs, bytes_max, answer })
    }

    pub(super) fn scan(
        &self,
        prefix: Prefix,
        after: Option<Key>,
        limit: usize,
    ) -> Pending<Vec<(Key, Document)>> {
        self.look_ups.ask(move |answer| Job::Scan { prefix, after, limit, answer })
    }
}

/// A thread's connection.
pub(super) struct Reader {
    connection: Connection,
    shared: Arc<Shared>,
}

impl Work for Reader {
    type Job = Job;

    fn run(&mut self, job: Job) {
        // Sending fails if the client has disconnected.
        match job {
            Job::Read { specs, bytes_max, answer } => {
                if let Some(outcomes) = self.read_all(specs, bytes_max, || answer.is_closed()) {
                    let _ = answer.send(Ok(outcomes));
                }
            }
            Job::Scan { prefix, after, limit, answer } if !answer.is_closed() => {
                let _ = answer.send(self.scan(&prefix, after.as_ref(), limit));
            }
            Job::Scan { .. } => {}
        }
    }
}

impl Reader {
    /// Reads partition by partition, as long as somebody waits for it. Each partition fails by itself.
    fn read_all(
        &self,
        specs: Vec<ReadSpec>,
        bytes_max: usize,
        is_unwanted: impl Fn() -> bool,
    ) -> Option<Vec<ReadOutcome>> {
        let mut budget = ReadBudget { left: bytes_max, is_first: true };
        let mut outcomes = Vec::with_capacity(specs.len());
        for spec in specs {
            if is_unwanted() {
                return None;
            }
            let outcome = self.read(spec, &mut budget).map_err(|error| failed("reading", &error));
            if let Err(failure) = &outcome {
                self.log_failure(spec.partition, failure);
            }
            outcomes.push(outcome.unwrap_or_else(ReadOutcome::Failed));
        }
        Some(outcomes)
    }

    /// Logs that a partition cannot be read, once a minute however many clients try.
    fn log_failure(&self, partition: TopicPartition, failure: &StoreError) {
        let mut logged = self.shared.unreadable.lock();
        let now = Instant::now();
        if logged.get(&partition).is_some_and(|last| now - *last < LOG_PAUSE) {
            return;
        }
        if logged.len() == UNREADABLE_MAX {
            logged.clear();
        }
        logged.insert(partition, now);
        warn!(?partition, "{failure}; readers of this part of the partition get KAFKA_STORAGE_ERROR");
    }

    fn scan(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Document)>, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading documents", &error);
        // Without `after`, the prefix itself sorts before all its keys.
        let sql = "SELECT key, value FROM documents WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3";
        let after = after.map_or(prefix.as_str(), Key::as_str);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql).map_err(reading)?;
        let mut rows = statement.query(params![after, prefix.end(), limit]).map_err(reading)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(reading)? {
            let (key, text): (String, String) =
                row.get(0).and_then(|key| Ok((key, row.get(1)?))).map_err(reading)?;
            let key = Key::from_text(&key);
            let document = read(&key, &text).map_err(|error| {
                StoreError(format!("the document {key} in the store is damaged: {error}; restore a backup"))
            })?;
            found.push((key, document));
        }
        Ok(found)
    }

    /// A partition's document and number.
    fn log(&self, spec: &ReadSpec) -> Option<LogView> {
        let table = self.shared.table.read();
        let document = *table.partition(spec.partition)?;
        Some(LogView { number: self.shared.logs.read().get(spec.partition)?.number, document })
    }

    fn read(&self, spec: ReadSpec, budget: &mut ReadBudget) -> rusqlite::Result<ReadOutcome> {
        // The document is read first: a batch stored later is after its end and is left out, so that the
        // answer is a consistent state of the log.
        let Some(log) = self.log(&spec) else { return Ok(ReadOutcome::UnknownPartition) };
        let start = match spec.from {
            ReadFrom::Offset(offset) if offset < log.document.log_start || offset > log.document.end => {
                let (log_start, high_watermark) = (log.document.log_start, log.document.end);
                return Ok(ReadOutcome::OutOfRange { log_start, high_watermark });
            }
            ReadFrom::Offset(offset) => self.row_of_offset(&log, offset)?,
            ReadFrom::Timestamp(time) => self.row_of_time(&log, time)?,
            ReadFrom::MaxTimestamp => self.row_of_latest(&log)?,
        };
        let Some(start) = start else { return Ok(empty(&log.document)) };
        let batches = self.batches(&log, start, spec.bytes_max, budget)?;
        if batches.is_empty()
            && self.log(&spec).is_none_or(|now| now.document.log_start != log.document.log_start)
        {
            // Trimmed or deleted after the document was read.
            return self.read(spec, budget);
        }
        let PartitionDocument { log_start, end: high_watermark, .. } = log.document;
        Ok(ReadOutcome::Read { log_start, high_watermark, batches })
    }

    fn row_of_offset(&self, log: &LogView, offset: i64) -> rusqlite::Result<Option<i64>> {
        if offset == log.document.end {
            return Ok(None);
        }
        let sql = "SELECT max(id) FROM batches WHERE id BETWEEN ?1 AND ?2";
        let bounds = params![pack(log.number, 0), pack(log.number, offset)];
        self.connection.prepare_cached(sql)?.query_row(bounds, |row| row.get(0))
    }

    fn row_of_time(&self, log: &LogView, time: i64) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT id FROM batches WHERE id BETWEEN ?1 AND ?2
             AND next_offset > ?3 AND max_timestamp >= ?4 ORDER BY id LIMIT 1";
        let (first, last) = rows_of(log.number);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, log.document.log_start, time])?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }

    fn row_of_latest(&self, log: &LogView) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT id FROM batches WHERE id BETWEEN ?1 AND ?2
             AND next_offset > ?3 ORDER BY max_timestamp DESC, id LIMIT 1";
        let (first, last) = rows_of(log.number);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, log.document.log_start])?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }

    fn batches(
        &self,
        log: &LogView,
        start: i64,
        bytes_max: usize,
        budget: &mut ReadBudget,
    ) -> rusqlite::Result<Vec<Bytes>> {
        let sql = "SELECT data FROM batches WHERE id >= ?1 AND id < ?2 AND next_offset > ?3 ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows =
            statement.query(params![start, pack(log.number, log.document.end), log.document.log_start])?;
        let mut left = bytes_max.min(budget.left);
        let mut batches = Vec::new();
        while let Some(row) = rows.next()? {
            let data = row.get_ref(0)?.as_blob()?;
            if data.len() > left && !budget.is_first {
                break;
            }
            budget.is_first = false;
            left = left.saturating_sub(data.len());
            budget.left = budget.left.saturating_sub(data.len());
            batches.push(Bytes::copy_from_slice(data));
            if left == 0 {
                break;
            }
        }
        Ok(batches)
    }
}

/// A partition's log at the time of a read.
struct LogView {
    number: u32,
    document: PartitionDocument,
}

/// Remaining bytes of one request; its first batch is returned whatever its size (KIP-74).
struct ReadBudget {
    left: usize,
    is_first: bool,
}

/// A connection for tools that read a store, which a broker may have open.
pub(super) fn outside(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError(format!("there is no file {}", path.display())));
    }
    open::reader(path)
}
