//! `yagura perf produce`.

use std::process::ExitCode;
use std::time::Instant;

use indicatif::ProgressBar;
use kernel::clock::{Clock, SystemClock};
use kernel::records::NewRecord;

use crate::client::Producer;
use crate::client::producer::Settings;

use super::super::output::{self, Failure};
use super::report::Report;
use super::{BAR, Latencies, Payload, ProducePerf, due, ensure_topic};

/// Most failures that are reported, since every record may fail.
const REPORTED_MAX: u64 = 5;

impl ProducePerf {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        ensure_topic(&cluster, &self.topic, self.partitions).await?;
        let mut producer = Producer::open(cluster, &self.topic, self.settings()).await?;
        let bar = output::progress(self.records, BAR).with_message("sent");
        let mut tally = Tally { bar: &bar, delivered: 0, failed: 0, bytes: 0, latencies: Latencies::new()? };
        let started = Instant::now();
        self.send_all(&mut producer, &mut tally, started).await?;
        producer.flush().await?;
        tally.take(&mut producer);
        let elapsed = started.elapsed();
        let Tally { delivered, failed, bytes, latencies, .. } = tally;
        bar.finish_and_clear();
        let report = Report { verb: "sent", records: delivered, failed, bytes, elapsed, latencies };
        report.print(self.output.chosen())?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn settings(&self) -> Settings {
        Settings {
            acks: self.acks.acks(),
            codec: self.compression.codec(),
            linger: self.linger.0,
            batch_bytes: self.batch.as_usize(),
            is_idempotent: self.idempotent,
            delivery_timeout: self.connect.timeout(),
            may_create_topic: true,
            ..Settings::default()
        }
    }

    async fn send_all(
        &self,
        producer: &mut Producer,
        tally: &mut Tally<'_>,
        started: Instant,
    ) -> Result<(), Failure> {
        let mut payload = Payload::new(self.size);
        for number in 0..self.records {
            if let Some(rate) = self.throughput {
                wait_until(due(started, number, rate), producer).await;
            }
            while !producer.has_room() {
                producer.drive().await;
                tally.take(producer);
            }
            let record = NewRecord {
                timestamp: SystemClock.now_ms(),
                value: Some(payload.next()),
                ..NewRecord::default()
            };
            producer.push(record, None)?;
            if producer.has_full_batch() {
                producer.turn().await;
                tally.take(producer);
            }
        }
        Ok(())
    }
}

async fn wait_until(due: Instant, producer: &mut Producer) {
    let due = tokio::time::Instant::from_std(due);
    while tokio::time::Instant::now() < due {
        // When the next record is due, sending is left to the next iteration.
        let _ = tokio::time::timeout_at(due, producer.drive()).await;
    }
}

struct Tally<'a> {
    bar: &'a ProgressBar,
    delivered: u64,
    failed: u64,
    bytes: u64,
    latencies: Latencies,
}

impl Tally<'_> {
    fn take(&mut self, producer: &mut Producer) {
        for delivery in producer.take_deliveries() {
            let records = delivery.pushed.len() as u64;
            match delivery.outcome {
                Ok(_) => {
                    self.delivered += records;
                    self.bytes += delivery.bytes as u64;
                    for pushed in delivery.pushed {
                        self.latencies.record(delivery.settled.duration_since(pushed));
                    }
                }
                Err(error) => {
                    if self.failed < REPORTED_MAX {
                        self.bar.suspend(|| output::print_error(error));
                    }
                    self.failed += records;
                }
            }
            self.bar.inc(records);
        }
    }
}
