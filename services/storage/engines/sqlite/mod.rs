//! The SQLite engine: one file, one writer thread, a few readers.
//!
//! - The writer drains its queue into one transaction: many small commands share one fsync ([`writer`]).
//!   `synchronous=FULL`, so a commit that returned is on disk.
//! - Batches are stored as received, one row each; only base offset and leader epoch are set, which the CRC
//!   does not cover. Reads run on separate threads ([`reader`]), because SQLite blocks.
//! - Topics and partitions are held in memory as well ([`super::resident`]), so that a fetch at the end of a
//!   log and every lookup need no disk access. Only this process may write the file ([`open`] locks it).

mod backup;
mod commit;
mod garbage;
mod lane;
mod logs;
mod open;
mod reader;
mod schema;
mod verify;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use kernel::TopicPartition;
use kernel::metrics::Page;
use parking_lot::{Mutex, RwLock};
use rules::commands::{Command, Outcome};
use rules::documents::{Document, Key, Prefix};
use tokio::sync::oneshot;

pub use backup::{BackupReport, backup};
pub use verify::{VerifyReport, verify};

use super::resident::{CommitStats, Gauges, Table};
use super::{
    Engine, EngineKind, Holds, Maintained, Pending, ReadFrom, ReadOutcome, ReadSpec, StoreError, Subject,
    Watch, Watchers,
};
use logs::Logs;
use reader::Readers;
use writer::{Job, Writer};

/// `sqlite://FILE`
pub(super) static KIND: EngineKind = EngineKind {
    scheme: "sqlite",
    form: "\"sqlite://FILE\" (such as sqlite://yagura.db or sqlite:///var/lib/yagura.db)",
    is_exclusive: true,
    accepts: |file| !file.is_empty(),
    open: |file, settings| Ok(Arc::new(Sqlite::open(Path::new(file), settings.commit_bytes_max.as_usize())?)),
};

/// State shared by the threads of this engine.
struct Shared {
    table: RwLock<Table>,
    logs: RwLock<Logs>,
    watchers: Watchers,
    stats: CommitStats,
    /// When it was last logged that a partition cannot be read.
    unreadable: Mutex<HashMap<TopicPartition, Instant>>,
}

/// A store in one SQLite file.
pub struct Sqlite {
    shared: Arc<Shared>,
    jobs: Mutex<mpsc::Sender<Job>>,
    readers: Readers,
}

impl Sqlite {
    /// Opens a file, or creates it.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy: another process has it open, it is not a Yagura store, it is
    /// from a newer release, it is damaged, or the folder cannot be written.
    pub fn open(path: &Path, commit_bytes_max: usize) -> Result<Self, StoreError> {
        let opened = open::open(path)?;
        let shared = Arc::new(Shared {
            table: RwLock::new(opened.table),
            logs: RwLock::new(opened.logs),
            watchers: Watchers::default(),
            stats: CommitStats::new(),
            unreadable: Mutex::default(),
        });
        let (jobs, queue) = mpsc::channel();
        let writer = Writer::new(opened.connection, opened.lock, Arc::clone(&shared), commit_bytes_max);
        let spawned = std::thread::Builder::new().name("sqlite-writer".to_owned());
        spawned.spawn(move || writer.run(&queue)).map_err(|error| {
            StoreError(format!("the store's writer thread could not be started: {error}"))
        })?;
        let readers = Readers::new(path, &shared);
        Ok(Self { shared, jobs: Mutex::new(jobs), readers })
    }

    fn send<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Pending<T> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.lock().send(job(answer));
        let gone = || StoreError("the store is closed".to_owned());
        Box::pin(async move {
            sent.map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

impl Engine for Sqlite {
    fn commit(&self, commands: Vec<Command>, holds: Holds) -> Pending<Vec<Outcome>> {
        self.send(|answer| Job::Commit { commands, holds, answer })
    }

    fn read(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> Pending<Vec<ReadOutcome>> {
        let table = self.shared.table.read();
        let without_log = |spec: &ReadSpec| match spec.from {
            ReadFrom::Offset(offset) => table.outcome_without_log(spec.partition, offset),
            _ => None,
        };
        let known: Vec<_> = specs.iter().map(without_log).collect();
        drop(table);
        if let Some(all) = known.iter().cloned().collect::<Option<Vec<_>>>() {
            return ready(all);
        }
        self.readers.read(specs, bytes_max)
    }

    fn get(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>> {
        ready(self.shared.table.read().load(&keys))
    }

    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>> {
        let table = self.shared.table.read();
        if table.is_partial(&prefix) {
            // Some are only in the file.
            return self.readers.scan(prefix, after, limit);
        }
        ready(table.scan(&prefix, after.as_ref(), limit))
    }

    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>> {
        let logs = self.shared.logs.read();
        ready(partitions.into_iter().map(|at| logs.get(at).map_or(0, |log| log.bytes)).collect())
    }

    fn watch(&self, subjects: &[Subject]) -> Watch {
        self.shared.watchers.watch(subjects)
    }

    fn topics_version(&self) -> u64 {
        self.shared.watchers.topics_version()
    }

    fn maintain(&self, now_ms: i64) -> Pending<Maintained> {
        let retained = self.send(|answer| Job::Retain { now_ms, answer });
        let jobs = self.jobs.lock().clone();
        Box::pin(async move {
            let mut maintained = retained.await?;
            // Garbage is deleted in small steps with pauses as long as the steps: commits have half of the time.
            loop {
                let started = Instant::now();
                let (answer, answered) = oneshot::channel();
                let closed = || StoreError("the store is closed".to_owned());
                jobs.send(Job::Purge { answer }).map_err(|_| closed())?;
                match answered.await.map_err(|_| closed())?? {
                    Some(bytes) => {
                        maintained.bytes_freed += bytes;
                        tokio::time::sleep(started.elapsed()).await;
                    }
                    None => return Ok(maintained),
                }
            }
        })
    }

    fn collect(&self, page: &mut Page) {
        let (table, logs) = (self.shared.table.read(), self.shared.logs.read());
        let gauges = Gauges::of(&table, |at| logs.get(at).map_or(0, |log| log.bytes));
        drop((table, logs));
        self.shared.stats.collect(page);
        gauges.write(page);
    }

    fn close(&self) -> Pending<()> {
        self.send(|answer| Job::Close { answer })
    }
}

/// The result of an operation that does not wait.
fn ready<T: Send + 'static>(value: T) -> Pending<T> {
    Box::pin(std::future::ready(Ok(value)))
}
