//! Commit metrics of an engine, and the gauges that every engine derives from its documents.

use std::time::Duration;

use kernel::TopicPartition;
use kernel::metrics::{Counter, Histogram, LATENCY_US_BOUNDS, MetricKind, Page, SIZE_BYTES_BOUNDS};
use rules::documents::PartitionDocument;

use super::table::Table;

/// Limit on partitions with their own metrics: a scrape must stay small, and beyond it only topic sums help.
const PARTITIONS_SHOWN_MAX: usize = 1_000;

/// Metrics of commits.
#[derive(Debug)]
pub(in crate::engines) struct CommitStats {
    commands: Counter,
    failures: Counter,
    bytes: Histogram,
    micros: Histogram,
}

impl CommitStats {
    pub(in crate::engines) fn new() -> Self {
        Self {
            commands: Counter::default(),
            failures: Counter::default(),
            bytes: Histogram::new(SIZE_BYTES_BOUNDS),
            micros: Histogram::new(LATENCY_US_BOUNDS),
        }
    }

    pub(in crate::engines) fn committed(&self, commands: usize, bytes: usize, took: Duration) {
        self.commands.add(commands as u64);
        self.bytes.record(bytes as u64);
        self.micros.record(took.as_micros() as u64);
    }

    pub(in crate::engines) fn failed(&self) {
        self.failures.add(1);
    }

    /// Writes all metrics; `bytes` returns a partition's size.
    pub(in crate::engines) fn collect(
        &self,
        page: &mut Page,
        table: &Table,
        bytes: impl Fn(TopicPartition) -> u64,
    ) {
        page.family("yagura_store_commands_total", MetricKind::Counter, "Commands made durable.");
        page.sample(&[], self.commands.get() as f64);
        page.family(
            "yagura_store_commit_failures_total",
            MetricKind::Counter,
            "Commits that the store refused.",
        );
        page.sample(&[], self.failures.get() as f64);
        page.family(
            "yagura_store_commit_bytes",
            MetricKind::Histogram,
            "Bytes of record batches in a commit.",
        );
        page.histogram(&[], &self.bytes, 1.0);
        page.family("yagura_store_commit_seconds", MetricKind::Histogram, "Time that a commit took.");
        page.histogram(&[], &self.micros, 1e-6);
        partitions(page, table, bytes);
        groups(page, table);
    }
}

/// Consumer lag of groups; offsets of deleted topics are left out.
fn groups(page: &mut Page, table: &Table) {
    page.family("yagura_group_members", MetricKind::Gauge, "Members of a consumer group.");
    for (group, document) in table.groups().take(PARTITIONS_SHOWN_MAX) {
        page.sample(&[("group", &*group), ("state", document.state.name())], document.members.len() as f64);
    }
    page.family(
        "yagura_group_lag_records",
        MetricKind::Gauge,
        "Offsets from what a group has committed to the end.",
    );
    for lag in table.lags().take(PARTITIONS_SHOWN_MAX) {
        let partition = lag.partition.to_string();
        let labels = [("group", &*lag.group), ("topic", &**lag.topic), ("partition", &*partition)];
        page.sample(&labels, lag.records as f64);
    }
    let hidden = table.lags().count().saturating_sub(PARTITIONS_SHOWN_MAX);
    page.family("yagura_group_lags_not_shown", MetricKind::Gauge, "Lags past the bound of this page.");
    page.sample(&[], hidden as f64);
}

fn partitions(page: &mut Page, table: &Table, bytes: impl Fn(TopicPartition) -> u64) {
    let all = || {
        let each = table.topics().flat_map(|topic| topic.all_partitions().map(move |at| (topic, at)));
        each.filter_map(|(topic, at)| Some((&*topic.name, at, *table.partition(at)?)))
    };
    type Value<'a> = &'a dyn Fn(TopicPartition, &PartitionDocument) -> f64;
    let families: [(&str, &str, Value<'_>); 3] = [
        ("yagura_partition_log_start_offset", "First offset that can be read.", &|_, log| {
            log.log_start as f64
        }),
        ("yagura_partition_high_watermark", "Offset after the last record.", &|_, log| log.end as f64),
        ("yagura_partition_bytes", "Bytes of record batches.", &|at, _| bytes(at) as f64),
    ];
    for (name, help, value) in families {
        page.family(name, MetricKind::Gauge, help);
        for (topic, at, log) in all().take(PARTITIONS_SHOWN_MAX) {
            page.sample(&[("topic", topic), ("partition", &at.partition.to_string())], value(at, &log));
        }
    }
    let hidden = all().count().saturating_sub(PARTITIONS_SHOWN_MAX);
    page.family("yagura_partitions_not_shown", MetricKind::Gauge, "Partitions past the bound of this page.");
    page.sample(&[], hidden as f64);
}
