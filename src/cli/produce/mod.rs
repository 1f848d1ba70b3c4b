//! `yagura produce`: sends a record for each line of stdin.
//!
//! Memory is bounded: lines are read only while the producer has room for them.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, ValueEnum};
use kernel::clock::{Clock, SystemClock};
use kernel::records::{Codec, NewRecord};

use crate::client::Producer;
use crate::client::producer::{Acks, Delivery, Settings};

use super::connect::Connect;
use super::json;
use super::output::{self, Failure};

mod lines;

use lines::{Chunk, Lines};

/// Most failures that are reported individually; further ones are only counted.
const REPORTED_MAX: u64 = 10;

/// Send each line of stdin as a record. Exits with 1 if any could not be delivered.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    echo hello | yagura produce greetings\n  \
    printf 'alice:12\\nbob:7\\n' | yagura produce scores --key-separator :\n  \
    yagura consume orders --format json | yagura produce copy --format json --bootstrap other:9092\n  \
      (make `copy` first, with as many partitions: each record goes to the partition that it is from)")]
pub(crate) struct Produce {
    /// The topic.
    topic: String,
    /// The separator of key and value in a line; without it a line is a value. \t is a tab.
    #[arg(long, value_name = "S", value_parser = output::separator)]
    key_separator: Option<String>,
    /// A header for every record; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = output::pair)]
    header: Vec<(String, String)>,
    /// Send to this partition [default: by the key's hash, or one batch at a time without a key].
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Required acknowledgements: none, the leader's, or all in-sync replicas'.
    #[arg(long, value_enum, default_value_t = AcksArg::All)]
    acks: AcksArg,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// What a line is: a value, or a JSON object with "key", "value", "headers", "partition", "timestamp".
    #[arg(long, value_enum, default_value_t = LineFormat::Value)]
    format: LineFormat,
    /// A key or value of this text is sent as null; a null value is a tombstone.
    #[arg(long, value_name = "TEXT")]
    null_value: Option<String>,
    /// Print neither the summary nor, on a terminal, how to end.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineFormat {
    Value,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

impl AcksArg {
    pub(crate) fn acks(self) -> Acks {
        match self {
            AcksArg::None => Acks::None,
            AcksArg::Leader => Acks::Leader,
            AcksArg::All => Acks::All,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub(crate) fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }
}

/// What is read from stdin.
struct Input {
    lines: Lines,
    /// Lines that have been read already.
    first: Option<Chunk>,
    /// The number of the last line.
    number: u64,
}

impl Input {
    fn new(lines: Lines) -> Self {
        Self { lines, first: None, number: 0 }
    }

    /// The next lines; `None` at the end. It may be dropped at any time.
    async fn next(&mut self) -> Option<io::Result<Chunk>> {
        match self.first.take() {
            Some(chunk) => Some(Ok(chunk)),
            None => self.lines.next().await,
        }
    }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::Failed(format!("cannot read stdin: {error}"))
}

/// Counts for the summary.
#[derive(Debug, Default)]
struct Tally {
    delivered: u64,
    failed: u64,
    bytes: u64,
}

impl Produce {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        if self.format == LineFormat::Json && (self.key_separator.is_some() || self.null_value.is_some()) {
            let text =
                "--key-separator and --null-value are for lines of text; JSON has keys and null of its own";
            return Err(Failure::Usage(text.to_owned()));
        }
        let cluster = self.connect.cluster().await?;
        let acks = self.acks.acks();
        let settings = Settings {
            acks,
            codec: self.compression.codec(),
            is_idempotent: acks == Acks::All,
            delivery_timeout: self.connect.timeout(),
            may_create_topic: true,
            ..Settings::default()
        };
        if io::stdin().is_terminal() && !self.quiet {
            output::print_error(format!("each line is a record for topic {:?}; end with Ctrl-D", self.topic));
        }
        let mut tally = Tally::default();
        let mut input = Input::new(Lines::of(io::stdin()));
        // Looking the topic up may create it, which without a record nobody has asked for.
        let mut producer = if self.skip_to_record(&mut input, &mut tally).await? {
            Some(Producer::open(cluster, &self.topic, settings).await?)
        } else {
            None
        };
        let started = Instant::now();
        let (mut read, mut flushed) = (Ok(()), Ok(()));
        if let Some(producer) = &mut producer {
            read = self.feed(producer, &mut tally, input).await;
            flushed = producer.flush().await;
            tally.take(producer.take_deliveries());
        }
        if !self.quiet {
            let elapsed = started.elapsed().as_secs_f64();
            let text = tally.summary(&self.topic, producer.as_ref().map(Producer::partition_count), elapsed);
            // A closed stderr is ignored: there is no other output for the message.
            let _ = writeln!(io::stderr(), "{text}");
        }
        read?;
        flushed?;
        Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Reads up to the first lines of which one is a record; reports the lines before them. Returns whether there is one.
    async fn skip_to_record(&self, input: &mut Input, tally: &mut Tally) -> Result<bool, Failure> {
        while let Some(chunk) = input.next().await {
            let chunk = chunk.map_err(unreadable)?;
            if chunk.lines().any(|line| self.check(line).is_ok()) {
                input.first = Some(chunk);
                return Ok(true);
            }
            for line in chunk.lines() {
                input.number += 1;
                if let Err(error) = self.check(line) {
                    tally.fail(1, format!("line {}: {error}", input.number));
                }
            }
        }
        Ok(false)
    }

