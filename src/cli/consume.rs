//! `yagura consume`: prints records to stdout, one per line.
//!
//! Like `cat` it reads to the end and stops; with `--follow`, like `tail -f`, it continues. Output is flushed
//! before waiting for more records, so that a pipe sees each record immediately.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use kernel::records::Record;

use crate::client::consumer::{Assignment, Fetched, Outage, Settings};
use crate::client::{Cluster, Consumer, Isolation};

use super::connect::Connect;
use super::json::Outgoing;
use super::output::{self, Failure};
use super::produce::LineFormat;
use super::start::Start;

const BUFFER_BYTES: usize = 64 << 10;

/// Print records, a line each. Ends at the end of the topic, unless told to follow it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    yagura consume greetings\n  \
    yagura consume scores --from -10 --key-separator : --follow\n  \
    yagura consume payments --isolation read_committed\n  \
    yagura consume orders --format json --from @1767225600000 | jq .value")]
pub(crate) struct Consume {
    /// The topic.
    topic: String,
    /// Where to begin: earliest, latest, an OFFSET, -N (the last N of each partition) or @TIMESTAMP in ms.
    #[arg(long, value_name = "WHERE", default_value = "earliest", allow_hyphen_values = true)]
    from: Start,
    /// Read this partition only; may be given several times.
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// End after this many records.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Wait for new records at the end until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Read all records, or only those that are committed: up to the first open transaction, without aborted ones.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = IsolationArg::ReadUncommitted)]
    isolation: IsolationArg,
    /// Print the key and this before the value. \t is a tab.
    #[arg(long, value_name = "S", value_parser = output::separator)]
    key_separator: Option<String>,
    /// Print the headers and a tab first, as KEY=VALUE,KEY=VALUE.
    #[arg(long)]
    header: bool,
    /// The value as it is, or a JSON object with all fields, as `produce --format json` reads it.
    #[arg(long, value_enum, default_value_t = LineFormat::Value)]
    format: LineFormat,
    /// Text to print for a null key, value or header.
    #[arg(long, value_name = "TEXT", default_value = "null")]
    null_value: String,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum IsolationArg {
    #[value(name = "read_uncommitted")]
    ReadUncommitted,
    #[value(name = "read_committed")]
    ReadCommitted,
}

impl From<IsolationArg> for Isolation {
    fn from(level: IsolationArg) -> Self {
        match level {
            IsolationArg::ReadUncommitted => Isolation::ReadUncommitted,
            IsolationArg::ReadCommitted => Isolation::ReadCommitted,
        }
    }
}

impl Consume {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        if self.format == LineFormat::Json && (self.key_separator.is_some() || self.header) {
            let text = "--key-separator and --header are for lines of text; JSON has key and headers always";
            return Err(Failure::Usage(text.to_owned()));
        }
        let cluster = self.connect.cluster().await?;
        let assignments = self.assignments(&cluster).await?;
        let name = cluster.name();
        let settings = Settings { isolation: self.isolation.into(), ..Settings::default() };
        let mut consumer = Consumer::open(cluster, &self.topic, assignments, settings).await?;
        consumer.on_outage(move |outage| match outage {
            Outage::Began => output::print_error(format!("{name} does not answer; trying again")),
            Outage::Ended => output::print_error(format!("{name} answers again")),
        });
        let mut output = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
        let copied = tokio::select! {
            copied = self.copy(&mut consumer, &mut output) => copied,
            () = output::reader_gone() => Err(Failure::BrokenPipe),
        };
        // Records read before a failure are still printed.
        output.flush()?;
        copied.map(|()| ExitCode::SUCCESS)
    }

    /// The offsets to read of each partition.
    async fn assignments(&self, cluster: &Arc<Cluster>) -> Result<Vec<Assignment>, Failure> {
        let topic = cluster.topic(&self.topic).await?;
        let mut partitions = self.partition.clone();
        if partitions.is_empty() {
            partitions = topic.partitions.iter().map(|partition| partition.index).collect();
        }
        partitions.sort_unstable();
        partitions.dedup();
        let isolation = Isolation::from(self.isolation);
        let all = cluster.ends(&self.topic, &partitions).await?;
        let ends = match isolation {
            Isolation::ReadUncommitted => all.clone(),
            Isolation::ReadCommitted => cluster.ends_as(&self.topic, &partitions, isolation).await?,
        };
        if let Some(sentence) = self.held_back(&partitions, &ends, &all) {
            output::print_error(sentence);
        }
        // An offset behind the last stable one is there, too: what follows it comes once it is committed.
        let bounds = if matches!(self.from, Start::Offset(_)) { all } else { ends.clone() };
        let times = match self.from {
            Start::Timestamp(at) => {
                let asked: Vec<(i32, i64)> = partitions.iter().map(|partition| (*partition, at)).collect();
                cluster.list_offsets_as(&self.topic, &asked, isolation).await?
            }
            _ => vec![None; partitions.len()],
        };
        let mut assignments = Vec::with_capacity(partitions.len());
        let places = partitions.into_iter().zip(ends).zip(bounds).zip(times);
        for (((partition, (_, end)), (earliest, latest)), at_time) in places {
            let offset = self.from.offset(earliest, latest, at_time).map_err(|reason| {
                Failure::Failed(format!("partition {partition} of topic {:?}: {reason}", self.topic))
            })?;
            assignments.push(Assignment { partition, offset, until: (!self.follow).then_some(end) });
        }
        Ok(assignments)
    }

