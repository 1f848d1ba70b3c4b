//! Counters and histograms, and their Prometheus text format.
//!
//! Each component owns its metrics and writes them on request ([`Collect`]); there is no global registry. The
//! text is Prometheus' exposition format, version 0.0.4.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A monotonic counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram with fixed bucket bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One count per bound, and one for values above the last.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// Bounds for durations in microseconds, from 50 us to 10 s.
pub const LATENCY_US_BOUNDS: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000,
];

/// Bounds for sizes in bytes, from 1 KiB to 64 MiB.
pub const SIZE_BYTES_BOUNDS: &[u64] =
    &[1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26];

impl Histogram {
    /// An empty histogram over ascending bounds.
    pub fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts one value.
    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// A component that has metrics.
pub trait Collect: Send + Sync {
    /// Writes the current values.
    fn collect(&self, page: &mut Page);
}

/// The kind of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A counter: only goes up.
    Counter,
    /// A gauge: goes up and down.
    Gauge,
    /// A histogram.
    Histogram,
}

/// A page of metrics in Prometheus' text format.
#[derive(Debug, Default)]
pub struct Page {
    /// Name and lines of each family: the format requires a family's lines to be contiguous, whichever
    /// component writes them.
    families: Vec<(String, String)>,
    /// Index of each family by name: clients can cause many.
    places: HashMap<String, usize>,
    current: usize,
}

impl Page {
    /// Starts or continues a family; the samples that follow belong to it.
    pub fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        if let Some(known) = self.places.get(name) {
            self.current = *known;
            return;
        }
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        self.current = self.families.len();
        self.places.insert(name.to_owned(), self.current);
        self.families.push((name.to_owned(), format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")));
    }

    /// One sample of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, None, value);
    }

    /// A histogram of the family. `per_unit` recorded units are one exposed unit (1,000,000 for microseconds, shown as
    /// seconds).
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram, per_unit: u64) {
        // The quotient is the nearest number to the decimal that is meant, so it is written with few digits. The product
        // with a fraction would not be.
        let exposed = |recorded: u64| recorded as f64 / per_unit as f64;
        let mut below = 0;
        for (index, count) in histogram.counts.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            let bound =
                histogram.bounds.get(index).map_or("+Inf".to_owned(), |bound| exposed(*bound).to_string());
            self.line("_bucket", labels, Some(&bound), below as f64);
        }
        self.line("_sum", labels, None, exposed(histogram.sum.load(Ordering::Relaxed)));
        self.line("_count", labels, None, below as f64);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], le: Option<&str>, value: f64) {
        // A sample before any family has no name to go under.
        let Some((family, text)) = self.families.get_mut(self.current) else { return };
        let _ = write!(text, "{family}{suffix}");
        let all = labels.iter().copied().chain(le.map(|bound| ("le", bound)));
        for (index, (name, value)) in all.enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(text, "{open}{name}=\"{escaped}\"");
        }
        let close = if labels.is_empty() && le.is_none() { "" } else { "}" };
        let _ = writeln!(text, "{close} {value}");
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.families.into_iter().map(|(_, text)| text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let histogram = Histogram::new(&[10, 100]);
        [5, 10, 50, 5_000].into_iter().for_each(|value| histogram.record(value));
        let mut page = Page::default();
        page.family("a_total", MetricKind::Counter, "Things.");
        page.sample(&[("who", "a \"b\"")], 3.0);
        page.family("t_seconds", MetricKind::Histogram, "Times.");
        page.histogram(&[], &histogram, 1_000);
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total{who=\"a \\\"b\\\"\"} 3\n\
             # HELP t_seconds Times.\n# TYPE t_seconds histogram\n\
             t_seconds_bucket{le=\"0.01\"} 2\nt_seconds_bucket{le=\"0.1\"} 3\nt_seconds_bucket{le=\"+Inf\"} 4\n\
             t_seconds_sum 5.065\nt_seconds_count 4\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn bounds_are_short_decimals() {
        let histogram = Histogram::new(LATENCY_US_BOUNDS);
        [7, 31, 49].into_iter().for_each(|us| histogram.record(us));
        let mut page = Page::default();
        page.family("t_seconds", MetricKind::Histogram, "Times.");
        page.histogram(&[], &histogram, 1_000_000);
        let text = page.into_text();
        let buckets = text.lines().filter_map(|line| line.strip_prefix("t_seconds_bucket{le=\""));
        let bounds: Vec<&str> = buckets.filter_map(|rest| rest.split('"').next()).collect();
        let expected = "0.00005 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 1 10 +Inf";
        assert_eq!(bounds.join(" "), expected);
        assert!(text.contains("t_seconds_sum 0.000087\n"), "{text}");
    }
}
