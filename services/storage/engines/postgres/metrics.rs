//! What `/metrics` shows of the connections to the server, and of what they read.

use std::time::Duration;

use kernel::metrics::{Histogram, LATENCY_US_BOUNDS, MetricKind, Page};

use super::pool::Pool;

/// What a read is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Documents, by key or by prefix.
    Documents,
    /// The sizes of partitions.
    Sizes,
    /// Batches, for Fetch.
    Batches,
    /// The rest of a reply, while it is sent.
    Pieces,
    /// Batches by their time.
    LookUp,
    /// What retention deletes, or compaction cleans.
    Due,
    /// What was deleted.
    Garbage,
    /// Messages sent by SQL.
    Outbox,
}

impl Purpose {
    /// All, in the order of their numbers.
    const ALL: [(Purpose, &'static str); 8] = [
        (Purpose::Documents, "documents"),
        (Purpose::Sizes, "sizes"),
        (Purpose::Batches, "batches"),
        (Purpose::Pieces, "pieces"),
        (Purpose::LookUp, "look_up"),
        (Purpose::Due, "due"),
        (Purpose::Garbage, "garbage"),
        (Purpose::Outbox, "outbox"),
    ];
}

/// How long reads took, by their purpose.
pub(super) struct ReadTimes([Histogram; Purpose::ALL.len()]);

impl ReadTimes {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Histogram::new(LATENCY_US_BOUNDS)))
    }

    pub(super) fn took(&self, purpose: Purpose, time: Duration) {
        self.0[purpose as usize].record(time.as_micros() as u64);
    }

    /// Writes them.
    pub(super) fn collect(&self, page: &mut Page) {
        let help = "Time that a read in Postgres took, by its purpose. It may have several queries; the wait for a connection is not in it.";
        page.family("yagura_postgres_read_seconds", MetricKind::Histogram, help);
        for (purpose, name) in Purpose::ALL {
            page.histogram(&[("purpose", name)], &self.0[purpose as usize], 1_000_000);
        }
    }
}

/// Writes how many connections of each pool are in use.
pub(super) fn collect_pools(page: &mut Page, pools: [(&str, &Pool); 2]) {
    let help = "Connections to Postgres for reads, by pool: in use, open and idle, and at most.";
    page.family("yagura_postgres_connections", MetricKind::Gauge, help);
    for (name, pool) in pools {
        let usage = pool.usage();
        for (state, count) in [("busy", usage.busy), ("idle", usage.idle), ("limit", usage.limit)] {
            page.sample(&[("pool", name), ("state", state)], count as f64);
        }
    }
    let help = "Reads that wait for a connection to Postgres.";
    page.family("yagura_postgres_waiting", MetricKind::Gauge, help);
    for (name, pool) in pools {
        page.sample(&[("pool", name)], pool.usage().waiting as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_has_its_own_times() {
        let times = ReadTimes::new();
        for (index, (purpose, _)) in Purpose::ALL.iter().enumerate() {
            assert_eq!(*purpose as usize, index);
            (0..=index).for_each(|_| times.took(*purpose, Duration::from_millis(2)));
        }
        let mut page = Page::default();
        times.collect(&mut page);
        let text = page.into_text();
        for (index, (_, name)) in Purpose::ALL.iter().enumerate() {
            let line = format!("yagura_postgres_read_seconds_count{{purpose=\"{name}\"}} {}\n", index + 1);
            assert!(text.contains(&line), "{line}");
        }
    }
}
