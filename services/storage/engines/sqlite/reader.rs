//! Reader threads, so that a slow disk does not block other work.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use bytes::Bytes;
use parking_lot::Mutex;
use rules::documents::{Document, Key, PartitionDocument, Prefix, read};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::schema::{failed, pack, rows_of};
use super::writer::AnswerTo;
use super::{Shared, open};
use crate::engines::resident::empty;
use crate::engines::{Pending, ReadFrom, ReadOutcome, ReadSpec, StoreError};

/// Two keep the disk busy; more only cost memory.
const READERS: usize = 2;

enum Job {
    Read { specs: Vec<ReadSpec>, bytes_max: usize, answer: AnswerTo<Vec<ReadOutcome>> },
    Scan { prefix: Prefix, after: Option<Key>, limit: usize, answer: AnswerTo<Vec<(Key, Document)>> },
}

/// The reader threads, started at the first read.
pub(super) struct Readers {
    path: PathBuf,
    shared: Arc<Shared>,
    jobs: Mutex<Option<Sender<Job>>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, shared: Arc<Shared>) -> Self {
        Self { path, shared, jobs: Mutex::new(None) }
    }

    pub(super) fn read(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> Pending<Vec<ReadOutcome>> {
        self.ask(|answer| Job::Read { specs, bytes_max, answer })
    }

    pub(super) fn scan(
        &self,
        prefix: Prefix,
        after: Option<Key>,
        limit: usize,
    ) -> Pending<Vec<(Key, Document)>> {
        self.ask(|answer| Job::Scan { prefix, after, limit, answer })
    }

    fn ask<T: Send + 'static>(&self, job: impl FnOnce(AnswerTo<T>) -> Job) -> Pending<T> {
        let (answer, answered) = oneshot::channel();
        let sent = self.send(job(answer));
        Box::pin(async move {
            sent?;
            answered.await.unwrap_or_else(|_| Err(StoreError("the store is closed".to_owned())))
        })
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        let mut jobs = self.jobs.lock();
        let sender = match &*jobs {
            Some(sender) => sender.clone(),
            None => jobs.insert(self.start()?).clone(),
        };
        sender.send(job).map_err(|_| StoreError("the store's readers have stopped".to_owned()))
    }

    fn start(&self) -> Result<Sender<Job>, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..READERS {
            let mut reader =
                Reader { connection: open::reader(&self.path)?, shared: Arc::clone(&self.shared) };
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new().name("sqlite-reader".to_owned());
            thread.spawn(move || reader.run(&receiver)).map_err(|error| {
                StoreError(format!("the store's reader thread could not be started: {error}"))
            })?;
        }
        Ok(sender)
    }
}

struct Reader {
    connection: Connection,
    shared: Arc<Shared>,
}

impl Reader {
    fn run(&mut self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            let job = jobs.lock().recv();
            let Ok(job) = job else { return };
            // Sending fails if the client has disconnected.
            match job {
                Job::Read { specs, bytes_max, answer } => {
                    let result = self.read_all(specs, bytes_max);
                    let _ = answer.send(result.map_err(|error| failed("reading", &error)));
                }
                Job::Scan { prefix, after, limit, answer } => {
                    let _ = answer.send(self.scan(&prefix, after.as_ref(), limit));
                }
            }
        }
    }

    fn read_all(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> rusqlite::Result<Vec<ReadOutcome>> {
        let mut budget = ReadBudget { left: bytes_max, is_first: true };
        specs.into_iter().map(|spec| self.read(spec, &mut budget)).collect()
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
