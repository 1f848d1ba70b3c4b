//! Compaction in the background: one partition at a time, in small steps.
//!
//! The due index says which partitions to look at (`due/cleaning.rs`); those that are to be cleaned wait here. What stays of a
//! batch is decided in [`crate::compaction`]; a step is a command, which does nothing if the log is not any more as it was
//! read. A round that breaks off, also because the process is killed, is begun anew: the entry of the due index stays until
//! the round has ended.

mod round;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transaction_tests;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use kernel::metrics::{Counter, MetricKind, Page};
use kernel::{Ticket, TopicId, TopicPartition};
use parking_lot::Mutex;
use rules::commands::{Command, DueCommand};
use rules::configs::CompactionConfig;
use rules::documents::{DueKey, DueSubject};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::compaction::{CleanerStats, CleaningLimits, DirtySizes};
use crate::engines::StoreError;

/// Partitions that wait to be cleaned, and what was done so far.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    waiting: Mutex<Waiting>,
    added: Notify,
    /// Partitions that could not be cleaned, and how often in a row.
    failing: Mutex<HashMap<TopicPartition, u32>>,
    stats: Stats,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Waits>,
    /// Those in the queue, and the one that is being cleaned.
    known: HashSet<TopicPartition>,
}

/// A partition that waits, and the time of its entry in the due index.
#[derive(Debug)]
struct Waits {
    partition: TopicPartition,
    at_ms: i64,
}

/// What is counted.
#[derive(Debug, Default)]
struct Stats {
    bytes_read: Counter,
    bytes_removed: Counter,
    records_removed: Counter,
    failures: Counter,
    dirty: Mutex<DirtyStats>,
}

/// The greatest dirty ratio of the partitions that a run of looks at the due index has found.
#[derive(Debug, Default)]
struct DirtyStats {
    shown: f64,
    /// Of the run under way, if it has looked at a partition.
    run: Option<f64>,
}

/// When a partition that could not be cleaned is tried again, in ms.
const AGAIN_MS: i64 = 5 * 60 * 1_000;
/// The same after many tries.
const AGAIN_MS_MAX: i64 = 24 * 60 * 60 * 1_000;

/// What a topic's configs say of when it is cleaned.
pub(crate) fn limits(config: &CompactionConfig) -> CleaningLimits {
    CleaningLimits {
        min_compaction_lag_ms: config.min_lag_ms,
        max_compaction_lag_ms: config.max_lag_ms,
        min_cleanable_dirty_ratio: config.min_dirty_ratio(),
    }
}

impl Cleaner {
    /// Has a partition cleaned, whose entry in the due index has this time. One that waits already does not wait twice.
    pub(crate) fn add(&self, partition: TopicPartition, at_ms: i64) {
        let mut waiting = self.waiting.lock();
        if waiting.known.insert(partition) {
            waiting.queue.push_back(Waits { partition, at_ms });
            drop(waiting);
            self.added.notify_one();
        }
    }

    /// Notes how dirty a partition is that was looked at.
    pub(crate) fn found_dirty(&self, sizes: &DirtySizes) {
        let mut dirty = self.stats.dirty.lock();
        let run = dirty.run.get_or_insert_default();
        *run = run.max(sizes.dirty_ratio());
    }

    /// Shows what a run has found. One that has looked at no partition says nothing new.
    pub(crate) fn run_has_ended(&self) {
        let mut dirty = self.stats.dirty.lock();
        if let Some(run) = dirty.run.take() {
            dirty.shown = run;
        }
    }

    /// Notes that a partition could not be cleaned; returns when it is tried again, in ms from now. Each time it takes
    /// twice as long, up to a day: what is damaged stays so, and a try may read all of a large log.
    fn failed(&self, partition: TopicPartition) -> i64 {
        let mut failing = self.failing.lock();
        let times = failing.entry(partition).or_default();
        let again_ms = AGAIN_MS.saturating_mul(1 << (*times).min(16)).min(AGAIN_MS_MAX);
        *times += 1;
        again_ms
    }

    /// Forgets the partitions that could not be cleaned of topics that are gone, or not compacted any more.
    pub(crate) async fn forget_gone(&self, broker: &Broker) {
        let looked: BTreeSet<TopicId> = self.failing.lock().keys().map(|at| at.topic).collect();
        if looked.is_empty() {
            return;
        }
        let Ok(topics) = broker.store.topics_by_id(looked.iter().copied().collect()).await else { return };
        let is_compacted =
            |id: &TopicId| topics.get(id).is_some_and(|topic| topic.effective().cleanup_policy.compacts());
        self.failing.lock().retain(|at, _| !looked.contains(&at.topic) || is_compacted(&at.topic));
    }

    async fn next(&self) -> Waits {
        loop {
            if let Some(next) = self.waiting.lock().queue.pop_front() {
                return next;
            }
            self.added.notified().await;
        }
    }

