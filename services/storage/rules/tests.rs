use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::{ErrorCode, ProducerId, TopicId, TopicPartition};
use uuid::Uuid;

use crate::commands::{Append, Applied, Command, ConfigOperation, NewConfigs, Outcome};
use crate::testing::MapStore;

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
const AT: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };

struct Bench(MapStore);

impl Bench {
    fn with_topic() -> Self {
        let mut bench = Bench(MapStore::default());
        bench.run(create("t", TOPIC, 2)).unwrap();
        bench
    }

    fn run(&mut self, command: Command) -> Outcome {
        self.0.run(&command).0
    }

    fn error(&mut self, command: Command) -> ErrorCode {
        self.run(command).unwrap_err().error
    }

    fn base_offset(&mut self, batch: Batch) -> (i64, bool) {
        match self.run(append(batch)).unwrap() {
            Applied::Appended { base_offset, is_duplicate, .. } => (base_offset, is_duplicate),
            other => panic!("{other:?}"),
        }
    }
}

fn create(name: &str, id: TopicId, partitions: i32) -> Command {
    Command::CreateTopic { name: Arc::from(name), id, partitions, configs: BTreeMap::new() }
}

fn append(batch: Batch) -> Command {
    Command::Append(Append::new(AT, &batch, 0))
}

fn batch(producer: i64, epoch: i16, sequence: i32, count: usize) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None).producer(producer, epoch, sequence);
    for _ in 0..count {
        builder.push(NewRecord { value: Some(b"v"), ..NewRecord::default() });
    }
    Batch::check(builder.build().unwrap()).unwrap()
}

#[test]
fn a_duplicate_gets_its_original_offset_five_batches_back() {
    let mut bench = Bench::with_topic();
    for n in 0..7 {
        assert_eq!(bench.base_offset(batch(9, 0, n * 2, 2)), (i64::from(n) * 2, false));
    }
    for n in 2..7 {
        assert_eq!(bench.base_offset(batch(9, 0, n * 2, 2)), (i64::from(n) * 2, true), "batch {n}");
    }
    assert_eq!(bench.error(append(batch(9, 0, 2, 2))), ErrorCode::OutOfOrderSequenceNumber, "six back");
    assert_eq!(bench.base_offset(batch(9, 0, 14, 1)), (14, false), "duplicates took no offsets");
}

