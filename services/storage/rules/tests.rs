use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::{ErrorCode, ProducerId, TopicId, TopicPartition};
use uuid::Uuid;

use crate::commands::{
    Append, Applied, AwaitCleaning, Clean, CleanedBatch, CleanedRun, Command, ConfigOperation, DueCommand,
    Effect, NewConfigs, Outcome, Payload, Retain,
};
use crate::documents::{
    Counters, DueKey, DueSubject, EpochHistory, PartitionDocument, ProducerDocument, ProducerKey,
};
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

fn producer(id: i64) -> ProducerKey {
    ProducerKey { partition: AT, producer: ProducerId(id), origin: None }
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
    let now_ms = ProducerDocument::EXPIRY_MS;
    let producer = ProducerKey { origin: Some(Arc::from("a")), ..producer(5) };
    let expired = bench.run(Command::ExpireProducer { producer, taken_ms: None, now_ms });
    assert_eq!(expired, Ok(Applied::ProducerExpired(true)));
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
    let forget = |now_ms| Command::ExpireProducer { producer: producer(9), taken_ms: None, now_ms };
    let after = ProducerDocument::EXPIRY_MS;
    assert_eq!(bench.run(forget(after - 1)), Ok(Applied::ProducerExpired(false)));
    assert_eq!(bench.error(append(batch(9, 0, 7, 1))), ErrorCode::OutOfOrderSequenceNumber, "still known");
    assert_eq!(bench.run(forget(after)), Ok(Applied::ProducerExpired(true)));
    assert_eq!(bench.run(forget(after)), Ok(Applied::ProducerExpired(false)), "it is gone");
    assert_eq!(bench.base_offset(batch(9, 0, 7, 1)), (1, false));
}

