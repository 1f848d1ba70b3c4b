//! The memory engine: a map. It is also the model that every other engine is held against.

mod log;
mod segment;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kernel::TopicPartition;
use kernel::metrics::Page;

use super::retention::{Limits, PRODUCER_EXPIRY_MS, expire, expire_offsets, limited_partitions};
use super::stats::CommitStats;
use super::table::{Table, empty};
use super::{
    Engine, From, Load, Maintained, Pending, ReadOutcome, ReadSpec, Subject, Upkeep, Watch, Watchers,
};
use crate::rules::{Command, Document, Effect, Key, Outcome, WorkingSet, decide};
use log::Log;

/// Keeps everything in this process, until it ends.
pub struct Memory {
    state: Arc<Mutex<State>>,
    watchers: Watchers,
    stats: CommitStats,
}

#[derive(Default)]
struct State {
    table: Table,
    logs: HashMap<TopicPartition, Log>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self { state: Arc::default(), watchers: Watchers::default(), stats: CommitStats::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, commands: Vec<Command>) -> Vec<Outcome> {
        let mut state = self.lock();
        commands.into_iter().map(|command| state.run(command, &self.watchers)).collect()
    }
}

impl State {
    fn run(&mut self, command: Command, watchers: &Watchers) -> Outcome {
        let mut set = WorkingSet::new(&self.table);
        let outcome = decide(&mut set, command);
        let (mut changes, effects) = set.into_changes();
        for effect in effects {
            self.apply(effect, &mut changes, watchers);
        }
        // Whoever is woken has to wait for the lock that is held here.
        watchers.wake_groups(changes.keys());
        self.table.apply(changes);
        outcome
    }

    fn apply(&mut self, effect: Effect, changes: &mut HashMap<Key, Option<Document>>, watchers: &Watchers) {
        match effect {
            Effect::Append { partition, base_offset, leader_epoch, batch, .. } => {
                let bytes = batch.bytes().len() as u64;
                self.logs.entry(partition).or_default().append(&batch, base_offset, leader_epoch);
                watchers.wake(partition, bytes);
            }
            Effect::Trim { partition, log_start, .. } => {
                let freed = self.logs.get_mut(&partition).map_or(0, |log| log.trim(log_start));
                if let Some(Some(Document::Partition(log))) = changes.get_mut(&Key::Partition(partition)) {
                    log.bytes = log.bytes.saturating_sub(freed);
                }
            }
            Effect::Drop { partition, .. } => {
                self.logs.remove(&partition);
                self.table.drop_producers(partition);
                watchers.wake(partition, 0);
            }
        }
    }

    fn read(&self, spec: ReadSpec, bytes_left: &mut usize, is_first: &mut bool) -> ReadOutcome {
        let Some(document) = self.table.partition(spec.partition) else {
            return ReadOutcome::UnknownPartition;
        };
        let log = self.logs.get(&spec.partition);
        let from = match spec.from {
            From::Offset(offset) => {
                if let Some(outcome) = self.table.outcome_without_log(spec.partition, offset) {
                    return outcome;
                }
                log.map(|log| log.index_of(offset))
            }
            From::Timestamp(time) => {
                log.and_then(|log| log.entries().iter().position(|entry| entry.max_timestamp >= time))
            }
            From::MaxTimestamp => log.and_then(|log| {
                let latest = log.entries().iter().map(|entry| entry.max_timestamp).max()?;
                log.entries().iter().position(|entry| entry.max_timestamp == latest)
            }),
        };
        let (Some(log), Some(from)) = (log, from) else { return empty(document) };
        let mut left = spec.bytes_max.min(*bytes_left);
        let mut batches = Vec::new();
        for entry in log.entries().range(from.min(log.entries().len())..) {
            let bytes = entry.bytes();
            if bytes > left && !*is_first {
                break;
            }
            *is_first = false;
            left = left.saturating_sub(bytes);
            *bytes_left = bytes_left.saturating_sub(bytes);
            batches.push(log.read(entry));
        }
        ReadOutcome::Read { log_start: document.log_start, high_watermark: document.end, batches }
    }

    /// Where retention lets a log begin, if that is later than now.
    fn retained_from(&self, partition: TopicPartition, limits: &Limits, now_ms: i64) -> Option<i64> {
        let document = self.table.partition(partition)?;
        let mut bytes = document.bytes;
        let mut from = None;
        for entry in self.logs.get(&partition)?.entries() {
            let size = entry.bytes() as u64;
            if !limits.expires(entry.max_timestamp, bytes, size, now_ms) {
                break;
            }
            bytes -= size;
            from = Some(entry.next_offset);
        }
        from.filter(|from| *from > document.log_start)
    }
}

impl Engine for Memory {
    fn commit(&self, commands: Vec<Command>) -> Pending<Vec<Outcome>> {
        let started = Instant::now();
        let (count, bytes) = (commands.len(), commands.iter().map(Command::bytes).sum());
        let outcomes = self.commit_now(commands);
        self.stats.committed(count, bytes, started.elapsed());
        Box::pin(std::future::ready(Ok(outcomes)))
    }

    fn read(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> Pending<Vec<ReadOutcome>> {
        let state = self.lock();
        let (mut bytes_left, mut is_first) = (bytes_max, true);
        let read = specs.into_iter().map(|spec| state.read(spec, &mut bytes_left, &mut is_first)).collect();
        Box::pin(std::future::ready(Ok(read)))
    }

    fn load(&self, load: Load) -> Pending<Vec<(Key, Document)>> {
        let loaded = self.lock().table.load(&load);
        Box::pin(std::future::ready(Ok(loaded)))
    }

    fn watch(&self, subjects: &[Subject]) -> Watch {
        self.watchers.watch(subjects)
    }

    fn maintain(&self, upkeep: Upkeep) -> Pending<Maintained> {
        let now_ms = upkeep.now_ms;
        let mut commands = Vec::new();
        {
            let state = self.lock();
            for (partition, limits) in limited_partitions(&state.table) {
                if let Some(offset) = state.retained_from(partition, &limits, now_ms) {
                    commands.push(Command::AdvanceLogStart { partition, offset });
                }
            }
        }
        let mut maintained = Maintained { partitions_trimmed: commands.len(), ..Maintained::default() };
        let unused_since_ms = now_ms - PRODUCER_EXPIRY_MS;
        let idle = self.lock().table.idle_producers(unused_since_ms);
        maintained.producers_forgotten = idle.len();
        commands.extend(idle.into_iter().filter_map(|key| expire(&key, unused_since_ms)));
        commands.extend(expire_offsets(&self.lock().table, upkeep));
        self.commit_now(commands);
        Box::pin(std::future::ready(Ok(maintained)))
    }

    fn collect(&self, page: &mut Page) {
        self.stats.collect(page, &self.lock().table);
    }

    fn close(&self) -> Pending<()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