#[test]
fn sequences_are_dense_wrap_and_restart_with_a_new_epoch() {
    let mut bench = Bench::with_topic();
    let first = i32::MAX - 1;
    assert_eq!(bench.base_offset(batch(9, 0, first, 2)).0, 0, "an unknown producer may begin anywhere");
    assert_eq!(bench.error(append(batch(9, 0, 5, 1))), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(bench.base_offset(batch(9, 0, 0, 1)).0, 2, "2^31-1 is followed by 0");
    assert_eq!(bench.base_offset(batch(9, 0, first, 2)), (0, true), "the batch that wrapped is known");
    assert_eq!(bench.error(append(batch(9, 1, 3, 1))), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(bench.base_offset(batch(9, 1, 0, 1)), (3, false), "a new epoch begins at 0");
    assert_eq!(bench.error(append(batch(9, 0, 1, 1))), ErrorCode::InvalidProducerEpoch);
    assert_eq!(bench.base_offset(batch(10, 0, 0, 1)).0, 4, "another producer has its own numbers");
    assert_eq!(bench.error(append(batch(11, -5, 0, 1))), ErrorCode::InvalidProducerEpoch);
}

#[test]
fn producers_with_one_id_from_different_origins_are_two() {
    let mut bench = Bench::with_topic();
    let from = |origin: Option<&str>, batch: Batch| {
        Command::Append(Append { origin: origin.map(Arc::from), ..Append::new(AT, &batch, 0) })
    };
    let mut base_offset = |command| match bench.run(command).unwrap() {
        Applied::Appended { base_offset, is_duplicate, .. } => (base_offset, is_duplicate),
        other => panic!("{other:?}"),
    };
    assert_eq!(base_offset(from(None, batch(5, 1, 0, 1))), (0, false));
    assert_eq!(base_offset(from(Some("a"), batch(5, 0, 0, 1))), (1, false), "neither a duplicate nor fenced");
    assert_eq!(base_offset(from(Some("b"), batch(5, 0, 7, 1))), (2, false), "unknown: it may begin anywhere");
    assert_eq!(base_offset(from(Some("a"), batch(5, 0, 0, 1))), (1, true), "its own duplicate");
    let expire = |origin: Option<&str>| Command::ExpireProducer {
        partition: AT,
        producer: ProducerId(5),
        origin: origin.map(Arc::from),
        unused_since_ms: 0,
    };
    bench.run(expire(Some("a"))).unwrap();
    assert_eq!(
        bench.error(from(None, batch(5, 1, 4, 1))),
        ErrorCode::OutOfOrderSequenceNumber,
        "still known"
    );
    assert!(bench.run(from(Some("a"), batch(5, 0, 4, 1))).is_ok(), "forgotten");
}

#[test]
fn a_batch_that_wraps_within_itself_is_followed_by_its_successor() {
    let mut bench = Bench::with_topic();
    bench.base_offset(batch(9, 0, i32::MAX, 3));
    assert_eq!(bench.base_offset(batch(9, 0, 2, 1)), (3, false), "2^31-1, 0, 1, then 2");
}

#[test]
fn a_producer_without_state_may_continue_its_sequence() {
    let mut bench = Bench::with_topic();
    bench.base_offset(batch(9, 0, 0, 1));
    let forget = |unused_since_ms| Command::ExpireProducer {
        partition: AT,
        producer: ProducerId(9),
        origin: None,
        unused_since_ms,
    };
    bench.run(forget(-1)).unwrap();
    assert_eq!(bench.error(append(batch(9, 0, 7, 1))), ErrorCode::OutOfOrderSequenceNumber, "still known");
    bench.run(forget(0)).unwrap();
    assert_eq!(bench.base_offset(batch(9, 0, 7, 1)), (1, false));
}

#[test]
fn the_log_start_offset_only_advances() {
    let mut bench = Bench::with_topic();
    for _ in 0..3 {
        bench.base_offset(batch(-1, -1, -1, 10));
    }
    let advance = |offset| Command::AdvanceLogStart { partition: AT, offset };
    assert_eq!(bench.run(advance(15)), Ok(Applied::LogStart(15)));
    assert_eq!(bench.run(advance(3)), Ok(Applied::LogStart(15)), "it never goes back");
    assert_eq!(bench.error(advance(31)), ErrorCode::OffsetOutOfRange);
    assert_eq!(bench.error(advance(-2)), ErrorCode::OffsetOutOfRange);
    assert_eq!(bench.run(advance(-1)), Ok(Applied::LogStart(30)));
}

#[test]
fn topics_are_checked_as_kafka_checks_them() {
    let mut bench = Bench::with_topic();
    let id = |n| TopicId(Uuid::from_u128(n));
    assert_eq!(bench.error(create("t", id(2), 1)), ErrorCode::TopicAlreadyExists);
    for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
        assert_eq!(bench.error(create(name, id(2), 1)), ErrorCode::InvalidTopicException, "{name:?}");
    }
    assert_eq!(bench.error(create("new", id(2), 0)), ErrorCode::InvalidPartitions);
    assert!(bench.run(create("a.b", id(2), 1)).is_ok());
    assert_eq!(bench.error(create("a_b", id(3), 1)), ErrorCode::InvalidTopicException, "collides");
    assert!(bench.run(Command::DeleteTopic { id: id(2) }).is_ok());
    assert!(bench.run(create("a_b", id(3), 1)).is_ok(), "no longer collides");
    assert_eq!(bench.error(Command::DeleteTopic { id: id(2) }), ErrorCode::UnknownTopicId);
}

#[test]
fn a_checked_command_changes_nothing() {
    let mut bench = Bench::with_topic();
    let id = TopicId(Uuid::from_u128(2));
    let check = |command| Command::Check(Box::new(command));
    assert!(bench.run(check(create("new", id, 1))).is_ok());
    assert!(bench.run(create("new", id, 1)).is_ok(), "the check has not made it");
    assert_eq!(bench.error(check(create("new", id, 1))), ErrorCode::TopicAlreadyExists);
}

#[test]
fn partitions_only_grow() {
    let mut bench = Bench::with_topic();
    let grow = |count| Command::CreatePartitions { name: Arc::from("t"), count };
    assert_eq!(bench.error(grow(2)), ErrorCode::InvalidPartitions);
    assert_eq!(bench.error(grow(1)), ErrorCode::InvalidPartitions);
    let Ok(Applied::Topic(topic)) = bench.run(grow(5)) else { panic!() };
    assert_eq!((topic.partitions, topic.id), (5, TOPIC));
}

#[test]
fn incremental_changes_apply_one_after_the_other_or_not_at_all() {
    let mut bench = Bench::with_topic();
    let alter = |operations: Vec<(&str, ConfigOperation)>| Command::AlterConfigs {
        name: Arc::from("t"),
        configs: NewConfigs::Incremental(operations.into_iter().map(|(n, o)| (n.to_owned(), o)).collect()),
    };
    let set = |value: &str| ConfigOperation::Set(value.to_owned());
    let Ok(Applied::Topic(topic)) = bench.run(alter(vec![("retention.ms", set("1000"))])) else { panic!() };
    assert_eq!(topic.effective().retention_ms, Some(1000));
    let bad = alter(vec![("retention.bytes", set("5")), ("retention.ms", set("soon"))]);
    assert_eq!(bench.error(bad), ErrorCode::InvalidConfig);
    let list = alter(vec![("retention.ms", ConfigOperation::Append("1".to_owned()))]);
    assert_eq!(bench.error(list), ErrorCode::InvalidConfig);
    let Ok(Applied::Topic(topic)) = bench.run(alter(vec![("retention.ms", ConfigOperation::Delete)])) else {
        panic!()
    };
    assert!(topic.configs.is_empty(), "{:?}", topic.configs);
}