#[test]
fn log_append_time_never_goes_back() {
    let mut bench = Bench::with_topic();
    let mut append_at = |now_ms: i64| {
        let append = Append::new(AT, &batch(-1, -1, -1, 1), now_ms);
        let append = Append { batch: append.batch.with_append_time(), ..append };
        let (outcome, effects) = bench.0.run(&Command::Append(append));
        let Ok(Applied::Appended { max_timestamp, .. }) = outcome else { panic!("{outcome:?}") };
        let [Effect::Append { batch, appended_ms, .. }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!((batch.max_timestamp, batch.has_append_time()), (max_timestamp, true));
        assert_eq!(*appended_ms, now_ms);
        max_timestamp
    };
    assert_eq!([5_000, 4_000, 4_999, 5_001, 3].map(&mut append_at), [5_000, 5_000, 5_000, 5_001, 5_001]);
}

#[test]
fn a_partition_records_a_leader_epoch_when_it_is_appended_to() {
    let mut bench = Bench::with_topic();
    let append_in = |bench: &mut Bench, epoch| {
        let append = Append { leader_epoch: epoch, ..Append::new(AT, &batch(-1, -1, -1, 10), 0) };
        let (outcome, effects) = bench.0.run(&Command::Append(append));
        outcome.unwrap();
        let [Effect::Append { leader_epoch, .. }] = &effects[..] else { panic!("{effects:?}") };
        *leader_epoch
    };
    assert_eq!(append_in(&mut bench, 0), 0);
    assert_eq!(bench.0.get::<EpochHistory>(&AT), None, "an append writes no more than it must");
    assert_eq!(bench.0.get::<Counters>(&()), None);
    assert_eq!([7, 7, 9].map(|epoch| append_in(&mut bench, epoch)), [7, 7, 9]);
    assert_eq!(append_in(&mut bench, 8), 9, "it never goes back");
    let history = bench.0.get::<EpochHistory>(&AT).unwrap();
    let ends = [-3, 0, 3, 7, 8, 9].map(|epoch| history.end_of(epoch));
    assert_eq!(ends, [Some((-3, 0)), Some((0, 10)), Some((0, 10)), Some((7, 30)), Some((7, 30)), None]);
    assert_eq!(bench.0.get::<Counters>(&()).unwrap().leader_epoch, 9);
    // A partition that was never appended to begins with the epoch of its first record, and takes its history with it.
    let other = TopicPartition { partition: 1, ..AT };
    let append = Append { leader_epoch: 8, ..Append::new(other, &batch(-1, -1, -1, 1), 0) };
    bench.run(Command::Append(append)).unwrap();
    let history = bench.0.get::<EpochHistory>(&other).unwrap();
    assert_eq!((history.end_of(7), history.at(0)), (Some((7, 0)), Some(8)));
    assert_eq!(bench.0.get::<Counters>(&()).unwrap().leader_epoch, 9);
    bench.run(Command::DeleteTopic { id: TOPIC }).unwrap();
    assert_eq!([AT, other].map(|at| bench.0.get::<EpochHistory>(&at).is_some()), [false, false]);
}

#[test]
fn a_leader_epoch_is_recorded_without_an_append() {
    let mut bench = Bench::with_topic();
    for (epoch, recorded) in [(7, 7), (5, 7), (9, 9)] {
        assert_eq!(bench.run(Command::RecordEpoch { epoch }), Ok(Applied::Changed));
        assert_eq!(bench.0.get::<Counters>(&()).unwrap().leader_epoch, recorded);
    }
    assert_eq!(bench.0.get::<EpochHistory>(&AT), None, "no partition has used it");
    let append = Append { leader_epoch: 9, ..Append::new(AT, &batch(-1, -1, -1, 1), 0) };
    bench.run(Command::Append(append)).unwrap();
    assert_eq!(bench.0.get::<EpochHistory>(&AT).unwrap().at(0), Some(9));
}

#[test]
fn a_duplicate_begins_no_leader_epoch() {
    let mut bench = Bench::with_topic();
    bench.base_offset(batch(9, 0, 0, 2));
    let again = Append { leader_epoch: 5, ..Append::new(AT, &batch(9, 0, 0, 2), 0) };
    let again = bench.run(Command::Append(again)).unwrap();
    assert!(matches!(again, Applied::Appended { base_offset: 0, is_duplicate: true, .. }));
    assert_eq!(bench.0.get::<EpochHistory>(&AT), None);
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

/// The entry that the next look at the index finds.
fn at_once(subject: DueSubject) -> DueKey {
    DueKey::at_once(subject)
}

/// A look at the partition that has found nothing to delete, and something to do at a time.
fn look(end: i64) -> Retain {
    Retain {
        partition: AT,
        taken_ms: Some(DueKey::AT_ONCE_MS),
        end,
        log_start: None,
        next_ms: Some(5_000),
        after_append: false,
    }
}

impl Bench {
    fn log(&self) -> PartitionDocument {
        *self.0.get::<PartitionDocument>(&AT).unwrap()
    }

    /// Appends a batch of a record; returns how many documents were needed and written.
    fn append_one(&mut self) -> (usize, usize) {
        self.0.cost(&append(batch(-1, -1, -1, 1)))
    }
}

#[test]
fn an_append_puts_an_entry_only_into_an_empty_log() {
    let mut bench = Bench::with_topic();
    assert!(bench.0.due().is_empty(), "a new topic has nothing that may expire");
    assert_eq!(bench.append_one(), (1, 2));
    assert_eq!(bench.0.due(), [at_once(DueSubject::Partition(AT))]);
    bench.run(Command::Retain(look(1))).unwrap();
    let entry = DueKey { at_ms: 5_000, subject: DueSubject::Partition(AT) };
    assert_eq!(bench.0.due(), slice::from_ref(&entry), "it was moved");
    assert_eq!(bench.append_one(), (1, 1), "as much as without an index");
    assert_eq!(bench.0.due(), slice::from_ref(&entry));
    bench.run(Command::AdvanceLogStart { partition: AT, offset: -1 }).unwrap();
    assert_eq!(bench.0.due(), slice::from_ref(&entry), "an empty log has nothing to look at");
    bench.append_one();
    assert_eq!(bench.0.due(), [at_once(DueSubject::Partition(AT)), entry]);
}

#[test]
fn the_batch_that_comes_first_after_a_trim_is_looked_at() {
    let mut bench = Bench::with_topic();
    bench.append_one();
    bench.append_one();
    bench.run(Command::Retain(Retain { next_ms: Some(i64::MAX), ..look(2) })).unwrap();
    bench.run(Command::AdvanceLogStart { partition: AT, offset: 1 }).unwrap();
    assert_eq!(bench.0.due()[0], at_once(DueSubject::Partition(AT)), "the first was from the future");
}

#[test]
fn a_log_with_a_limit_on_bytes_is_looked_at_after_the_next_append() {
    let mut bench = Bench::with_topic();
    bench.append_one();
    let look = Retain { next_ms: None, after_append: true, ..look(1) };
    bench.run(Command::Retain(look)).unwrap();
    assert_eq!((bench.0.due().len(), bench.log().look_after_append), (0, true), "at rest it costs nothing");
    assert_eq!(bench.append_one(), (1, 2));
    assert_eq!(bench.0.due(), [at_once(DueSubject::Partition(AT))]);
    assert!(!bench.log().look_after_append);
    assert_eq!(bench.append_one(), (1, 1));
    bench.run(Command::Retain(look)).unwrap();
    assert_eq!(bench.0.due(), [at_once(DueSubject::Partition(AT))], "the look has not seen the last two");
}

#[test]
fn retention_trims_and_leaves_what_was_appended_meanwhile() {
    let mut bench = Bench::with_topic();
    for _ in 0..3 {
        bench.append_one();
    }
    let all = Retain { log_start: Some(3), next_ms: None, ..look(3) };
    let (outcome, effects) = bench.0.run(&Command::Retain(Retain { log_start: Some(2), ..look(3) }));
    assert_eq!((outcome, effects.len()), (Ok(Applied::Retained { has_more: false }), 1));
    assert_eq!(bench.log().log_start, 2);
    assert_eq!(bench.0.due(), [DueKey { at_ms: 5_000, subject: DueSubject::Partition(AT) }]);
    bench.append_one();
    bench.run(Command::Retain(Retain { taken_ms: Some(5_000), ..all })).unwrap();
    assert_eq!((bench.log().log_start, bench.log().end), (3, 4));
    assert_eq!(bench.0.due(), [at_once(DueSubject::Partition(AT))], "nobody has looked at the last batch");
    bench.run(Command::Retain(Retain { log_start: Some(1), end: 4, ..all })).unwrap();
    assert_eq!(bench.log().log_start, 3, "a late look does no harm");
    bench.run(Command::DeleteTopic { id: TOPIC }).unwrap();
    bench.run(Command::Retain(Retain { next_ms: Some(9), ..all })).unwrap();
    assert_eq!(bench.0.due(), [at_once(DueSubject::DeletedTopic(TOPIC))]);
}

#[test]
fn a_producer_is_looked_at_a_day_after_it_was_first_seen() {
    let mut bench = Bench::with_topic();
    let day_ms = ProducerDocument::EXPIRY_MS;
    let at = |now_ms, sequence| Command::Append(Append::new(AT, &batch(9, 0, sequence, 1), now_ms));
    let of_producer = |bench: &Bench| -> Vec<i64> {
        let due = bench.0.due().into_iter().filter(|key| key.subject == DueSubject::Producer(producer(9)));
        due.map(|key| key.at_ms).collect()
    };
    assert_eq!(bench.0.cost(&at(1, 0)), (2, 4), "log and producer, and an entry of each");
    assert_eq!(of_producer(&bench), [day_ms + 3_600_000], "in the hour that begins then");
    assert_eq!(bench.0.cost(&at(7_200_000, 1)), (2, 2));
    let taken_ms = of_producer(&bench)[0];
    let look = |taken_ms, now_ms| Command::ExpireProducer { producer: producer(9), taken_ms, now_ms };
    assert_eq!(bench.run(look(Some(taken_ms), taken_ms)), Ok(Applied::ProducerExpired(false)));
    assert_eq!(of_producer(&bench), [day_ms + 7_200_000]);
    let taken_ms = of_producer(&bench)[0];
    assert_eq!(bench.run(look(Some(taken_ms), taken_ms)), Ok(Applied::ProducerExpired(true)));
    assert!(of_producer(&bench).is_empty());
}

#[test]
fn altered_limits_and_deleted_topics_put_one_entry() {
    let mut bench = Bench::with_topic();
    let set = |name: &str, value: &str| Command::AlterConfigs {
        name: Arc::from("t"),
        configs: NewConfigs::Incremental(vec![(name.to_owned(), ConfigOperation::Set(value.to_owned()))]),
    };
    bench.run(set("max.message.bytes", "5000")).unwrap();
    assert!(bench.0.due().is_empty(), "not about retention");
    assert_eq!(bench.0.cost(&set("retention.ms", "5")), (1, 2), "however many partitions there are");
    assert_eq!(bench.0.due(), [at_once(DueSubject::Topic(Arc::from("t")))]);
    bench.run(set("retention.bytes", "5")).unwrap();
    assert_eq!(bench.0.due().len(), 1, "the same entry");
    bench.run(Command::DeleteTopic { id: TOPIC }).unwrap();
    assert!(bench.0.due().contains(&at_once(DueSubject::DeletedTopic(TOPIC))));
}

#[test]
fn entries_are_moved_merged_and_deleted() {
    let mut bench = Bench::with_topic();
    let subject = || DueSubject::Offsets(Arc::from("g"));
    let entry = |at_ms| DueKey { at_ms, subject: subject() };
    let go = |from_ms: &[i64], to_ms| {
        Command::Due(DueCommand::Move { subject: subject(), from_ms: from_ms.to_vec(), to_ms })
    };
    bench.run(go(&[], Some(5))).unwrap();
    bench.run(go(&[], Some(9))).unwrap();
    bench.run(go(&[], Some(9))).unwrap();
    assert_eq!(bench.0.due(), [entry(5), entry(9)], "two that are equal are one");
    bench.run(go(&[5, 9, 77], Some(9))).unwrap();
    assert_eq!(bench.0.due(), [entry(9)]);
    bench.run(go(&[9], None)).unwrap();
    assert!(bench.0.due().is_empty());
}

/// A run that one batch takes the place of.
fn run(from: i64, until: i64) -> CleanedRun {
    let payload = Payload(batch(-1, -1, -1, 1).bytes().clone());
    let batch =
        CleanedBatch { base_offset: from, next_offset: until, max_timestamp: 7, has_records: true, payload };
    CleanedRun { from, until, batches: vec![batch] }
}

fn clean(steps: u64, runs: Vec<CleanedRun>) -> Clean {
    Clean { partition: AT, steps, log_start: 0, runs, ended: Vec::new(), clean_end: None }
}

#[test]
fn a_step_is_made_only_in_the_state_of_the_log_that_was_read() {
    let mut bench = Bench::with_topic();
    bench.base_offset(batch(-1, -1, -1, 10));
    let (outcome, effects) = bench.0.run(&Command::Clean(clean(0, vec![run(0, 4), run(4, 9)])));
    assert_eq!(outcome, Ok(Applied::Cleaned(true)));
    let effect = |run| Effect::Clean { partition: AT, run };
    assert_eq!(effects, [effect(run(0, 4)), effect(run(4, 9))]);
    for (refused, why) in [
        (clean(0, vec![run(0, 4)]), "somebody else has made a step"),
        (clean(1, vec![run(0, 11)]), "behind the end"),
        (clean(1, vec![run(4, 9), run(0, 4)]), "not in order"),
        (clean(1, vec![run(4, 4)]), "nothing"),
        (clean(1, vec![CleanedRun { until: 6, ..run(0, 4) }]), "with a gap at the end"),
        (Clean { log_start: 1, ..clean(1, vec![run(2, 4)]) }, "before a trim"),
        (Clean { clean_end: Some(11), ..clean(1, Vec::new()) }, "clean behind the end"),
        (Clean { partition: TopicPartition { partition: 9, ..AT }, ..clean(1, vec![run(0, 4)]) }, "unknown"),
    ] {
        let (outcome, effects) = bench.0.run(&Command::Clean(refused));
        assert_eq!((outcome, effects), (Ok(Applied::Cleaned(false)), Vec::new()), "{why}");
    }
    let last = Clean { clean_end: Some(10), ..clean(1, Vec::new()) };
    assert_eq!(bench.run(Command::Clean(last)), Ok(Applied::Cleaned(true)));
    let cleaning = bench.0.get::<PartitionDocument>(&AT).unwrap().cleaning.unwrap();
    assert_eq!((cleaning.steps, cleaning.clean_end), (2, 10));
    bench.run(Command::AdvanceLogStart { partition: AT, offset: 5 }).unwrap();
    assert_eq!(bench.run(Command::Clean(clean(2, vec![run(6, 9)]))), Ok(Applied::Cleaned(false)));
}

#[test]
fn an_append_has_a_log_looked_at_that_waits_for_it() {
    let mut bench = Bench::with_topic();
    bench.base_offset(batch(-1, -1, -1, 1));
    let of_cleaning = |bench: &Bench| {
        let due = bench.0.due().into_iter();
        due.filter(|key| key.subject == DueSubject::Cleaning(AT)).map(|key| key.at_ms).collect::<Vec<_>>()
    };
    bench.base_offset(batch(-1, -1, -1, 1));
    assert_eq!(of_cleaning(&bench), Vec::<i64>::new(), "nobody waits");
    let wait = AwaitCleaning { partition: AT, taken_ms: None, end: 1, next_ms: Some(70) };
    bench.run(Command::AwaitCleaning(wait)).unwrap();
    assert_eq!(of_cleaning(&bench), [0], "it was appended to since");
    let wait = AwaitCleaning { taken_ms: Some(0), end: 2, ..wait };
    bench.run(Command::AwaitCleaning(wait)).unwrap();
    assert_eq!(of_cleaning(&bench), [70]);
    for _ in 0..2 {
        bench.base_offset(batch(-1, -1, -1, 1));
        assert_eq!(of_cleaning(&bench), [0, 70], "one entry, however many appends");
    }
}
