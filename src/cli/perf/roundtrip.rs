//! `yagura perf roundtrip`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use kernel::clock::{Clock, SystemClock};
use kernel::records::NewRecord;

use crate::client::consumer::{self, Assignment, Fetched};
use crate::client::{Consumer, Producer, producer};

use super::super::output::{self, Failure};
use super::report::Report;
use super::{BAR, Latencies, Payload, RoundtripPerf, due};

/// The partition that is used: one is enough for latency.
const PARTITION: i32 = 0;

/// How long to wait for the consumer's first fetch to park at the broker.
const PARK_TIMEOUT: Duration = Duration::from_millis(100);

impl RoundtripPerf {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        // Two clusters, and so two connections: on one, the acknowledgement would wait behind the parked
        // fetch.
        let sending = self.connect.cluster().await?;
        let receiving = self.connect.cluster().await?;
        let settings = producer::Settings {
            linger: Duration::ZERO,
            delivery_timeout: self.connect.timeout(),
            may_create_topic: true,
            ..producer::Settings::default()
        };
        let producer = Producer::open(sending, &self.topic, settings).await?;
        let ends = receiving.ends(&self.topic, &[PARTITION]).await?;
        let offset = ends.first().map_or(0, |(_, latest)| *latest);
        let assignment = Assignment { partition: PARTITION, offset, until: None };
        let consumer =
            Consumer::open(receiving, &self.topic, vec![assignment], consumer::Settings::default()).await?;
        let bar = output::progress(self.records, BAR).with_message("returned");
        let mut run = Run {
            producer,
            consumer,
            payload: Payload::new(self.size),
            sent: Vec::new(),
            returned: 0,
            first_offset: offset,
            bytes: 0,
            latencies: Latencies::new()?,
            bar,
        };
        let report = run.measure(self.records, self.rate, self.connect.timeout()).await;
        run.bar.finish_and_clear();
        report?.print(self.output.chosen())?;
        Ok(ExitCode::SUCCESS)
    }
}

struct Run {
    producer: Producer,
    consumer: Consumer,
    payload: Payload,
    /// When each record was sent or, with a rate, scheduled: a slow broker must not delay the schedule.
    sent: Vec<Instant>,
    returned: u64,
    first_offset: i64,
    bytes: u64,
    latencies: Latencies,
    bar: ProgressBar,
}

impl Run {
    async fn measure(
        &mut self,
        records: u64,
        rate: Option<u64>,
        patience: Duration,
    ) -> Result<Report, Failure> {
        self.park().await?;
        let started = Instant::now();
        while self.returned < records {
            let next = self.next_send(started, records, rate);
            if let Some(due) = next.filter(|due| *due <= Instant::now()) {
                self.send(due)?;
                continue;
            }
            let give_up = self.oldest().map(|sent| sent + patience);
            let wake = [next, give_up].into_iter().flatten().min();
            tokio::select! {
                fetched = self.consumer.poll() => {
                    for part in fetched?.unwrap_or_default() {
                        self.receive(&part)?;
                    }
                }
                () = self.producer.drive() => self.check_deliveries()?,
                () = tokio::time::sleep_until(wake.unwrap_or(started).into()), if wake.is_some() => {}
            }
            if self.oldest().is_some_and(|sent| sent.elapsed() > patience) {
                let patience = kernel::units::Span(patience);
                let text = format!(
                    "a record that was sent did not come back within {patience}; see the broker's log"
                );
                return Err(Failure::Failed(text));
            }
        }
        let elapsed = started.elapsed();
        let latencies = std::mem::replace(&mut self.latencies, Latencies::new()?);
        Ok(Report {
            verb: "returned",
            records: self.returned,
            failed: 0,
            bytes: self.bytes,
            elapsed,
            latencies,
        })
    }

    /// Lets the first fetch reach the broker and park there.
    async fn park(&mut self) -> Result<(), Failure> {
        match tokio::time::timeout(PARK_TIMEOUT, self.consumer.poll()).await {
            Err(_) => Ok(()),
            Ok(Ok(_)) => Err(Failure::Failed(
                "somebody else writes to partition 0 of the topic; choose a topic that is quiet".to_owned(),
            )),
            Ok(Err(error)) => Err(error.into()),
        }
    }

    /// When the next record is due: at its scheduled time, or once all have returned.
    fn next_send(&self, started: Instant, records: u64, rate: Option<u64>) -> Option<Instant> {
        let sent = self.sent.len() as u64;
        match rate {
            _ if sent == records => None,
            Some(rate) => Some(due(started, sent, rate)),
            None => (sent == self.returned).then(Instant::now),
        }
    }

    /// When the oldest of the records that have not returned was sent.
    fn oldest(&self) -> Option<Instant> {
        self.sent.get(self.returned as usize).copied()
    }

    fn send(&mut self, due: Instant) -> Result<(), Failure> {
        let value = Some(self.payload.next());
        let record = NewRecord { timestamp: SystemClock.now_ms(), value, ..NewRecord::default() };
        self.producer.push(record, Some(PARTITION))?;
        self.sent.push(due);
        Ok(())
    }

    fn check_deliveries(&mut self) -> Result<(), Failure> {
        match self.producer.take_deliveries().into_iter().find_map(|delivery| delivery.outcome.err()) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn receive(&mut self, part: &Fetched) -> Result<(), Failure> {
        let now = Instant::now();
        for record in part.records() {
            let record = record?;
            // No other producer uses the partition, so records return in send order and at consecutive
            // offsets.
            let place = usize::try_from(record.offset - self.first_offset).ok();
            let Some(sent) = place.and_then(|place| self.sent.get(place).copied()) else {
                return Err(Failure::Failed(
                    "somebody else writes to partition 0 of the topic; choose a topic that is quiet"
                        .to_owned(),
                ));
            };
            self.latencies.record(now.saturating_duration_since(sent));
            self.bytes += record.value.map_or(0, |value| value.len() as u64);
            self.returned += 1;
        }
        self.bar.set_position(self.returned);
        Ok(())
    }
}
