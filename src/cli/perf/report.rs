//! The results of a run, as text or JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::output::{self, Failure, Format};
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
    pub(super) fn print(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Text => output::print(&self.text()),
            Format::Json => output::print_json(&self.json()),
        }
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
        let (verb, seconds, latencies) = (self.verb, self.elapsed.as_secs_f64(), &self.latencies.0);
        if self.records == 0 {
            return format!("{verb} no records in {seconds:.2} s{failed}\n");
        }
        let mut quantiles: Vec<String> = QUANTILES
            .iter()
            .map(|(name, quantile)| {
                format!("{name} {}", milliseconds(latencies.value_at_quantile(*quantile)))
            })
            .collect();
        quantiles.push(format!("max {}", milliseconds(latencies.max())));
        format!(
            "{verb} {} in {seconds:.2} s{failed}\n{records_per_second:.0} records/s, {megabytes_per_second:.1} MB/s\nlatency: {}\n",
            output::count(self.records, "record"),
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
        // Without a record there was no latency, which is not one of 0.
        let quantiles = Some(quantiles).filter(|_| self.records > 0);
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
    fn without_a_record_there_is_no_latency() {
        let mut empty = report();
        (empty.records, empty.failed, empty.bytes) = (0, 0, 0);
        empty.latencies = Latencies::new().unwrap();
        assert_eq!(empty.text(), "sent no records in 2.00 s\n");
        assert_eq!(empty.json()["latency_us"], Value::Null);
        empty.failed = 3;
        assert_eq!(empty.text(), "sent no records in 2.00 s, 3 failed\n");
    }

    #[test]
    fn a_latency_beyond_all_bounds_is_still_counted() {
        let mut latencies = Latencies::new().unwrap();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::MAX);
        assert_eq!(latencies.0.len(), 2);
    }
}
