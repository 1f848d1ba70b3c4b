//! The results of a run, as text or JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::output::{self, Failure};
use super::Latencies;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The results.
pub(super) struct Report {
    /// The verb, as in "sent 10 records".
    pub(super) verb: &'static str,
    pub(super) records: u64,
    pub(super) failed: u64,
    /// Bytes of keys, values and headers.
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
    pub(super) latencies: Latencies,
}

impl Report {
    /// Prints it to stdout.
    pub(super) fn print(&self, as_json: bool) -> Result<(), Failure> {
        if as_json { output::print_json(&self.json()) } else { output::print(&self.text()) }
    }

    fn rates(&self) -> (f64, f64) {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        (self.records as f64 / seconds, self.bytes as f64 / 1e6 / seconds)
    }

    fn text(&self) -> String {
        let (records_per_second, megabytes_per_second) = self.rates();
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let latencies = &self.latencies.0;
        let mut quantiles: Vec<String> = QUANTILES
            .iter()
            .map(|(name, quantile)| {
                format!("{name} {}", milliseconds(latencies.value_at_quantile(*quantile)))
            })
            .collect();
        quantiles.push(format!("max {}", milliseconds(latencies.max())));
        format!(
            "{} {} in {:.2} s{failed}\n{records_per_second:.0} records/s, {megabytes_per_second:.1} MB/s\nlatency: {}\n",
            self.verb,
            output::count(self.records, "record"),
            self.elapsed.as_secs_f64(),
            quantiles.join(", "),
        )
    }

    fn json(&self) -> Value {
        let (records_per_second, megabytes_per_second) = self.rates();
        let latencies = &self.latencies.0;
        let quantiles = QUANTILES
            .iter()
            .map(|(name, quantile)| ((*name).to_owned(), json!(latencies.value_at_quantile(*quantile))));
        let mut quantiles: serde_json::Map<String, Value> = quantiles.collect();
        quantiles.insert("max".to_owned(), json!(latencies.max()));
        json!({
            "records": self.records,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": self.elapsed.as_secs_f64(),
            "records_per_second": records_per_second,
            "megabytes_per_second": megabytes_per_second,
            "latency_us": quantiles,
        })
    }
}

fn milliseconds(us: u64) -> String {
    format!("{:.2} ms", us as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut latencies = Latencies::new().unwrap();
        (1..=1_000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        Report {
            verb: "sent",
            records: 1_000,
            failed: 3,
            bytes: 4_000_000,
            elapsed: Duration::from_secs(2),
            latencies,
        }
    }

    #[test]
    fn people_get_three_lines() {
        let text = report().text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "sent 1000 records in 2.00 s, 3 failed");
        assert_eq!(lines[1], "500 records/s, 2.0 MB/s");
        assert!(lines[2].starts_with("latency: p50 50"), "{}", lines[2]);
    }

    #[test]
    fn programs_get_numbers_with_their_units() {
        let json = report().json();
        assert_eq!(json["records"], 1_000);
        assert_eq!(json["megabytes_per_second"], 2.0);
        let p99 = json["latency_us"]["p99"].as_u64().unwrap();
        assert!((990_000..=991_000).contains(&p99), "{p99}, to three digits");
        assert!(json["latency_us"]["max"].as_u64().unwrap() >= 1_000_000);
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_still_counted() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.0.len(), 2);
    }
}