    /// Says that an open transaction holds records back, if so: silence would look as if they were not there.
    fn held_back(&self, partitions: &[i32], ends: &[(i64, i64)], all: &[(i64, i64)]) -> Option<String> {
        let places = partitions.iter().zip(ends).zip(all);
        let mut held = places.filter(|((_, (_, stable)), (_, latest))| stable < latest);
        let ((partition, (_, stable)), (_, latest)) = held.next()?;
        let more = match held.count() {
            0 => String::new(),
            more => format!(", and so in {more} more"),
        };
        let topic = &self.topic;
        Some(format!(
            "offsets {stable} to {} of partition {partition} are held back by an open transaction{more}; `yagura txn open --topic {topic}` shows whose",
            latest - 1
        ))
    }

    async fn copy(&self, consumer: &mut Consumer, output: &mut impl Write) -> Result<(), Failure> {
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(fetched) = consumer.poll().await? else { return Ok(()) };
            for part in &fetched {
                left -= self.write_all(part, left, output)?;
            }
            output.flush()?;
        }
        Ok(())
    }

    /// Writes at most `limit` records, and returns how many.
    fn write_all(&self, part: &Fetched, limit: u64, output: &mut impl Write) -> Result<u64, Failure> {
        let mut written = 0;
        let mut records = part.records();
        while written < limit
            && let Some(record) = records.next()
        {
            self.write(part.partition, &record?, output)?;
            written += 1;
        }
        Ok(written)
    }

    fn write(&self, partition: i32, record: &Record, output: &mut impl Write) -> io::Result<()> {
        match self.format {
            LineFormat::Json => {
                let line = Outgoing { topic: &self.topic, partition, record };
                serde_json::to_writer(&mut *output, &line)?;
            }
            LineFormat::Value => self.write_text(record, output)?,
        }
        output.write_all(b"\n")
    }

    fn write_text(&self, record: &Record, output: &mut impl Write) -> io::Result<()> {
        let null = self.null_value.as_bytes();
        if self.header {
            for (index, header) in record.headers.iter().enumerate() {
                if index > 0 {
                    output.write_all(b",")?;
                }
                output.write_all(&header.key)?;
                output.write_all(b"=")?;
                output.write_all(header.value.as_deref().unwrap_or(null))?;
            }
            output.write_all(b"\t")?;
        }
        if let Some(separator) = &self.key_separator {
            output.write_all(record.key.as_deref().unwrap_or(null))?;
            output.write_all(separator.as_bytes())?;
        }
        output.write_all(record.value.as_deref().unwrap_or(null))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clap::Parser;
    use kernel::records::RecordHeader;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        consume: Consume,
    }

    /// The output of a command line for one record.
    fn printed(options: &str, record: &Record) -> String {
        let words = format!("consume t {options}");
        let line = Line::try_parse_from(words.split_whitespace()).unwrap();
        let mut output = Vec::new();
        line.consume.write(3, record, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn all_records_are_read_unless_committed_ones_are_asked_for() {
        let level = |words: &str| {
            let line = Line::try_parse_from(words.split_whitespace()).ok()?;
            Some(Isolation::from(line.consume.isolation))
        };
        assert_eq!(level("consume t"), Some(Isolation::ReadUncommitted));
        assert_eq!(level("consume t --isolation read_uncommitted"), Some(Isolation::ReadUncommitted));
        assert_eq!(level("consume t --isolation read_committed"), Some(Isolation::ReadCommitted));
        assert_eq!(level("consume t --isolation serializable"), None);
    }

    #[test]
    fn what_a_transaction_holds_back_is_said() {
        let line = Line::try_parse_from("consume orders".split_whitespace()).unwrap();
        let said = |stable: [i64; 3]| {
            let ends = stable.map(|stable| (0, stable));
            line.consume.held_back(&[0, 1, 2], &ends, &[(0, 10), (0, 10), (0, 10)])
        };
        assert_eq!(said([10, 10, 10]), None);
        let one = "offsets 8 to 9 of partition 1 are held back by an open transaction";
        let rest = "; `yagura txn open --topic orders` shows whose";
        assert_eq!(said([10, 8, 10]), Some(format!("{one}{rest}")));
        assert_eq!(said([10, 8, 0]), Some(format!("{one}, and so in 1 more{rest}")));
    }

    #[test]
    fn records_are_printed_as_asked() {
        let header = |key: &'static str, value: Option<&'static str>| RecordHeader {
            key: Bytes::from_static(key.as_bytes()),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
        };
        let mut record = Record {
            offset: 7,
            timestamp: 1_000,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers: vec![header("a", Some("1")), header("b", None)],
        };
        assert_eq!(printed("", &record), "v\n");
        assert_eq!(printed("--key-separator :", &record), "k:v\n");
        assert_eq!(printed("--header --key-separator \\t", &record), "a=1,b=null\tk\tv\n");
        assert!(
            printed("--format json", &record).starts_with("{\"topic\":\"t\",\"partition\":3,\"offset\":7,")
        );
        record.value = None;
        assert_eq!(printed("", &record), "null\n");
        assert_eq!(printed("--null-value NIL", &record), "NIL\n");
        record.value = Some(Bytes::new());
        assert_eq!(printed("", &record), "\n");
    }
}
