//! The SQLite engine: one file, one writer thread, a few readers.
//!
//! - The writer drains its queue into one transaction: many small commands share one fsync ([`writer`]).
//!   `synchronous=FULL`, so a commit that returned is on disk.
//! - A commit writes one row of a journal, and a row for each large batch ([`commit`]). The journal is folded into tables
//!   that are ordered by key from time to time ([`fold`]); until then its changes are in memory ([`state`]).
//! - Batches are stored as received; only base offset and leader epoch are set, which the CRC does not cover. An index
//!   over them answers searches by time and by size ([`index`]).
//! - Reads run on separate threads ([`reader`]), because SQLite blocks, unless all that is wanted is in memory: what is
//!   not folded yet, and a bounded cache. Opening reads nothing but the journal. Only this process may write the file:
//!   it is locked ([`lock`]), and each transaction looks whether it is still this process's ([`owner`]).

mod apart;
mod around;
mod backup;
mod base;
mod batches;
mod cache;
mod clean;
mod cleanings;
mod commit;
mod damage;
#[cfg(test)]
mod damage_tests;
mod fold;
mod foreign;
mod garbage;
mod gauges;
mod index;
mod journal;
mod lane;
mod lock;
mod logs;
mod look_up;
mod maintain;
mod migrate;
mod open;
mod owner;
#[cfg(test)]
mod owner_tests;
mod pack;
mod parked;
mod pieces;
mod reader;
mod real_path;
mod replay;
mod reserve;
mod room;
mod salvage;
mod salvage_log;
mod salvage_source;
mod salvage_transactions;
mod scan;
mod schema;
mod state;
#[cfg(test)]
mod tests;
mod texts;
mod turns;
mod verify;
mod verify_log;
mod verify_numbers;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use kernel::TopicPartition;
use kernel::metrics::Page;
use kernel::panics::caught;
use kernel::ports::BoxFuture;
use parking_lot::{Mutex, RwLock};
use rules::commands::{Command, Outcome};
use rules::documents::{Document, Key, Prefix};
use tokio::sync::watch;

pub use backup::{BackupReport, backup};
pub use salvage::{SalvageReport, salvage};
pub use verify::verify;

use super::gauges::gather;
use super::health::Health;
use super::resident::{CommitStats, Gauges, ReadBudget, outcome_without_log};
use super::room::{RoomStatus, WhyFull};
use super::{
    DirtyLook, Engine, EngineKind, Holds, Pending, ReadFrom, ReadLimits, ReadOutcome, ReadSpec,
    RetentionLimits, RetentionOutcome, StoreError, Subject, UrlFault, Watch, Watchers, open_blocking,
};
use crate::settings::Settings;
use batches::read_memory;
use cleanings::Cleanings;
use commit::Committer;
use damage::{Damage, Part};
use lock::StoreLock;
use maintain::Maintenance;
use reader::Readers;
use room::StoreRoom;
use state::{Clean, Unfolded, known_document, known_partition};
use turns::Commit;
use writer::{AnswerTo, Job, Writer};

/// Reads a row of the journal; see [`crate::fuzzing`].
#[cfg(feature = "fuzzing")]
pub(crate) fn journal_changes(changes: &[u8], batches: &bytes::Bytes) -> Option<usize> {
    let mut count = 0;
    let read = journal::read(changes, batches, |_| {
        count += 1;
        Ok(())
    });
    read.is_ok().then_some(count)
}

/// `sqlite://FILE`
pub(super) static KIND: EngineKind = EngineKind {
    schemes: &["sqlite"],
    form: "\"sqlite://FILE\" (such as sqlite://yagura.db or sqlite:///var/lib/yagura.db)",
    holds: |file| Some(lock::identity(Path::new(file))),
    check: |file| if file.is_empty() { Err(UrlFault::Form) } else { Ok(()) },
    open: |file, settings| {
        let (path, settings) = (PathBuf::from(file), settings.clone());
        open_blocking(move || Sqlite::open(&path, &settings))
    },
    beside: None,
    existing: Some(|file| {
        let path = PathBuf::from(file);
        open_blocking(move || {
            if !path.exists() {
                return Err(StoreError(format!("{} does not exist", path.display())));
            }
            Sqlite::open(&path, &Settings::at(format!("sqlite://{}", path.display())))
        })
    }),
    verify: Some(|file, progress| {
        Box::pin(async move { verify(Path::new(file), progress).map_err(StoreError) })
    }),
};

/// State shared by the threads of this engine.
struct Shared {
    /// To be locked before `clean`.
    unfolded: RwLock<Unfolded>,
    clean: Mutex<Clean>,
    watchers: Watchers,
    stats: CommitStats,
    damage: Damage,
    cleanings: Cleanings,
    health: Health,
    /// Memory that documents may take that are not folded yet.
    unfolded_memory_max: usize,
    /// How long the bytes of deleted records are kept.
    delete_delay: Duration,
    room: RoomStatus,
    /// Whether bytes of deleted records were ever freed before that, because there was no room.
    is_purged_early: AtomicBool,
    /// Every connection is closed before this is dropped: each thread that has one holds this, too.
    lock: StoreLock,
}

