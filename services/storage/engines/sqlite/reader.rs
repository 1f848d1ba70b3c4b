//! Threads that read, so that a slow disk holds up nobody else.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kernel::TopicPartition;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::Shared;
use super::open;
use super::schema::{failed, pack, producer_keys, rows_of};
use crate::engines::table::empty;
use crate::engines::{From, Pending, ReadOutcome, ReadSpec, StoreError};
use crate::rules::{Document, Key, PartitionDocument};

/// Two keep a machine's disk busy while one waits for it; more only cost memory.
const READERS: usize = 2;

enum Job {
    Read { specs: Vec<ReadSpec>, bytes_max: usize, answer: Answer<Vec<ReadOutcome>> },
    Producers { partition: TopicPartition, answer: Answer<Vec<(Key, Document)>> },
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// The reading threads, started at the first read.
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

    pub(super) fn producers(&self, partition: TopicPartition) -> Pending<Vec<(Key, Document)>> {
        self.ask(|answer| Job::Producers { partition, answer })
    }

    fn ask<T: Send + 'static>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Pending<T> {
        let (answer, answered) = oneshot::channel();
        let sent = self.send(job(answer));
        Box::pin(async move {
            sent?;
            answered.await.unwrap_or_else(|_| Err(StoreError("the store is closed".to_owned())))
        })
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
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
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            // A client that has hung up no longer waits.
            match job {
                Job::Read { specs, bytes_max, answer } => {
                    let result = self.read_all(specs, bytes_max);
                    let _ = answer.send(result.map_err(|error| failed("reading", &error)));
                }
                Job::Producers { partition, answer } => drop(answer.send(self.producers(partition))),
            }
        }
    }

    fn read_all(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> rusqlite::Result<Vec<ReadOutcome>> {
        let mut budget = ReadBudget { left: bytes_max, is_first: true };
        specs.into_iter().map(|spec| self.read(spec, &mut budget)).collect()
    }

    fn producers(&self, partition: TopicPartition) -> Result<Vec<(Key, Document)>, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading producers", &error);
        let sql = "SELECT key, value FROM documents WHERE key >= ?1 AND key < ?2";
        let mut statement = self.connection.prepare_cached(sql).map_err(reading)?;
        let mut rows = statement.query(producer_keys(partition)).map_err(reading)?;
        let mut producers = Vec::new();
        while let Some(row) = rows.next().map_err(reading)? {
            let (text, json): (String, String) =
                row.get(0).and_then(|key| Ok((key, row.get(1)?))).map_err(reading)?;
            let damaged =
                || StoreError(format!("the document {text:?} in the store is damaged; restore a backup"));
            let key = Key::parse(&text).ok_or_else(damaged)?;
            let document = key.read(&json).map_err(|_| damaged())?;
            producers.push((key, document));
        }
        // As keys compare, and not as their texts do.
        producers.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(producers)
    }

    fn partition(&self, spec: &ReadSpec) -> Option<PartitionDocument> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        table.partition(spec.partition).copied()
    }

    fn read(&self, spec: ReadSpec, budget: &mut ReadBudget) -> rusqlite::Result<ReadOutcome> {
        // The document is read first: a batch stored since then lies past its end, and is left out, so that the
        // answer is one that the log really had.
        let Some(log) = self.partition(&spec) else { return Ok(ReadOutcome::UnknownPartition) };
        let start = match spec.from {
            From::Offset(offset) if offset < log.log_start || offset > log.end => {
                let (log_start, high_watermark) = (log.log_start, log.end);
                return Ok(ReadOutcome::OutOfRange { log_start, high_watermark });
            }
            From::Offset(offset) => self.row_of_offset(&log, offset)?,
            From::Timestamp(time) => self.row_of_time(&log, time)?,
            From::MaxTimestamp => self.row_of_latest(&log)?,
        };
        let Some(start) = start else { return Ok(empty(&log)) };
        let batches = self.batches(&log, start, spec.bytes_max, budget)?;
        if batches.is_empty() && self.partition(&spec).is_none_or(|now| now.log_start != log.log_start) {
            // Trimmed or deleted between the look at the document and the read.
            return self.read(spec, budget);
        }
        Ok(ReadOutcome::Read { log_start: log.log_start, high_watermark: log.end, batches })
    }

    fn row_of_offset(&self, log: &PartitionDocument, offset: i64) -> rusqlite::Result<Option<i64>> {
        if offset == log.end {
            return Ok(None);
        }
        let sql = "SELECT max(id) FROM batches WHERE id BETWEEN ?1 AND ?2";
        let bounds = params![pack(log.number, 0), pack(log.number, offset)];
        self.connection.prepare_cached(sql)?.query_row(bounds, |row| row.get(0))
    }

    fn row_of_time(&self, log: &PartitionDocument, time: i64) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT id FROM batches WHERE id BETWEEN ?1 AND ?2
             AND next_offset > ?3 AND max_timestamp >= ?4 ORDER BY id LIMIT 1";
        let (first, last) = rows_of(log.number);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, log.log_start, time])?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }

    fn row_of_latest(&self, log: &PartitionDocument) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT id FROM batches WHERE id BETWEEN ?1 AND ?2
             AND next_offset > ?3 ORDER BY max_timestamp DESC, id LIMIT 1";
        let (first, last) = rows_of(log.number);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, log.log_start])?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }

    fn batches(
        &self,
        log: &PartitionDocument,
        start: i64,
        bytes_max: usize,
        budget: &mut ReadBudget,
    ) -> rusqlite::Result<Vec<Bytes>> {
        let sql = "SELECT data FROM batches WHERE id >= ?1 AND id < ?2 AND next_offset > ?3 ORDER BY id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![start, pack(log.number, log.end), log.log_start])?;
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

/// What one request may still be given; its first batch comes whatever its size (KIP-74).
struct ReadBudget {
    left: usize,
    is_first: bool,
}

/// A connection for tools that look at a store from outside, while a broker may have it open.
pub(super) fn outside(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError(format!("there is no file {}", path.display())));
    }
    open::reader(path)
}
