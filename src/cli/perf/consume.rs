//! `yagura perf consume`.

use std::process::ExitCode;
use std::time::Instant;

use crate::client::Consumer;
use crate::client::consumer::{Assignment, Settings};
use kernel::records::Record;

use super::super::output::{self, Failure};
use super::report::Report;
use super::{BAR, ConsumePerf, Latencies};

impl ConsumePerf {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let topic = cluster.topic(&self.topic).await?;
        let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
        let ends = cluster.ends(&self.topic, &partitions).await?;
        let present: i64 = ends.iter().map(|(earliest, latest)| latest - earliest).sum();
        let present = u64::try_from(present).unwrap_or(0);
        let wanted = self.records.unwrap_or(present);
        if present < wanted {
            let present = output::count(present, "record");
            let text = format!(
                "topic {:?} has {present}, not {wanted}; fill it with `yagura perf produce`",
                self.topic
            );
            return Err(Failure::Failed(text));
        }
        let assignments = partitions.into_iter().zip(ends).map(|(partition, (earliest, latest))| {
            Assignment { partition, offset: earliest, until: Some(latest) }
        });
        let mut consumer =
            Consumer::open(cluster, &self.topic, assignments.collect(), Settings::default()).await?;
        let report = measure(&mut consumer, wanted).await?;
        report.print(self.output.chosen())?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn measure(consumer: &mut Consumer, wanted: u64) -> Result<Report, Failure> {
    let bar = output::progress(wanted, BAR).with_message("read");
    let mut latencies = Latencies::new()?;
    let (mut records, mut bytes) = (0u64, 0u64);
    let started = Instant::now();
    while records < wanted {
        let asked = Instant::now();
        let Some(fetched) = consumer.poll().await? else { break };
        latencies.record(asked.elapsed());
        for part in &fetched {
            for record in part.records() {
                bytes += size(&record?);
                records += 1;
            }
        }
        bar.set_position(records);
    }
    let elapsed = started.elapsed();
    bar.finish_and_clear();
    Ok(Report { verb: "read", records, failed: 0, bytes, elapsed, latencies })
}

/// The size of a record: key, value and headers.
fn size(record: &Record) -> u64 {
    let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers = record.headers.iter().map(|header| header.key.len() + length(&header.value));
    (length(&record.key) + length(&record.value) + headers.sum::<usize>()) as u64
}
