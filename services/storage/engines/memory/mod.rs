//! The memory engine: a map. It is also the model that other engines are tested against.

mod index;
mod later;
mod log;
mod segment;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Instant;

use kernel::TopicPartition;
use kernel::clock::SharedStoreClock;
use kernel::metrics::Page;
use kernel::ports::BoxFuture;
use kernel::records_later::RecordsLater;
use kernel::units::ByteSize;
use parking_lot::Mutex;
use rules::commands::{Command, Effect, Outcome};
use rules::documents::{Document, Key, Prefix};
use rules::{WorkingSet, decide};
use tokio::sync::watch;

use super::resident::{
    CommitStats, Fit, Gauges, ReadBudget, Table, Times, empty, outcome_of, outcome_without_log,
};
use super::room::{AT_LIMIT, RoomStatus, WhyFull, is_over, refuse_growth, why_at_limit};
use super::{
    DirtyLook, Engine, EngineKind, Holds, Pending, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, Rest,
    RetentionLimits, RetentionLook, RetentionOutcome, Sharing, StoreError, Subject, UrlFault, Watch,
    Watchers,
};
use later::Deleted;
use log::Log;

/// `memory://`
pub(super) static KIND: EngineKind = EngineKind {
    schemes: &["memory"],
    form: "\"memory://\"",
    holds: |_| None,
    check: |place| if place.is_empty() { Ok(()) } else { Err(UrlFault::Form) },
    open: |_, settings| ready(Arc::new(Memory::limited(settings.store_bytes_max))),
    beside: None,
    existing: None,
    verify: None,
};

/// Keeps everything in memory until the process ends.
pub struct Memory {
    state: Arc<Mutex<State>>,
    watchers: Watchers,
    stats: CommitStats,
    room: RoomStatus,
    /// The clock of the brokers that share it.
    clock: Option<SharedStoreClock>,
}

#[derive(Default)]
struct State {
    table: Table,
    logs: HashMap<TopicPartition, Log>,
    /// Bytes of all logs.
    bytes: u64,
    /// Logs that were ever created.
    logs_created: u64,
    deleted: Deleted,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::limited(None)
    }

    /// An empty store that takes no more once its logs have so many bytes.
    pub fn limited(bytes_max: Option<ByteSize>) -> Self {
        Self {
            state: Arc::default(),
            watchers: Watchers::default(),
            stats: CommitStats::new(),
            room: RoomStatus::new(bytes_max),
            clock: None,
        }
    }

    /// An empty store that several brokers of the process share, with the clock that they go by.
    pub fn shared(clock: SharedStoreClock) -> Self {
        Self { clock: Some(clock), ..Self::new() }
    }

    fn commit_now(&self, commands: &[Command]) -> Vec<Outcome> {
        let mut state = self.state.lock();
        state.deleted.purge();
        commands.iter().map(|command| self.run(&mut state, command)).collect()
    }

    fn run(&self, state: &mut State, command: &Command) -> Outcome {
        let Some(bytes_max) = self.room.bytes_max() else { return state.run(command, &self.watchers) };
        let was_full = self.room.is_full();
        if was_full {
            refuse_growth(command, AT_LIMIT)?;
        }
        let outcome = state.run(command, &self.watchers);
        self.room.tell(is_over(state.bytes, bytes_max, was_full).then(|| why_at_limit(bytes_max)));
        outcome
    }
}

impl State {
    fn run(&mut self, command: &Command, watchers: &Watchers) -> Outcome {
        let mut set = WorkingSet::new(&self.table);
        let outcome = decide(&mut set, command);
        let (changes, effects) = set.into_changes();
        for effect in effects {
            self.apply(effect, watchers);
        }
        let watched = Watchers::watched(changes.keys());
        self.table.apply(changes);
        watchers.wake_changed(&watched);
        outcome
    }