/// What unfolded documents may take at least, however small the cache is.
const UNFOLDED_MEMORY_MIN: usize = if cfg!(test) { 16 << 10 } else { 1 << 20 };

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
    pub fn open(path: &Path, settings: &Settings) -> Result<Self, StoreError> {
        let opened = open::open(path)?;
        let shared = Arc::new(Shared {
            unfolded: RwLock::new(opened.unfolded),
            clean: Mutex::new(Clean::new(settings.cache_memory.as_usize())),
            watchers: Watchers::default(),
            stats: CommitStats::new(),
            damage: Damage::default(),
            cleanings: Cleanings::default(),
            health: Health::default(),
            unfolded_memory_max: 2 * settings.cache_memory.as_usize().max(UNFOLDED_MEMORY_MIN),
            delete_delay: settings.delete_delay.0,
            lock: opened.lock,
            room: RoomStatus::new(settings.store_bytes_max),
            is_purged_early: AtomicBool::new(false),
        });
        let room = StoreRoom::new(path, settings.disk_reserve, shared.room.bytes_max());
        opened.unreadable.iter().for_each(|(at, failure)| shared.damage.note(&Part::Partition(*at), failure));
        let (jobs, queue) = mpsc::channel();
        let committer = Committer::new(
            opened.connection,
            Arc::clone(&shared),
            opened.numbers,
            opened.fold,
            opened.owner,
            room,
        );
        let writer = Writer::new(committer, settings.commit_bytes_max.as_usize());
        let watched = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("sqlite-writer".to_owned());
        let run = move || {
            if let Err(panic) = caught(|| writer.run(&queue)) {
                watched.health.fail(StoreError(format!(
                    "the store's writer thread panicked: {panic}; this is a bug in Yagura, please report it"
                )));
            }
        };
        spawned.spawn(run).map_err(|error| {
            StoreError(format!("the store's writer thread could not be started: {error}"))
        })?;
        let readers = Readers::new(path, &shared);
        Ok(Self { shared, jobs: Mutex::new(jobs), readers })
    }

    /// Reads what is in memory; `None` if the file is needed for any of it.
    fn read_memory(&self, specs: &[ReadSpec], limits: ReadLimits) -> Option<Vec<ReadOutcome>> {
        let unfolded = self.shared.unfolded.read();
        let mut budget = ReadBudget::new(limits);
        let mut read = |spec: &ReadSpec| {
            let ReadFrom::Offset(offset) = spec.from else { return None };
            let known = known_partition(&unfolded, &mut self.shared.clean.lock(), spec.partition)?;
            let Some(document) = known else { return Some(ReadOutcome::UnknownPartition) };
            outcome_without_log(&document, offset, spec.isolation).or_else(|| {
                let log = unfolded.logs.get(&spec.partition)?.as_ref()?;
                read_memory(&document, log, offset, spec, &mut budget)
            })
        };
        specs.iter().map(&mut read).collect()
    }

    fn send<T: Send + 'static>(&self, job: impl FnOnce(AnswerTo<T>) -> Job) -> Pending<T> {
        writer::ask(&self.jobs.lock(), job)
    }
}

impl Engine for Sqlite {
    fn commit(&self, commands: Vec<Command>, holds: Holds) -> Pending<Vec<Outcome>> {
        self.send(|answer| Job::Commit(Commit { commands, holds, answer }))
    }

    fn read(&self, specs: Vec<ReadSpec>, limits: ReadLimits) -> Pending<Vec<ReadOutcome>> {
        match self.read_memory(&specs, limits) {
            Some(outcomes) => ready(outcomes),
            None => self.readers.read(specs, limits),
        }
    }

    fn get(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>> {
        let unfolded = self.shared.unfolded.read();
        let mut clean = self.shared.clean.lock();
        let known = keys.iter().map(|key| known_document(&unfolded, &mut clean, key)).collect();
        drop((clean, unfolded));
        match known {
            Some(documents) => ready(documents),
            None => self.readers.get(keys),
        }
    }

    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>> {
        self.readers.scan(prefix, after, limit)
    }

    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>> {
        let unfolded = self.shared.unfolded.read();
        let mut clean = self.shared.clean.lock();
        let size = |at: &TopicPartition| match unfolded.logs.get(at) {
            Some(log) => Some(log.as_ref().map_or(0, |log| log.bytes)),
            None => Some(clean.log(*at)?.map_or(0, |log| log.bytes)),
        };
        let known = partitions.iter().map(size).collect();
        drop((clean, unfolded));
        match known {
            Some(sizes) => ready(sizes),
            None => self.readers.sizes(partitions),
        }
    }

    fn watch(&self, subjects: &[Subject]) -> Watch {
        self.shared.watchers.watch(subjects)
    }

    fn topics_version(&self) -> u64 {
        self.shared.watchers.topics_version()
    }

    fn retention(
        &self,
        partitions: Vec<(TopicPartition, RetentionLimits)>,
        now_ms: i64,
    ) -> Pending<Vec<RetentionOutcome>> {
        self.readers.retention(partitions, now_ms)
    }

    fn dirty(&self, partition: TopicPartition, young_after_ms: Option<i64>) -> Pending<Option<DirtyLook>> {
        self.readers.dirty(partition, young_after_ms)
    }

    fn maintain(&self, now_ms: i64) -> Pending<u64> {
        let jobs = self.jobs.lock().clone();
        let maintenance = Maintenance { jobs, now_ms, shared: Arc::clone(&self.shared) };
        Box::pin(maintenance.run())
    }

    fn collect(&self, page: &mut Page) {
        self.shared.stats.collect(page);
        self.shared.room.collect(page);
        self.shared.damage.collect(page);
    }

    fn damaged(&self) -> Option<String> {
        self.shared.damage.some().map(|part| part.to_string())
    }

    fn full(&self) -> watch::Receiver<WhyFull> {
        self.shared.room.full()
    }

    fn gauges(&self) -> Pending<Gauges> {
        Box::pin(gather(self.readers.clone()))
    }

    fn failed(&self) -> BoxFuture<'static, StoreError> {
        self.shared.health.failed()
    }

    fn close(&self) -> Pending<()> {
        self.send(|answer| Job::Close { answer })
    }
}

/// The result of an operation that does not wait.
fn ready<T: Send + 'static>(value: T) -> Pending<T> {
    Box::pin(std::future::ready(Ok(value)))
}
