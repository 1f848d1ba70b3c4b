//! The SQLite engine: one file, one writer thread, a few readers.
//!
//! - Commands queue up for the writer, which drains its queue into one transaction: many small commands share one
//!   fsync ([`writer`]). `synchronous=FULL`, so a commit that returned is on the disk.
//! - Batches are stored as they came, one row each; offset and leader epoch are patched in, which their CRC does not
//!   cover. Reads run on threads of their own ([`reader`]), because SQLite blocks.
//! - Topics and partitions are held in memory as well ([`super::table`]), so that a fetch at the end of a log, and
//!   every look-up, touches no disk. This process is the only one that may write the file ([`open`] locks it).

mod backup;
mod open;
mod reader;
mod schema;
mod verify;
mod writer;

use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use kernel::metrics::Page;
use tokio::sync::oneshot;

pub use backup::{BackupReport, backup};
pub use verify::{VerifyReport, verify};

use super::stats::CommitStats;
use super::table::Table;
use super::{
    Engine, From, Load, Maintained, Pending, ReadOutcome, ReadSpec, StoreError, Subject, Upkeep, Watch,
    Watchers,
};
use crate::rules::{Command, Document, Key, Outcome};
use reader::Readers;
use writer::{Job, Writer};

/// What the threads of this engine share.
struct Shared {
    table: RwLock<Table>,
    watchers: Watchers,
    stats: CommitStats,
}

/// A store in one SQLite file.
pub struct Sqlite {
    shared: Arc<Shared>,
    jobs: Mutex<mpsc::Sender<Job>>,
    readers: Readers,
}

impl Sqlite {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy: another process has it, it is not Yagura's, it was written by a
    /// newer release, it is damaged, or the folder cannot be written.
    pub fn open(path: &Path, commit_bytes_max: usize) -> Result<Self, StoreError> {
        let opened = open::open(path)?;
        let shared = Arc::new(Shared {
            table: RwLock::new(opened.table),
            watchers: Watchers::default(),
            stats: CommitStats::new(),
        });
        let (jobs, queue) = mpsc::channel();
        let writer = Writer::new(opened.connection, opened.lock, Arc::clone(&shared), commit_bytes_max);
        let spawned = std::thread::Builder::new().name("sqlite-writer".to_owned());
        spawned.spawn(move || writer.run(&queue)).map_err(|error| {
            StoreError(format!("the store's writer thread could not be started: {error}"))
        })?;
        let readers = Readers::new(path.to_owned(), Arc::clone(&shared));
        Ok(Self { shared, jobs: Mutex::new(jobs), readers })
    }

    fn send<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Pending<T> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = jobs.send(job(answer));
        let gone = || StoreError("the store is closed".to_owned());
        Box::pin(async move {
            sent.map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

impl Engine for Sqlite {
    fn commit(&self, commands: Vec<Command>) -> Pending<Vec<Outcome>> {
        self.send(|answer| Job::Commit { commands, answer })
    }

    fn read(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> Pending<Vec<ReadOutcome>> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        let without_log = |spec: &ReadSpec| match spec.from {
            From::Offset(offset) => table.outcome_without_log(spec.partition, offset),
            _ => None,
        };
        let known: Vec<_> = specs.iter().map(without_log).collect();
        drop(table);
        if let Some(all) = known.iter().cloned().collect::<Option<Vec<_>>>() {
            return Box::pin(std::future::ready(Ok(all)));
        }
        self.readers.read(specs, bytes_max)
    }

    fn load(&self, load: Load) -> Pending<Vec<(Key, Document)>> {
        if let Load::Producers(partition) = load {
            // Not all of them are in memory.
            return self.readers.producers(partition);
        }
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        Box::pin(std::future::ready(Ok(table.load(&load))))
    }

    fn watch(&self, subjects: &[Subject]) -> Watch {
        self.shared.watchers.watch(subjects)
    }

    fn maintain(&self, upkeep: Upkeep) -> Pending<Maintained> {
        let retained = self.send(|answer| Job::Retain { upkeep, answer });
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            let mut maintained = retained.await?;
            // Garbage goes in small steps, so that commits get in between.
            loop {
                let (answer, answered) = oneshot::channel();
                let closed = || StoreError("the store is closed".to_owned());
                jobs.send(Job::Purge { answer }).map_err(|_| closed())?;
                match answered.await.map_err(|_| closed())?? {
                    Some(bytes) => maintained.bytes_freed += bytes,
                    None => return Ok(maintained),
                }
            }
        })
    }

    fn collect(&self, page: &mut Page) {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        self.shared.stats.collect(page, &table);
    }

    fn close(&self) -> Pending<()> {
        self.send(|answer| Job::Close { answer })
    }
}