    fn done(&self, partition: TopicPartition) {
        self.waiting.lock().known.remove(&partition);
    }

    fn count(&self, stats: CleanerStats) {
        self.stats.bytes_read.add(stats.bytes_read);
        self.stats.bytes_removed.add(stats.bytes_read.saturating_sub(stats.bytes_kept));
        self.stats.records_removed.add(stats.records_read.saturating_sub(stats.records_kept));
    }

    /// Writes the metrics.
    pub(crate) fn collect(&self, page: &mut Page) {
        let counters = [
            (
                "yagura_cleaner_read_bytes_total",
                "Bytes of batches that compaction has looked at.",
                &self.stats.bytes_read,
            ),
            (
                "yagura_cleaner_removed_bytes_total",
                "Bytes that compaction has removed.",
                &self.stats.bytes_removed,
            ),
            (
                "yagura_cleaner_removed_records_total",
                "Records that compaction has removed.",
                &self.stats.records_removed,
            ),
            (
                "yagura_cleaner_failures_total",
                "Partitions that could not be cleaned; each is tried again.",
                &self.stats.failures,
            ),
        ];
        for (name, help, counter) in counters {
            page.family(name, MetricKind::Counter, help);
            page.sample(&[], counter.get() as f64);
        }
        let ratio = self.stats.dirty.lock().shown;
        let help = "The dirty part of the dirtiest compacted partition that was last looked at, from 0 to 1.";
        page.family("yagura_cleaner_dirty_ratio", MetricKind::Gauge, help);
        page.sample(&[], ratio);
        page.family(
            "yagura_cleaner_waiting_partitions",
            MetricKind::Gauge,
            "Partitions that wait to be cleaned.",
        );
        page.sample(&[], self.waiting.lock().known.len() as f64);
        page.family(
            "yagura_cleaner_uncleanable_partitions",
            MetricKind::Gauge,
            "Partitions whose last cleaning has failed.",
        );
        page.sample(&[], self.failing.lock().len() as f64);
    }
}

/// Cleans what waits, until it is dropped.
pub(crate) async fn run(broker: &Broker) {
    loop {
        let next = broker.cleaner.next().await;
        clean_next(broker, next).await;
    }
}

/// Cleans a partition, and puts the entry for the next look. If that fails, its entry is the one of the last look.
async fn clean_next(broker: &Broker, Waits { partition, at_ms }: Waits) {
    let cleaned = round::clean(broker, partition).await;
    let in_ms = match cleaned {
        Ok(_) => {
            broker.cleaner.failing.lock().remove(&partition);
            0
        }
        Err(_) => broker.cleaner.failed(partition),
    };
    let looks_again = look_again(broker, partition, at_ms, in_ms).await;
    broker.cleaner.done(partition);
    let (topic, index) = (partition.topic, partition.partition);
    match cleaned.and_then(|stats| looks_again.map(|()| stats)) {
        Ok(CleanerStats { bytes_read: 0, .. }) => {}
        Ok(CleanerStats { records_read, records_kept, bytes_read, bytes_kept }) => {
            let topic = name(broker, topic).await;
            info!(
                topic,
                partition = index,
                records_read,
                records_kept,
                bytes_read,
                bytes_kept,
                "a partition was compacted"
            );
        }
        Err(error) => {
            broker.cleaner.stats.failures.add(1);
            let (topic, again_in_s) = (name(broker, topic).await, in_ms / 1_000);
            warn!(topic, partition = index, %error, again_in_s, "a partition could not be compacted; it is tried again later");
        }
    }
}

/// The name of a topic for the log; its id if it has none any more, or that cannot be read.
async fn name(broker: &Broker, topic: TopicId) -> String {
    let found = broker.store.topics_by_id(vec![topic]).await.ok();
    let found = found.and_then(|mut topics| topics.remove(&topic));
    found.map_or_else(|| topic.to_string(), |topic| topic.name.to_string())
}

async fn look_again(
    broker: &Broker,
    partition: TopicPartition,
    at_ms: i64,
    in_ms: i64,
) -> Result<(), StoreError> {
    let now_ms = broker.clock.now_ms();
    let subject = DueSubject::Cleaning(partition);
    let to_ms = Some(DueKey::time(now_ms.saturating_add(in_ms), now_ms));
    let moved = Command::Due(DueCommand::Move { subject, from_ms: vec![at_ms], to_ms });
    broker.store.commit(&Ticket::only(), vec![moved]).await.map(drop)
}

/// Cleans all that waits now, for tests.
#[cfg(test)]
pub(crate) async fn clean_all(broker: &Broker) {
    loop {
        let next = broker.cleaner.waiting.lock().queue.pop_front();
        match next {
            Some(next) => clean_next(broker, next).await,
            None => return,
        }
    }
}
