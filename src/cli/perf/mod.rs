//! `yagura perf`: throughput and latency of producing, consuming and round trips.
//!
//! The client usually runs on the broker's machine, so the figures include the load of both.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use kernel::ErrorCode;
use kernel::units::{ByteSize, Span};

use crate::client::Cluster;

use super::connect::Connect;
use super::output::{self, Failure, Format};
use super::produce::{AcksArg, Compression};

mod consume;
mod produce;
mod report;
mod roundtrip;

/// The largest recorded latency; longer ones count as this.
const LATENCY_US_MAX: u64 = 3_600_000_000;

const BAR: &str = "{msg} [{bar:40}] {human_pos} of {human_len}, {rate}, {eta} left";

/// Measure throughput and latency.
#[derive(Debug, Args)]
pub(crate) struct Perf {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Produce(ProducePerf),
    Consume(ConsumePerf),
    Roundtrip(RoundtripPerf),
}

/// Send records as fast as the broker takes them; latency is from the send to the acknowledgement.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura perf produce bench --records 1000000 --size 1KiB --partitions 4")]
struct ProducePerf {
    /// The topic.
    topic: String,
    /// How many records to send.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// The size of a record's value.
    #[arg(long, value_name = "BYTES", default_value = "1KiB")]
    size: ByteSize,
    /// Required acknowledgements: none, the leader's, or all in-sync replicas'.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// Create the topic with this many partitions, if it does not exist.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How long a batch that is not full waits for more records.
    #[arg(long, value_name = "TIME", default_value = "5ms")]
    linger: Span,
    /// A batch is full at this size.
    #[arg(long, value_name = "BYTES", default_value = "64KiB")]
    batch: ByteSize,
    /// Use an idempotent producer; needs --acks all.
    #[arg(long)]
    idempotent: bool,
    /// Send no more than this many records a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    throughput: Option<u64>,
    #[command(flatten)]
    output: ReportFormat,
    #[command(flatten)]
    connect: Connect,
}

/// Read a topic from its start as fast as the broker gives it out; latency is from one answer to the next.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura perf consume bench --records 1000000 --format json")]
struct ConsumePerf {
    /// The topic.
    topic: String,
    /// End after this many records [default: all that are there].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    #[command(flatten)]
    output: ReportFormat,
    #[command(flatten)]
    connect: Connect,
}

/// Send single records to partition 0 and time them until a consumer that waits there has them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura perf roundtrip bench --records 10000 --rate 1000")]
struct RoundtripPerf {
    /// The topic.
    topic: String,
    /// How many records to send.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// The size of a record's value.
    #[arg(long, value_name = "BYTES", default_value = "100B")]
    size: ByteSize,
    /// Send this many records a second [default: each once the one before it has arrived].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    #[command(flatten)]
    output: ReportFormat,
    #[command(flatten)]
    connect: Connect,
}

/// How the figures are printed.
#[derive(Debug, Args)]
struct ReportFormat {
    /// Lines for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// What `--format json` was called before.
    #[arg(long, hide = true, conflicts_with = "format")]
    json: bool,
}

impl ReportFormat {
    fn chosen(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

impl Perf {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Produce(args) => args.run().await,
            Verb::Consume(args) => args.run().await,
            Verb::Roundtrip(args) => args.run().await,
        }
    }
}

/// Creates the topic unless it exists; fails if it has another number of partitions, which would change the
/// measurement.
async fn ensure_topic(cluster: &Arc<Cluster>, name: &str, partitions: Option<i32>) -> Result<(), Failure> {
    let Some(wanted) = partitions else { return Ok(()) };
    match cluster.create_topic(name, Some(wanted), &[]).await {
        Ok(()) => Ok(()),
        Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {
            let present = cluster.topic(name).await?.partitions.len();
            if i32::try_from(present) == Ok(wanted) {
                Ok(())
            } else {
                Err(Failure::Failed(format!(
                    "topic {name:?} exists and has {}, not {wanted}; leave --partitions out or name another topic",
                    output::count(present as u64, "partition")
                )))
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Latencies in microseconds, to three digits.
#[derive(Debug)]
struct Latencies(Histogram<u64>);

impl Latencies {
    fn new() -> Result<Self, Failure> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        histogram.map(Self).map_err(|error| Failure::Failed(format!("cannot keep latencies: {error}")))
    }

    fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(us.clamp(1, LATENCY_US_MAX));
    }
}

/// Random letters; each record's value is a slice of them. Consecutive records differ, because equal ones
/// would compress to almost nothing.
struct Payload {
    letters: Vec<u8>,
    size: usize,
    at: usize,
}

impl Payload {
    fn new(size: ByteSize) -> Self {
        let size = size.as_usize();
        let mut word = 0x9e37_79b9_7f4a_7c15u64;
        let letters = (0..size + (64 << 10)).map(|_| {
            // Xorshift: any numbers that do not compress will do.
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            b'A' + (word % 26) as u8
        });
        Self { letters: letters.collect(), size, at: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.at = (self.at + 31) % (self.letters.len() - self.size);
        &self.letters[self.at..self.at + self.size]
    }
}

/// When the `number`th record is due at `rate` per second.
fn due(started: Instant, number: u64, rate: u64) -> Instant {
    started + Duration::from_secs_f64(number as f64 / rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_differ() {
        let mut payload = Payload::new(ByteSize(100));
        let first = payload.next().to_vec();
        assert_eq!(first.len(), 100);
        assert!(first.iter().all(u8::is_ascii_uppercase));
        assert_ne!(payload.next(), first);
        assert!(Payload::new(ByteSize(0)).next().is_empty());
    }

    #[test]
    fn a_rate_is_kept_over_any_time() {
        let started = Instant::now();
        assert_eq!(due(started, 500, 1_000), started + Duration::from_millis(500));
        assert_eq!(due(started, 0, 7), started);
    }
}