    /// Sends all lines; those that cannot be sent are reported, counted and skipped.
    async fn feed(
        &self,
        producer: &mut Producer,
        tally: &mut Tally,
        mut input: Input,
    ) -> Result<(), Failure> {
        loop {
            tokio::select! {
                chunk = input.next(), if producer.has_room() => {
                    let Some(chunk) = chunk else { return Ok(()) };
                    let chunk = chunk.map_err(unreadable)?;
                    for line in chunk.lines() {
                        input.number += 1;
                        if let Err(error) = self.send(producer, line) {
                            tally.fail(1, format!("line {}: {error}", input.number));
                        }
                    }
                    producer.turn().await;
                }
                () = producer.drive() => {}
            }
            tally.take(producer.take_deliveries());
        }
    }

    /// Whether a line is a record.
    fn check(&self, line: &[u8]) -> Result<(), String> {
        match self.format {
            LineFormat::Json => json::parse(line).map(drop),
            LineFormat::Value => self.key_and_value(line).map(drop),
        }
    }

    fn send(&self, producer: &mut Producer, line: &[u8]) -> Result<(), String> {
        match self.format {
            LineFormat::Json => self.send_json(producer, line),
            LineFormat::Value => self.send_value(producer, line),
        }
    }

    fn send_json(&self, producer: &mut Producer, line: &[u8]) -> Result<(), String> {
        let record = json::parse(line)?;
        let mut headers = self.headers();
        headers.extend(record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
        let record_out = NewRecord {
            timestamp: record.timestamp.unwrap_or_else(|| SystemClock.now_ms()),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let partition = self.partition.or(record.partition);
        producer.push(record_out, partition).map_err(|error| error.to_string())
    }

    fn send_value(&self, producer: &mut Producer, line: &[u8]) -> Result<(), String> {
        let (key, value) = self.key_and_value(line)?;
        let null = self.null_value.as_deref().map(str::as_bytes);
        let record = NewRecord {
            timestamp: SystemClock.now_ms(),
            key: key.filter(|key| Some(*key) != null),
            value: Some(value).filter(|value| Some(*value) != null),
            headers: &self.headers(),
        };
        producer.push(record, self.partition).map_err(|error| error.to_string())
    }

    fn key_and_value<'a>(&self, line: &'a [u8]) -> Result<(Option<&'a [u8]>, &'a [u8]), String> {
        match &self.key_separator {
            None => Ok((None, line)),
            Some(separator) => split(line, separator.as_bytes())
                .map(|(key, value)| (Some(key), value))
                .ok_or_else(|| format!("there is no key separator {separator:?} in it")),
        }
    }

    fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.header.iter().map(|(key, value)| (key.as_str(), Some(value.as_bytes()))).collect()
    }
}

/// The parts before and after the first separator.
fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

impl Tally {
    fn take(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let records = delivery.pushed.len() as u64;
            match delivery.outcome {
                Ok(_) => {
                    self.delivered += records;
                    self.bytes += delivery.bytes as u64;
                }
                Err(error) => {
                    let lost = output::count(records, "record");
                    self.fail(records, format!("{lost} not delivered: {error}"));
                }
            }
        }
    }

    fn fail(&mut self, records: u64, text: String) {
        if self.failed < REPORTED_MAX {
            output::print_error(text);
        }
        self.failed += records;
    }

    /// Without a record, nobody has asked for the topic's partitions.
    fn summary(&self, topic: &str, partitions: Option<usize>, seconds: f64) -> String {
        let delivered = output::count(self.delivered, "record");
        let partitions = partitions.map(|count| format!(" ({})", output::count(count as u64, "partition")));
        let partitions = partitions.unwrap_or_default();
        let megabytes = self.bytes as f64 / 1e6;
        let failed = self.failed;
        format!(
            "{delivered} to topic {topic:?}{partitions}, {failed} failed, {megabytes:.1} MB in {seconds:.1} s"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_its_first_separator() {
        assert_eq!(split(b"k:v:w", b":"), Some((&b"k"[..], &b"v:w"[..])));
        assert_eq!(split(b"::v", b"::"), Some((&b""[..], &b"v"[..])));
        assert_eq!(split(b"k", b":"), None);
        assert_eq!(split(b"", b"=>"), None);
    }

    #[test]
    fn the_summary_counts_both_sides() {
        let tally = Tally { delivered: 1, failed: 2, bytes: 1_500_000 };
        assert_eq!(
            tally.summary("t", Some(3), 0.5),
            "1 record to topic \"t\" (3 partitions), 2 failed, 1.5 MB in 0.5 s"
        );
        assert!(tally.summary("t", None, 0.5).starts_with("1 record to topic \"t\", 2 failed"));
    }
}
