//! What an engine counts, and the gauges that every engine can tell from its documents.

use std::time::Duration;

use kernel::metrics::{Counter, Histogram, Kind, LATENCY_US_BOUNDS, Page, SIZE_BYTES_BOUNDS};

use super::table::Table;
use crate::rules::PartitionDocument;

/// Partitions shown one by one; past this many only their topics' sums would help, and a scrape must stay small.
const PARTITIONS_SHOWN_MAX: usize = 1_000;

/// Counts of commits.
#[derive(Debug)]
pub(crate) struct CommitStats {
    commands: Counter,
    failures: Counter,
    bytes: Histogram,
    micros: Histogram,
}

impl CommitStats {
    pub(crate) fn new() -> Self {
        Self {
            commands: Counter::default(),
            failures: Counter::default(),
            bytes: Histogram::new(SIZE_BYTES_BOUNDS),
            micros: Histogram::new(LATENCY_US_BOUNDS),
        }
    }

    pub(crate) fn committed(&self, commands: usize, bytes: usize, took: Duration) {
        self.commands.add(commands as u64);
        self.bytes.record(bytes as u64);
        self.micros.record(took.as_micros() as u64);
    }

    pub(crate) fn failed(&self) {
        self.failures.add(1);
    }

    pub(crate) fn collect(&self, page: &mut Page, table: &Table) {
        page.family("yagura_store_commands_total", Kind::Counter, "Commands made durable.");
        page.sample(&[], self.commands.get() as f64);
        page.family("yagura_store_commit_failures_total", Kind::Counter, "Commits that the store refused.");
        page.sample(&[], self.failures.get() as f64);
        page.family("yagura_store_commit_bytes", Kind::Histogram, "Bytes of record batches in a commit.");
        page.histogram(&[], &self.bytes, 1.0);
        page.family("yagura_store_commit_seconds", Kind::Histogram, "Time that a commit took.");
        page.histogram(&[], &self.micros, 1e-6);
        partitions(page, table);
        groups(page, table);
    }
}

/// How far groups are behind; an offset of a topic that is gone is left out.
fn groups(page: &mut Page, table: &Table) {
    page.family("yagura_group_members", Kind::Gauge, "Members of a consumer group.");
    for (group, document) in table.groups().take(PARTITIONS_SHOWN_MAX) {
        page.sample(&[("group", group), ("state", document.state.name())], document.members.len() as f64);
    }
    page.family(
        "yagura_group_lag_records",
        Kind::Gauge,
        "Offsets from what a group has committed to the end.",
    );
    for (group, topic, partition, lag) in table.lags().take(PARTITIONS_SHOWN_MAX) {
        page.sample(&[("group", group), ("topic", topic), ("partition", &partition.to_string())], lag as f64);
    }
    let hidden = table.lags().count().saturating_sub(PARTITIONS_SHOWN_MAX);
    page.family("yagura_group_lags_not_shown", Kind::Gauge, "Lags past the bound of this page.");
    page.sample(&[], hidden as f64);
}

fn partitions(page: &mut Page, table: &Table) {
    let all = || {
        let each = table.topics().flat_map(|topic| topic.all_partitions().map(move |at| (topic, at)));
        each.filter_map(|(topic, at)| Some((&*topic.name, at.partition.to_string(), *table.partition(at)?)))
    };
    type Value = fn(&PartitionDocument) -> f64;
    let families: [(&str, &str, Value); 3] = [
        ("yagura_partition_log_start_offset", "First offset that can be read.", |log| log.log_start as f64),
        ("yagura_partition_high_watermark", "Offset after the last record.", |log| log.end as f64),
        ("yagura_partition_bytes", "Bytes of record batches.", |log| log.bytes as f64),
    ];
    for (name, help, value) in families {
        page.family(name, Kind::Gauge, help);
        for (topic, partition, log) in all().take(PARTITIONS_SHOWN_MAX) {
            page.sample(&[("topic", topic), ("partition", &partition)], value(&log));
        }
    }
    let hidden = all().count().saturating_sub(PARTITIONS_SHOWN_MAX);
    page.family("yagura_partitions_not_shown", Kind::Gauge, "Partitions past the bound of this page.");
    page.sample(&[], hidden as f64);
}