    fn apply(&mut self, effect: Effect, watchers: &Watchers) {
        match effect {
            Effect::CreateLog { .. } => {}
            Effect::Append { partition, base_offset, leader_epoch, batch, appended_ms, payload } => {
                let log = self.logs.entry(partition).or_insert_with(|| {
                    self.logs_created += 1;
                    Log::new(self.logs_created)
                });
                self.bytes += payload.0.len() as u64;
                let header = batch.stored(base_offset, leader_epoch);
                log.append(&payload.0, batch.record_count, &header, Times::of(&batch, appended_ms));
                watchers.wake(partition, payload.0.len() as u64);
            }
            Effect::Trim { partition, log_start, .. } => {
                if let Some(log) = self.logs.get_mut(&partition) {
                    let before = log.bytes();
                    let (id, segments) = (log.id, log.trim(log_start));
                    self.bytes -= before - log.bytes();
                    self.deleted.keep(id, segments);
                }
                watchers.note(partition);
            }
            Effect::Clean { partition, run } => {
                if let Some(log) = self.logs.get_mut(&partition) {
                    let before = log.bytes();
                    let (id, segments) = (log.id, log.clean(&run));
                    self.bytes = self.bytes + log.bytes() - before;
                    // Replies that are being sent go on with the old bytes.
                    self.deleted.keep(id, segments);
                }
            }
            Effect::DropLog { partition } => {
                if let Some(log) = self.logs.remove(&partition) {
                    self.bytes -= log.bytes();
                    self.deleted.keep(log.id, log.into_segments());
                }
                self.table.drop_documents(partition);
                watchers.wake(partition, 0);
            }
        }
    }

    fn bytes(&self, partition: TopicPartition) -> u64 {
        self.logs.get(&partition).map_or(0, Log::bytes)
    }

    fn read(&self, spec: ReadSpec, budget: &mut ReadBudget, state: &Weak<Mutex<State>>) -> ReadOutcome {
        let Some(document) = self.table.partition(spec.partition) else {
            return ReadOutcome::UnknownPartition;
        };
        let log = self.logs.get(&spec.partition);
        let from = match spec.from {
            ReadFrom::Offset(offset) => {
                if let Some(outcome) = outcome_without_log(document, offset, spec.isolation) {
                    return outcome;
                }
                log.map(|log| log.index_of(offset))
            }
            ReadFrom::Timestamp(time) => log.and_then(|log| log.search(|span| span.times.is_before(time))),
            ReadFrom::MaxTimestamp => log.and_then(|log| log.latest(document.log_start)),
        };
        let (Some(log), Some(from)) = (log, from) else { return empty(document) };
        let (mut left, end) = (spec.bytes_max, spec.isolation.end_of(document));
        let (mut batches, mut later, mut later_bytes) = (Vec::new(), from..from, 0);
        for (index, entry) in (from..).zip(log.entries().range(from.min(log.entries().len())..)) {
            if entry.bytes() == 0 {
                // It is part of the one before it.
                continue;
            }
            if entry.next_offset > end {
                break;
            }
            let fit = if later.is_empty() { budget.take(entry.bytes(), &mut left) } else { Fit::Later };
            if fit == Fit::Now {
                batches.push(log.read(entry));
                later = index + 1..index + 1;
                continue;
            }
            let fits = budget.fits_later(entry.bytes() as u64, left) || budget.is_first();
            if fit == Fit::No || !fits {
                break;
            }
            budget.take_later(entry.bytes(), &mut left);
            later_bytes += entry.bytes() as u64;
            later.end = index + 1;
        }
        let rest = later.clone().last().map(|last| {
            let source = self.deleted.source(spec.partition, log.id, log.places(later), Weak::clone(state));
            let records = RecordsLater { bytes: later_bytes, source: Box::new(source) };
            Rest { next_offset: log.entries()[last].next_offset, records }
        });
        outcome_of(document, batches, rest)
    }

