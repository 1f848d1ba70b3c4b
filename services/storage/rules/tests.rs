use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::{ErrorCode, ProducerId, TopicId, TopicPartition};
use uuid::Uuid;

use super::*;
use crate::engines::Engine;
use crate::engines::memory::Memory;

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
const AT: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };

struct Bench(Memory);

impl Bench {
    async fn with_topic() -> Self {
        let bench = Bench(Memory::new());
        bench.run(create("t", TOPIC, 2)).await.unwrap();
        bench
    }

    async fn run(&self, command: Command) -> Outcome {
        self.0.commit(vec![command]).await.unwrap().remove(0)
    }

    async fn error(&self, command: Command) -> ErrorCode {
        self.run(command).await.unwrap_err().error
    }

    async fn base_offset(&self, batch: Batch) -> (i64, bool) {
        match self.run(append(batch)).await.unwrap() {
            Done::Appended { base_offset, is_duplicate, .. } => (base_offset, is_duplicate),
            other => panic!("{other:?}"),
        }
    }
}

fn create(name: &str, id: TopicId, partitions: i32) -> Command {
    Command::CreateTopic { name: Arc::from(name), id, partitions, configs: BTreeMap::new() }
}

fn append(batch: Batch) -> Command {
    Command::Append { partition: AT, batch, now_ms: 0, lease: Arc::default() }
}

fn batch(producer: i64, epoch: i16, sequence: i32, count: usize) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None).producer(producer, epoch, sequence);
    for _ in 0..count {
        builder.push(NewRecord { value: Some(b"v"), ..NewRecord::default() });
    }
    Batch::check(builder.build().unwrap()).unwrap()
}

#[tokio::test]
async fn a_duplicate_gets_its_original_offset_five_batches_back() {
    let bench = Bench::with_topic().await;
    for n in 0..7 {
        assert_eq!(bench.base_offset(batch(9, 0, n * 2, 2)).await, (i64::from(n) * 2, false));
    }
    for n in 2..7 {
        assert_eq!(bench.base_offset(batch(9, 0, n * 2, 2)).await, (i64::from(n) * 2, true), "batch {n}");
    }
    assert_eq!(bench.error(append(batch(9, 0, 2, 2))).await, ErrorCode::OutOfOrderSequenceNumber, "six back");
    assert_eq!(bench.base_offset(batch(9, 0, 14, 1)).await, (14, false), "duplicates took no offsets");
}

