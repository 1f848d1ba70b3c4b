//! Commit metrics of an engine, and the gauges that every engine derives from its documents.

use std::sync::Arc;
use std::time::Duration;

use kernel::TopicPartition;
use kernel::metrics::{Counter, Histogram, LATENCY_US_BOUNDS, MetricKind, Page, SIZE_BYTES_BOUNDS};
use rules::documents::{OffsetDocument, PartitionDocument, TopicDocument};

use super::table::Table;

/// Limit on the groups, lags and partitions that are shown: a scrape must stay small.
pub(in crate::engines) const SHOWN_MAX: usize = 1_000;

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
        page.histogram(&[], &self.bytes, 1);
        page.family("yagura_store_commit_seconds", MetricKind::Histogram, "Time that a commit took.");
        page.histogram(&[], &self.micros, 1_000_000);
    }
}

/// What `/metrics` shows of an engine's documents, copied before it is written.
pub struct Gauges {
    /// Group, state and number of members.
    pub(in crate::engines) groups: Vec<(Arc<str>, &'static str, usize)>,
    pub(in crate::engines) lags: Vec<Lag>,
    pub(in crate::engines) has_more_lags: bool,
    pub(in crate::engines) partitions: Vec<PartitionGauge>,
    pub(in crate::engines) has_more_partitions: bool,
    /// Of an engine that has an outbox.
    pub(in crate::engines) outbox: Option<OutboxGauge>,
}

/// What waits in the outbox.
pub(in crate::engines) struct OutboxGauge {
    /// How many messages; no more are counted than 10,000.
    pub(in crate::engines) waiting: u64,
    /// For how long the oldest has been seen to wait.
    pub(in crate::engines) oldest: Duration,
}

/// How far a group is behind the end of a partition.
pub(in crate::engines) struct Lag {
    pub(in crate::engines) group: Arc<str>,
    pub(in crate::engines) topic: Arc<str>,
    pub(in crate::engines) partition: i32,
    pub(in crate::engines) records: i64,
}

/// A partition's log and the bytes of its batches.
pub(in crate::engines) struct PartitionGauge {
    pub(in crate::engines) topic: Arc<str>,
    pub(in crate::engines) partition: i32,
    pub(in crate::engines) log: PartitionDocument,
    pub(in crate::engines) bytes: u64,
}

impl Gauges {
    /// Copies the gauges; `bytes` returns a partition's size. It looks at no more documents than are shown.
    pub(in crate::engines) fn of(table: &Table, bytes: impl Fn(TopicPartition) -> u64) -> Self {
        let groups = table.groups().take(SHOWN_MAX);
        let groups =
            groups.map(|(group, document)| (group, document.state.name(), document.members as usize));
        let each = table.topics().flat_map(|topic| topic.all_partitions().map(move |at| (topic, at)));
        let mut each: Vec<_> = each.take(SHOWN_MAX + 1).collect();
        let has_more_partitions = each.len() > SHOWN_MAX;
        each.truncate(SHOWN_MAX);
        let partition = |(topic, at): (&TopicDocument, TopicPartition)| {
            let log = *table.partition(at)?;
            Some(PartitionGauge {
                topic: Arc::clone(&topic.name),
                partition: at.partition,
                log,
                bytes: bytes(at),
            })
        };
        Self {
            groups: groups.collect(),
            lags: table.lags(SHOWN_MAX).collect(),
            has_more_lags: table.all::<OffsetDocument>().nth(SHOWN_MAX).is_some(),
            has_more_partitions,
            partitions: each.into_iter().filter_map(partition).collect(),
            outbox: None,
        }
    }

    /// Writes them.
    pub(crate) fn write(&self, page: &mut Page) {
        self.write_partitions(page);
        self.write_groups(page);
        if let Some(OutboxGauge { waiting, oldest }) = self.outbox {
            let help = "Messages that wait in the outbox; no more are counted than 10,000.";
            page.family("yagura_outbox_waiting", MetricKind::Gauge, help);
            page.sample(&[], waiting as f64);
            let help =
                "For how long the oldest message has been seen to wait in the outbox, by looks at this page.";
            page.family("yagura_outbox_oldest_seconds", MetricKind::Gauge, help);
            page.sample(&[], oldest.as_secs_f64());
        }
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
        for Lag { group, topic, partition, records } in &self.lags {
            let partition = partition.to_string();
            let labels = [("group", &**group), ("topic", &**topic), ("partition", &*partition)];
            page.sample(&labels, *records as f64);
        }
        let help = "Whether there are more committed offsets than this page shows.";
        page.family("yagura_group_lags_cut_short", MetricKind::Gauge, help);
        page.sample(&[], f64::from(self.has_more_lags));
    }

    fn write_partitions(&self, page: &mut Page) {
        type Value = fn(&PartitionDocument, u64) -> Option<f64>;
        let families: [(&str, &str, Value); 5] = [
            ("yagura_partition_log_start_offset", "First offset that can be read.", |log, _| {
                Some(log.log_start as f64)
            }),
            ("yagura_partition_high_watermark", "Offset after the last record.", |log, _| {
                Some(log.end as f64)
            }),
            (
                "yagura_partition_last_stable_offset",
                "Offset up to which no transaction is open; that after the last record if none is.",
                |log, _| Some(log.last_stable() as f64),
            ),
            (
                "yagura_partition_clean_end_offset",
                "Offset up to which a partition of a compacted topic is compacted; 0 until it first is.",
                |log, _| log.cleaning.map(|cleaning| cleaning.clean_end as f64),
            ),
            ("yagura_partition_bytes", "Bytes of record batches.", |_, bytes| Some(bytes as f64)),
        ];
        for (name, help, value) in families {
            page.family(name, MetricKind::Gauge, help);
            for PartitionGauge { topic, partition, log, bytes } in &self.partitions {
                let Some(value) = value(log, *bytes) else { continue };
                let labels = [("topic", &**topic), ("partition", &*partition.to_string())];
                page.sample(&labels, value);
            }
        }
        let help = "Whether there are more partitions than this page shows.";
        page.family("yagura_partitions_cut_short", MetricKind::Gauge, help);
        page.sample(&[], f64::from(self.has_more_partitions));
    }
}

#[cfg(test)]
mod tests {
    use rules::documents::LogCleaning;

    use super::*;

    #[test]
    fn partitions_show_what_is_stable_and_what_is_clean() {
        let open = PartitionDocument {
            log_start: 2,
            end: 9,
            leader_epoch: 0,
            look_after_append: false,
            append_time_ms: None,
            first_unstable: Some(5),
            last_aborted: None,
            cleaning: None,
        };
        let cleaning = Some(LogCleaning { clean_end: 4, ..LogCleaning::default() });
        let clean = PartitionDocument { first_unstable: None, cleaning, ..open };
        let gauge = |partition, log| PartitionGauge { topic: Arc::from("t"), partition, log, bytes: 7 };
        let gauges = Gauges {
            groups: Vec::new(),
            lags: Vec::new(),
            has_more_lags: false,
            partitions: vec![gauge(0, open), gauge(1, clean)],
            has_more_partitions: false,
            outbox: None,
        };
        let mut page = Page::default();
        gauges.write(&mut page);
        let text = page.into_text();
        let values = |name: &str| -> Vec<&str> {
            let lines =
                text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix("{topic=\"t\","));
            lines.collect()
        };
        let stable = ["partition=\"0\"} 5", "partition=\"1\"} 9"];
        assert_eq!(values("yagura_partition_last_stable_offset"), stable);
        assert_eq!(values("yagura_partition_clean_end_offset"), ["partition=\"1\"} 4"]);
    }
}
