//! Commit metrics of an engine, and the gauges that every engine derives from its documents.

use std::sync::Arc;
use std::time::Duration;

use kernel::TopicPartition;
use kernel::metrics::{Counter, Histogram, LATENCY_US_BOUNDS, MetricKind, Page, SIZE_BYTES_BOUNDS};
use rules::documents::{DocumentKind, OffsetDocument, PartitionDocument, TopicDocument};

use super::table::Table;

/// Limit on the groups, lags and partitions that are shown: a scrape must stay small.
const SHOWN_MAX: usize = 1_000;

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

    /// Writes them.
    pub(in crate::engines) fn collect(&self, page: &mut Page) {
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
    }
}

/// What `/metrics` shows of an engine's documents, copied under the lock that a commit needs and written without it.
pub(in crate::engines) struct Gauges {
    groups: Vec<(Arc<str>, &'static str, usize)>,
    lags: Vec<(Arc<str>, Arc<str>, i32, i64)>,
    lags_not_shown: usize,
    partitions: Vec<(Arc<str>, i32, PartitionDocument, u64)>,
    partitions_not_shown: usize,
}

impl Gauges {
    /// Copies the gauges; `bytes` returns a partition's size. It looks at no more documents than are shown.
    pub(in crate::engines) fn of(table: &Table, bytes: impl Fn(TopicPartition) -> u64) -> Self {
        let groups = table.groups().take(SHOWN_MAX);
        let groups = groups.map(|(group, document)| (group, document.state.name(), document.members.len()));
        let lags: Vec<_> = table.lags(SHOWN_MAX).collect();
        let each = table.topics().flat_map(|topic| topic.all_partitions().map(move |at| (topic, at)));
        let partition = |(topic, at): (&TopicDocument, TopicPartition)| {
            Some((Arc::clone(&topic.name), at.partition, *table.partition(at)?, bytes(at)))
        };
        let partitions: Vec<_> = each.take(SHOWN_MAX).filter_map(partition).collect();
        Self {
            groups: groups.collect(),
            lags_not_shown: table.count(OffsetDocument::PREFIX).saturating_sub(lags.len()),
            partitions_not_shown: table.count(PartitionDocument::PREFIX).saturating_sub(partitions.len()),
            lags,
            partitions,
        }
    }

    /// Writes them.
    pub(in crate::engines) fn write(&self, page: &mut Page) {
        self.write_partitions(page);
        self.write_groups(page);
    }

    fn write_groups(&self, page: &mut Page) {
        page.family("yagura_group_members", MetricKind::Gauge, "Members of a consumer group.");
        for (group, state, members) in &self.groups {
            page.sample(&[("group", &**group), ("state", state)], *members as f64);
        }
        page.family(
            "yagura_group_lag_records",
            MetricKind::Gauge,
            "Offsets from what a group has committed to the end.",
        );
        for (group, topic, partition, records) in &self.lags {
            let partition = partition.to_string();
            let labels = [("group", &**group), ("topic", &**topic), ("partition", &*partition)];
            page.sample(&labels, *records as f64);
        }
        let help = "Committed offsets past the bound of this page, or of deleted topics.";
        page.family("yagura_group_lags_not_shown", MetricKind::Gauge, help);
        page.sample(&[], self.lags_not_shown as f64);
    }

    fn write_partitions(&self, page: &mut Page) {
        type Value = fn(&PartitionDocument, u64) -> f64;
        let families: [(&str, &str, Value); 3] = [
            ("yagura_partition_log_start_offset", "First offset that can be read.", |log, _| {
                log.log_start as f64
            }),
            ("yagura_partition_high_watermark", "Offset after the last record.", |log, _| log.end as f64),
            ("yagura_partition_bytes", "Bytes of record batches.", |_, bytes| bytes as f64),
        ];
        for (name, help, value) in families {
            page.family(name, MetricKind::Gauge, help);
            for (topic, partition, log, bytes) in &self.partitions {
                let labels = [("topic", &**topic), ("partition", &*partition.to_string())];
                page.sample(&labels, value(log, *bytes));
            }
        }
        let help = "Partitions past the bound of this page.";
        page.family("yagura_partitions_not_shown", MetricKind::Gauge, help);
        page.sample(&[], self.partitions_not_shown as f64);
    }
}