#[tokio::test]
async fn sequences_are_dense_wrap_and_start_again_with_an_epoch() {
    let bench = Bench::with_topic().await;
    let first = i32::MAX - 1;
    assert_eq!(bench.base_offset(batch(9, 0, first, 2)).await.0, 0, "an unknown producer may begin anywhere");
    assert_eq!(bench.error(append(batch(9, 0, 5, 1))).await, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(bench.base_offset(batch(9, 0, 0, 1)).await.0, 2, "2^31-1 is followed by 0");
    assert_eq!(bench.base_offset(batch(9, 0, first, 2)).await, (0, true), "the batch that wrapped is known");
    assert_eq!(bench.error(append(batch(9, 1, 3, 1))).await, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(bench.base_offset(batch(9, 1, 0, 1)).await, (3, false), "a new epoch begins at 0");
    assert_eq!(bench.error(append(batch(9, 0, 1, 1))).await, ErrorCode::InvalidProducerEpoch);
    assert_eq!(bench.base_offset(batch(10, 0, 0, 1)).await.0, 4, "another producer has its own numbers");
    assert_eq!(bench.error(append(batch(11, -5, 0, 1))).await, ErrorCode::InvalidProducerEpoch);
}

#[tokio::test]
async fn a_batch_that_wraps_within_itself_is_followed_by_its_successor() {
    let bench = Bench::with_topic().await;
    bench.base_offset(batch(9, 0, i32::MAX, 3)).await;
    assert_eq!(bench.base_offset(batch(9, 0, 2, 1)).await, (3, false), "2^31-1, 0, 1, then 2");
}

#[tokio::test]
async fn a_forgotten_producer_goes_on_where_it_was() {
    let bench = Bench::with_topic().await;
    bench.base_offset(batch(9, 0, 0, 1)).await;
    let forget =
        |unused_since_ms| Command::ExpireProducer { partition: AT, producer: ProducerId(9), unused_since_ms };
    bench.run(forget(-1)).await.unwrap();
    assert_eq!(
        bench.error(append(batch(9, 0, 7, 1))).await,
        ErrorCode::OutOfOrderSequenceNumber,
        "still known"
    );
    bench.run(forget(0)).await.unwrap();
    assert_eq!(bench.base_offset(batch(9, 0, 7, 1)).await, (1, false));
}

#[tokio::test]
async fn a_log_begins_where_it_is_told_to() {
    let bench = Bench::with_topic().await;
    for _ in 0..3 {
        bench.base_offset(batch(-1, -1, -1, 10)).await;
    }
    let advance = |offset| Command::AdvanceLogStart { partition: AT, offset };
    assert_eq!(bench.run(advance(15)).await, Ok(Done::LogStart(15)));
    assert_eq!(bench.run(advance(3)).await, Ok(Done::LogStart(15)), "it never goes back");
    assert_eq!(bench.error(advance(31)).await, ErrorCode::OffsetOutOfRange);
    assert_eq!(bench.error(advance(-2)).await, ErrorCode::OffsetOutOfRange);
    assert_eq!(bench.run(advance(-1)).await, Ok(Done::LogStart(30)));
}

#[tokio::test]
async fn topics_are_checked_as_kafka_checks_them() {
    let bench = Bench::with_topic().await;
    let id = |n| TopicId(Uuid::from_u128(n));
    assert_eq!(bench.error(create("t", id(2), 1)).await, ErrorCode::TopicAlreadyExists);
    for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
        assert_eq!(bench.error(create(name, id(2), 1)).await, ErrorCode::InvalidTopicException, "{name:?}");
    }
    assert_eq!(bench.error(create("new", id(2), 0)).await, ErrorCode::InvalidPartitions);
    assert!(bench.run(create("a.b", id(2), 1)).await.is_ok());
    assert_eq!(bench.error(create("a_b", id(3), 1)).await, ErrorCode::InvalidTopicException, "collides");
    assert!(bench.run(Command::DeleteTopic { id: id(2) }).await.is_ok());
    assert!(bench.run(create("a_b", id(3), 1)).await.is_ok(), "no longer collides");
    assert_eq!(bench.error(Command::DeleteTopic { id: id(2) }).await, ErrorCode::UnknownTopicId);
}

#[tokio::test]
async fn a_checked_command_changes_nothing() {
    let bench = Bench::with_topic().await;
    let id = TopicId(Uuid::from_u128(2));
    let check = |command| Command::Check(Box::new(command));
    assert!(bench.run(check(create("new", id, 1))).await.is_ok());
    assert!(bench.run(create("new", id, 1)).await.is_ok(), "the check has not made it");
    assert_eq!(bench.error(check(create("new", id, 1))).await, ErrorCode::TopicAlreadyExists);
}

#[tokio::test]
async fn partitions_only_grow() {
    let bench = Bench::with_topic().await;
    let grow = |count| Command::CreatePartitions { name: Arc::from("t"), count };
    assert_eq!(bench.error(grow(2)).await, ErrorCode::InvalidPartitions);
    assert_eq!(bench.error(grow(1)).await, ErrorCode::InvalidPartitions);
    let Ok(Done::Topic(topic)) = bench.run(grow(5)).await else { panic!() };
    assert_eq!((topic.partitions, topic.id), (5, TOPIC));
}

#[tokio::test]
async fn incremental_changes_apply_one_after_the_other_or_not_at_all() {
    let bench = Bench::with_topic().await;
    let alter = |operations: Vec<(&str, ConfigOperation)>| Command::AlterConfigs {
        name: Arc::from("t"),
        configs: NewConfigs::Incremental(operations.into_iter().map(|(n, o)| (n.to_owned(), o)).collect()),
    };
    let set = |value: &str| ConfigOperation::Set(value.to_owned());
    let Ok(Done::Topic(topic)) = bench.run(alter(vec![("retention.ms", set("1000"))])).await else {
        panic!()
    };
    assert_eq!(topic.effective().retention_ms, Some(1000));
    let bad = alter(vec![("retention.bytes", set("5")), ("retention.ms", set("soon"))]);
    assert_eq!(bench.error(bad).await, ErrorCode::InvalidConfig);
    let list = alter(vec![("retention.ms", ConfigOperation::Append("1".to_owned()))]);
    assert_eq!(bench.error(list).await, ErrorCode::InvalidConfig);
    let Ok(Done::Topic(topic)) = bench.run(alter(vec![("retention.ms", ConfigOperation::Delete)])).await
    else {
        panic!()
    };
    assert!(topic.configs.is_empty(), "{:?}", topic.configs);
}

#[test]
fn keys_are_read_as_they_are_written() {
    let keys = [
        Key::Counters,
        Key::Topic(Arc::from("a/b")),
        Key::TopicName(TOPIC),
        Key::TopicCollision(Arc::from("a_b")),
        Key::Partition(AT),
        Key::Producer(AT, ProducerId(7)),
    ];
    for key in keys {
        assert_eq!(Key::parse(&key.to_string()), Some(key));
    }
    for text in ["", "topic-name/x", "partition/1", "producer/a/b", "nonsense/1"] {
        assert_eq!(Key::parse(text), None, "{text}");
    }
}
