//! Look-ups of offsets on every engine, against a scan of all records: random batches, times from the future and none,
//! trims, deletions, and the special times -1 to -5.

use std::path::Path;
use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use kernel::clock::ManualClock;
use kernel::records::{Batch, Codec, NO_TIMESTAMP};
use kernel::{Api, TopicPartition};
use rules::commands::{Append, Command};
use rules::documents::TopicDocument;

use super::Engine;
use super::memory::Memory;
use super::model_tests::{Dice, small_settings};
use super::postgres::{self, Postgres};
use super::sqlite::Sqlite;
use crate::apis::common::text;
use crate::apis::testing::{self, NOW_MS, broker_over, topic};
use crate::broker::Broker;

const STEPS: usize = 120;
/// Error, offset and timestamp.
type Told = (i16, i64, i64);
const NOTHING: Told = (0, -1, -1);

/// A log as a list of offsets with their timestamps.
#[derive(Default)]
struct Plain {
    records: Vec<(i64, i64)>,
    log_start: i64,
    end: i64,
}

impl Plain {
    /// The first record that is there with this timestamp or a later one.
    fn first_since(&self, time: i64) -> Told {
        let there = self.records.iter().filter(|(offset, _)| *offset >= self.log_start);
        let mut found = there.filter(|(_, timestamp)| *timestamp >= time);
        found.next().map_or(NOTHING, |(offset, timestamp)| (0, *offset, *timestamp))
    }

    fn told(&self, time: i64) -> Told {
        let there = self.records.iter().filter(|(offset, _)| *offset >= self.log_start);
        match time {
            -1 => (0, self.end, -1),
            -2 | -4 => (0, self.log_start, -1),
            -3 => match there.map(|(_, timestamp)| *timestamp).max() {
                Some(latest) if latest != NO_TIMESTAMP => self.first_since(latest),
                _ => NOTHING,
            },
            // Nothing is tiered.
            -5 => NOTHING,
            time => self.first_since(time),
        }
    }
}

fn times(dice: &mut Dice, step: usize) -> Vec<i64> {
    let time = |dice: &mut Dice| match dice.roll(12) {
        0 => NOW_MS + 3_600_000 + dice.roll(1_000) as i64,
        1 => NO_TIMESTAMP,
        2 => 0,
        _ => NOW_MS + 10 * step as i64 + dice.roll(60) as i64,
    };
    (0..=dice.roll(6)).map(|_| time(dice)).collect()
}

async fn told(broker: &Arc<Broker>, time: i64) -> Told {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(time);
    let topic = ListOffsetsTopic::default().with_name(text::topic_name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let response: ListOffsetsResponse = testing::ask(broker, Api::LIST_OFFSETS, 10, &request).await;
    let answer = &response.topics[0].partitions[0];
    (answer.error_code, answer.offset, answer.timestamp)
}

/// A change of the log, on the engine and on the plain one.
async fn change(dice: &mut Dice, engine: &dyn Engine, at: TopicPartition, log: &mut Plain, step: usize) {
    let command = if dice.roll(8) == 0 {
        let offset = dice.roll(1 + log.end as u64) as i64;
        log.log_start = log.log_start.max(offset);
        Command::AdvanceLogStart { partition: at, offset }
    } else {
        let times = times(dice, step);
        let codec = dice.pick(&[Codec::None, Codec::None, Codec::Gzip, Codec::Zstd]);
        let batch = Batch::check(testing::batch(codec, &times)).unwrap();
        log.records.extend(times.iter().zip(log.end..).map(|(timestamp, offset)| (offset, *timestamp)));
        log.end += times.len() as i64;
        Command::Append(Append::new(at, &batch, NOW_MS))
    };
    engine.commit(vec![command], Vec::new()).await.unwrap().remove(0).unwrap();
}

async fn run(engine: Arc<impl Engine + 'static>, seed: u64) {
    let broker = broker_over(Arc::clone(&engine), Arc::new(ManualClock::at(NOW_MS)), 1 << 20);
    let (mut dice, mut log) = (Dice::seeded(seed), Plain::default());
    let mut orders: Arc<TopicDocument> = topic(&broker, "t", 1, &[]).await;
    for step in 0..STEPS {
        let at = orders.partition(0).unwrap();
        change(&mut dice, &*engine, at, &mut log, step).await;
        if dice.roll(40) == 0 {
            let delete = Command::DeleteTopic { id: orders.id };
            engine.commit(vec![delete], Vec::new()).await.unwrap().remove(0).unwrap();
            assert_eq!(told(&broker, -1).await.0, 3, "there is no such partition");
            (orders, log) = (topic(&broker, "t", 1, &[]).await, Plain::default());
        }
        let near = NOW_MS + 10 * step as i64 - dice.roll(300) as i64;
        for time in [-1, -2, -3, -4, -5, 0, near, NOW_MS + 3_600_000 + dice.roll(1_000) as i64, i64::MAX] {
            let context = format!("seed {seed}, step {step}: from {} to {}", log.log_start, log.end);
            assert_eq!(told(&broker, time).await, log.told(time), "{context}: time {time}");
        }
    }
}

#[tokio::test]
async fn memory_tells_what_a_scan_tells() {
    for seed in 0..6 {
        run(Arc::new(Memory::new()), seed).await;
    }
}

#[tokio::test]
async fn sqlite_tells_what_a_scan_tells() {
    let home = std::env::temp_dir().join(format!("yagura-look-ups-{}", std::process::id()));
    // A run that failed may have left one of the same number.
    let _ = std::fs::remove_dir_all(&home);
    for seed in 0..6 {
        let folder = home.join(seed.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        run(open(&folder), seed).await;
    }
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn postgres_tells_what_a_scan_tells() {
    for seed in 0..3 {
        for layout in ["rows", "batches"] {
            let Some(place) = postgres::testing::new_store() else { return };
            let place = format!("{place}&layout={layout}");
            run(Arc::new(Postgres::open(&place, &small_settings()).await.unwrap()), seed).await;
        }
    }
}

fn open(folder: &Path) -> Arc<Sqlite> {
    Arc::new(Sqlite::open(&folder.join("y.db"), &small_settings()).unwrap())
}