    /// What retention does to a partition; `None` if it does not exist.
    fn look(
        &self,
        partition: TopicPartition,
        limits: &RetentionLimits,
        now_ms: i64,
    ) -> Option<RetentionLook> {
        let document = self.table.partition(partition)?;
        let Some(log) = self.logs.get(&partition) else {
            return Some(RetentionLook { end: document.end, log_start: None, next_ms: None });
        };
        let looked: Result<_, Infallible> =
            limits.look(document, log.bytes(), now_ms, |from, is_over| Ok(log.search_at(from, is_over)));
        looked.ok()
    }

    /// How much of a partition is dirty; `None` if it does not exist.
    fn dirty(&self, partition: TopicPartition, young_after_ms: Option<i64>) -> Option<DirtyLook> {
        let document = self.table.partition(partition)?;
        let log = self.logs.get(&partition);
        let looked: Result<_, Infallible> = DirtyLook::of(document, young_after_ms, |from, is_over| {
            Ok(log.and_then(|log| log.search_at(from, is_over)))
        });
        looked.ok()
    }
}

/// The result of an operation that does not wait.
fn ready<T: Send + 'static>(value: T) -> Pending<T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Engine for Memory {
    fn commit(&self, commands: Vec<Command>, _: Holds) -> Pending<Vec<Outcome>> {
        let started = Instant::now();
        let bytes = commands.iter().map(Command::bytes).sum();
        let outcomes = self.commit_now(&commands);
        self.stats.committed(commands.len(), bytes, started.elapsed());
        ready(outcomes)
    }

    fn read(&self, specs: Vec<ReadSpec>, limits: ReadLimits) -> Pending<Vec<ReadOutcome>> {
        let later = Arc::downgrade(&self.state);
        let state = self.state.lock();
        let mut budget = ReadBudget::new(limits);
        ready(specs.into_iter().map(|spec| state.read(spec, &mut budget, &later)).collect())
    }

    fn get(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>> {
        ready(self.state.lock().table.load(&keys))
    }

    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>> {
        ready(self.state.lock().table.scan(&prefix, after.as_ref(), limit))
    }

    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>> {
        let state = self.state.lock();
        ready(partitions.into_iter().map(|partition| state.bytes(partition)).collect())
    }

    fn watch(&self, subjects: &[Subject]) -> Watch {
        self.watchers.watch(subjects)
    }

    fn topics_version(&self) -> u64 {
        self.watchers.topics_version()
    }

    fn retention(
        &self,
        partitions: Vec<(TopicPartition, RetentionLimits)>,
        now_ms: i64,
    ) -> Pending<Vec<RetentionOutcome>> {
        let state = self.state.lock();
        let look = |(at, limits): &(TopicPartition, RetentionLimits)| Ok(state.look(*at, limits, now_ms));
        ready(partitions.iter().map(look).collect())
    }

    fn dirty(&self, partition: TopicPartition, young_after_ms: Option<i64>) -> Pending<Option<DirtyLook>> {
        ready(self.state.lock().dirty(partition, young_after_ms))
    }

    fn maintain(&self, _: i64) -> Pending<u64> {
        // Records are freed when they are deleted, but for those that a reply may have.
        self.state.lock().deleted.purge();
        ready(0)
    }

    fn collect(&self, page: &mut Page) {
        self.stats.collect(page);
        self.room.holds(self.state.lock().bytes);
        self.room.collect(page);
    }

    fn full(&self) -> watch::Receiver<WhyFull> {
        self.room.full()
    }

    fn gauges(&self) -> Pending<Gauges> {
        let state = self.state.lock();
        ready(Gauges::of(&state.table, |partition| state.bytes(partition)))
    }

    fn sharing(&self) -> Option<Sharing> {
        let clock = self.clock.clone()?;
        Some(Sharing { clock, changes: self.watchers.feed() })
    }

    fn failed(&self) -> BoxFuture<'static, StoreError> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> Pending<()> {
        ready(())
    }
}
