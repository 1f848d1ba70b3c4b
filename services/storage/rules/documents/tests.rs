use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{NodeId, ProducerId, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::*;

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
const AT: TopicPartition = TopicPartition { topic: TOPIC, partition: 0 };

fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn round_trips<T: DocumentKind>(key: &T::Key, expected: &str) -> &'static str
where
    T::Key: PartialEq + std::fmt::Debug,
{
    let written = T::key(key);
    assert_eq!(written.as_str(), expected);
    assert_eq!(T::parse_key(&written).as_ref(), Some(key));
    assert_eq!(lock_root(&written), Some(T::lock_root(key)));
    T::PREFIX
}

fn producer(partition: TopicPartition, id: i64) -> ProducerKey {
    ProducerKey { partition, producer: ProducerId(id), origin: None }
}

/// The texts are those of format 1: a store that was written by an earlier release has these keys.
#[test]
fn keys_round_trip() {
    let id = "00000000-0000-0000-0000-000000000001";
    let member = MemberKey { group: text("a/b"), member: text("c/d") };
    let offset = OffsetKey { group: text("4/ü/"), topic: text("t"), partition: 7 };
    let instance = InstanceKey { group: text("a/b"), instance: text("c/d") };
    let assigned = AssignedKey { group: text("a/b"), partition: AT };
    let foreign = ProducerKey { origin: Some(text("a/b")), ..producer(AT, 7) };
    round_trips::<ProducerDocument>(&foreign, &format!("producer/{id}/0/7/a/b"));
    let (transaction, group) = (text("x/y"), text("a/b"));
    let partition = TransactionPartitionKey { transaction: transaction.clone(), partition: AT };
    let group_of = TransactionGroupKey { transaction: transaction.clone(), group: group.clone() };
    let topic = text("t");
    let offset_of = TransactionOffsetKey {
        transaction: transaction.clone(),
        group: group.clone(),
        topic: topic.clone(),
        partition: 7,
    };
    let pending = PendingOffsetKey { group, topic, partition: 7, producer: ProducerId(5) };
    let in_log = LogTransactionKey { partition: AT, offset: 12, producer: ProducerId(5) };
    let at = TransactionDueKey { at_ms: 7, transaction: transaction.clone() };
    let due = |subject| DueKey { at_ms: 7, subject };
    let time = "0000000000000000007";
    for (subject, text) in [
        (DueSubject::Topic(text("a/b")), "topic/a/b".to_owned()),
        (DueSubject::Cleaning(AT), format!("cleaning/{id}/0")),
        (DueSubject::Producer(foreign), format!("producer/{id}/0/7/a/b")),
        (DueSubject::Producer(producer(AT, 7)), format!("producer/{id}/0/7")),
        (DueSubject::Offsets(text("")), "offsets/".to_owned()),
        (DueSubject::DeletedTopic(TOPIC), format!("deleted-topic/{id}")),
    ] {
        round_trips::<Due>(&due(subject), &format!("due/{time}/{text}"));
    }
    let tried = [
        round_trips::<Counters>(&(), "counters"),
        round_trips::<TopicDocument>(&text("a/b"), "topic/a/b"),
        round_trips::<TopicName>(&TOPIC, &format!("topic-name/{id}")),
        round_trips::<TopicCollision>(&text("a_b"), "topic-collision/a_b"),
        round_trips::<PartitionDocument>(&AT, &format!("partition/{id}/0")),
        round_trips::<EpochHistory>(&AT, &format!("leader-epochs/{id}/0")),
        round_trips::<ProducerDocument>(&producer(AT, 7), &format!("producer/{id}/0/7")),
        round_trips::<OpenTransaction>(&in_log, &format!("open-transaction/{id}/0/0000000000000000012/5")),
        round_trips::<AbortedTransaction>(
            &in_log,
            &format!("aborted-transaction/{id}/0/0000000000000000012/5"),
        ),
        round_trips::<TransactionDocument>(&transaction, "transaction/x/y"),
        round_trips::<TransactionPartition>(&partition, &format!("transaction-partition/3/x/y/{id}/0")),
        round_trips::<TransactionGroup>(&group_of, "transaction-group/3/x/y/a/b"),
        round_trips::<TransactionOffset>(&offset_of, "transaction-offset/3/x/y/3/a/b/t/7"),
        round_trips::<TransactionDue>(&at, &format!("transaction-due/{time}/x/y")),
        round_trips::<PendingOffset>(&pending, "pending-offset/3/a/b/t/7/5"),
        round_trips::<Subscription>(&text("s"), "client-metrics/s"),
        round_trips::<GroupDocument>(&text(""), "group/"),
        round_trips::<GroupTopics>(&text("a/b"), "group-topics/a/b"),
        round_trips::<GroupConfigs>(&text("a/b"), "group-configs/a/b"),
        round_trips::<PendingDocument>(&member, "pending-member/3/a/b/c/d"),
        round_trips::<MemberDocument>(&member, "member/3/a/b/c/d"),
        round_trips::<InstanceDocument>(&instance, "instance/3/a/b/c/d"),
        round_trips::<AssignedPartition>(&assigned, &format!("assigned-partition/3/a/b/{id}/0")),
        round_trips::<OffsetDocument>(&offset, "offset/5/4/ü//t/7"),
        round_trips::<LiveGroup>(&text("a/b"), "live-group/a/b"),
        round_trips::<Due>(&due(DueSubject::Partition(AT)), &format!("due/{time}/partition/{id}/0")),
        round_trips::<DueComplete>(&(), "due-complete"),
        round_trips::<NodeDocument>(&NodeId(7), "node/7"),
        round_trips::<StoreLevel>(&(), "level"),
        round_trips::<CopyMark>(&(), "copy"),
    ];
    assert_eq!(BTreeSet::from(tried), KINDS.iter().map(AnyKind::prefix).collect(), "every kind is tried");
}

#[test]
fn invalid_keys_are_not_parsed() {
    let wrong = [
        "open-transaction/00000000-0000-0000-0000-000000000001/0/12/5",
        "open-transaction/00000000-0000-0000-0000-000000000001/0/5",
        "transaction-partition/9/x/00000000-0000-0000-0000-000000000001/0",
        "transaction-offset/1/x/t/7",
        "transaction-due/-000000000000000007/x",
        "pending-offset/1/g/t/7",
    ];
    let others = ["", "topic-name/x", "partition/1", "producer/a/b", "nonsense/1", "counters/1", "topic"];
    for key in wrong.into_iter().chain(others) {
        let key = Key::from_text(key);
        assert_eq!(lock_root(&key), None, "{key}");
        assert_eq!(read(&key, "{}"), Err(ReadError::UnknownKind), "{key}");
    }
}

#[test]
fn no_two_kinds_have_one_prefix() {
    let prefixes: BTreeSet<&str> = KINDS.iter().map(AnyKind::prefix).collect();
    assert_eq!(prefixes.len(), KINDS.len());
}

#[test]
fn a_prefix_covers_its_keys_and_no_others() {
    let topics = TopicDocument::prefix();
    let end = topics.end();
    let keys = [
        (TopicDocument::key(&text("")), true),
        (TopicDocument::key(&text("\u{10ffff}")), true),
        (TopicName::key(&TOPIC), false),
        (TopicCollision::key(&text("a")), false),
    ];
    for (key, is_covered) in keys {
        assert_eq!(topics.matches(&key), is_covered, "{key}");
        assert_eq!(key.as_str() >= topics.as_str() && key.as_str() < end.as_str(), is_covered, "{key}");
    }
    let other = TopicPartition { partition: 10, ..AT };
    let of_partition = ProducerDocument::of_partition(TopicPartition { partition: 1, ..AT });
    assert!(!of_partition.matches(&ProducerDocument::key(&producer(other, 1))), "1 is not 10");
    let foreign =
        ProducerKey { origin: Some(text("a")), ..producer(TopicPartition { partition: 1, ..AT }, 1) };
    assert!(of_partition.matches(&ProducerDocument::key(&foreign)), "of any origin");
}

#[test]
fn what_is_deleted_with_a_log_is_of_that_log() {
    let other = TopicPartition { partition: 10, ..AT };
    let keys = |partition| {
        let in_log = LogTransactionKey { partition, offset: 12, producer: ProducerId(5) };
        [
            ProducerDocument::key(&producer(partition, 5)),
            OpenTransaction::key(&in_log),
            AbortedTransaction::key(&in_log),
        ]
    };
    for partition in [AT, TopicPartition { partition: 1, ..AT }, other] {
        for key in keys(partition) {
            assert_eq!(log_of(&key), Some(partition));
            for of in [AT, TopicPartition { partition: 1, ..AT }, other] {
                let is_deleted = deleted_with_log(of).iter().any(|prefix| prefix.matches(&key));
                assert_eq!(is_deleted, of == partition, "{key} with {of:?}");
            }
        }
    }
    assert_eq!(log_of(&PartitionDocument::key(&AT)), None, "its command deletes it");
}

#[test]
fn transactions_of_a_log_are_in_the_order_of_offsets() {
    let key =
        |offset| OpenTransaction::key(&LogTransactionKey { partition: AT, offset, producer: ProducerId(5) });
    let keys = [0, 9, 10, 1_700_000_000_000, i64::MAX].map(key);
    assert!(keys.is_sorted(), "{keys:?}");
    let pending = |topic: &str, partition| PendingOffsetKey {
        group: text("g"),
        topic: text(topic),
        partition,
        producer: ProducerId(5),
    };
    let prefix = PendingOffset::of_offset("g", "t", 1);
    for (topic, partition, is_of) in [("t", 1, true), ("t", 10, false), ("tt", 1, false)] {
        let key = PendingOffset::key(&pending(topic, partition));
        assert_eq!(prefix.matches(&key), is_of, "{key}");
        assert!(PendingOffset::of_group("g").matches(&key) && !PendingOffset::of_group("h").matches(&key));
    }
}

#[test]
fn aborted_transactions_are_found_from_an_offset_on() {
    let partition = TopicPartition { topic: TopicId(Uuid::from_u128(1)), partition: 2 };
    let key = |offset, producer| {
        AbortedTransaction::key(&LogTransactionKey { partition, offset, producer: ProducerId(producer) })
    };
    let before = AbortedTransaction::before(partition, 10);
    assert!(key(9, i64::MAX) < before && before < key(10, 0) && before < key(10, 95) && before < key(100, 1));
    assert!(AbortedTransaction::of_partition(partition).matches(&before));
    assert!(AbortedTransaction::before(partition, -1) < key(0, 0));
}

#[test]
fn the_last_stable_offset_is_where_the_first_open_transaction_begins() {
    let text = "{\"log_start\":3,\"end\":9,\"leader_epoch\":0}";
    let log = *Document::read::<PartitionDocument>(text).unwrap().get::<PartitionDocument>().unwrap();
    let last_stable = |first_unstable| PartitionDocument { first_unstable, ..log }.last_stable();
    assert_eq!([None, Some(5), Some(1)].map(last_stable), [9, 5, 3]);
}

/// A kind whose second version renamed a field.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Renamed {
    now: i32,
}

impl DocumentKind for Renamed {
    const PREFIX: &'static str = "renamed";
    const VERSION: u32 = 2;
    const LEVEL: u32 = 5;
    type Key = ();

    fn lock_root((): &()) -> LockRoot {
        LockRoot::Store
    }

    fn upgrade(version: u32, json: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct First {
            before: i32,
        }
        assert_eq!(version, 1);
        serde_json::from_str(json).map(|First { before }| Self { now: before })
    }

    fn write_before(&self) -> Result<String, serde_json::Error> {
        Ok(format!("{{\"before\":{}}}", self.now))
    }
}

#[test]
fn earlier_versions_are_upgraded_and_newer_ones_refused() {
    let document = Document::new(Renamed { now: 7 });
    assert_eq!(document.write_at(4).unwrap(), "{\"before\":7}", "until its store is finalized");
    let written = document.write_at(5).unwrap();
    assert_eq!(written, "v2 {\"now\":7}");
    assert_eq!(Document::read::<Renamed>(&written), Ok(document.clone()));
    assert_eq!(Document::read::<Renamed>("{\"before\":7}"), Ok(document));
    let newer = ReadError::Newer { version: 3, known: 2 };
    assert_eq!(Document::read::<Renamed>("v3 {\"later\":7}"), Err(newer));
    assert!(matches!(Document::read::<Renamed>("v2"), Err(ReadError::Damaged(_))));
    assert!(matches!(Document::read::<Counters>("v2 {}"), Err(ReadError::Newer { .. })));
}

/// What SQL functions and checks of the Postgres engine read as JSON, too: a value with its version before it is none. Give them
/// a function that takes that off before one of these gets a second version.
const READ_BY_SQL: [&str; 2] = [PartitionDocument::PREFIX, AbortedTransaction::PREFIX];

#[test]
fn versions_can_be_written_for_the_release_before() {
    for kind in &KINDS {
        let (version, level) = kind.version();
        assert!(level <= LEVEL, "{}", kind.prefix());
        let is_one = [Counters::PREFIX, DueComplete::PREFIX, StoreLevel::PREFIX, CopyMark::PREFIX];
        assert_eq!(kind.only_key().is_some(), is_one.contains(&kind.prefix()), "{}", kind.prefix());
        assert!(level == FIRST_LEVEL || version > 1, "{} has no version before", kind.prefix());
        assert!(version == 1 || !READ_BY_SQL.contains(&kind.prefix()), "{}", kind.prefix());
    }
}

#[test]
fn a_release_shares_stores_of_its_own_level_and_of_the_one_before() {
    let of = |level| StoreLevel::of(Some(&StoreLevel { level }));
    assert_eq!(StoreLevel::of(None), Ok(FIRST_LEVEL));
    assert_eq!(of(LEVEL), Ok(LEVEL));
    assert_eq!(of(LEVEL + 1), Err(WrongLevel::Newer(LEVEL + 1)));
    assert_eq!(of(LEVEL_BEFORE), Ok(LEVEL_BEFORE));
    assert_eq!(of(LEVEL_BEFORE - 1), Err(WrongLevel::Older(LEVEL_BEFORE - 1)), "two releases on");
    for document in [Document::new::<Counters>(Counters::default()), Document::new(StoreLevel { level: 3 })] {
        assert_eq!(document.write_at(FIRST_LEVEL).unwrap(), document.write().unwrap(), "{document:?}");
    }
}

#[test]
fn fields_that_an_earlier_release_did_not_write_are_read_as_none() {
    let written = "{\"log_start\":1,\"end\":5,\"leader_epoch\":0}";
    let log = Document::read::<PartitionDocument>(written).unwrap();
    assert_eq!(log.get::<PartitionDocument>().unwrap().append_time_ms, None);
    assert_eq!(log.write().unwrap(), written, "an append with create time writes no more");
    let counters = Document::read::<Counters>("{\"next_producer_id\":7}").unwrap();
    assert_eq!(counters.get::<Counters>(), Some(&Counters { next_producer_id: 7, leader_epoch: 0 }));
}

/// Version 1 listed the members, and counted nothing else of them.
#[test]
fn a_group_of_version_1_knows_how_many_members_it_has() {
    let read = |members: &str| {
        let text = format!("{{\"state\":\"Stable\",\"generation\":3{members},\"since_ms\":5}}");
        Document::read::<GroupDocument>(&text).unwrap().get::<GroupDocument>().unwrap().clone()
    };
    let group = read(",\"members\":[\"a\",\"b\"]");
    assert_eq!((group.generation, group.members, group.tally), (3, 2, None));
    let empty = read("");
    assert_eq!((empty.members, empty.tally.clone()), (0, Some(Arc::default())));
    let written = Document::new::<GroupDocument>(GroupDocument { members: 2, ..empty }).write().unwrap();
    assert!(written.starts_with("v2 {"), "{written}");
    assert_eq!(Document::read::<GroupDocument>(&written).unwrap().write().unwrap(), written);
}

#[test]
fn a_document_is_of_one_kind() {
    let document = Document::new(TopicName(text("t")));
    assert_eq!(document.get::<TopicName>(), Some(&TopicName(text("t"))));
    assert_eq!(document.get::<TopicCollision>(), None);
    assert!(document.get_arc::<Counters>().is_none());
    assert_eq!(document.write().unwrap(), "\"t\"");
    assert_ne!(document, Document::new(TopicCollision(vec![text("t")])));
}

#[test]
fn locks_are_ordered() {
    let mut roots = [
        GroupDocument::lock_root(&text("g")),
        PartitionDocument::lock_root(&AT),
        TopicDocument::lock_root(&text("t")),
        Counters::lock_root(&()),
    ];
    roots.sort();
    let kinds = roots.iter().map(|root| matches!(root, LockRoot::Store | LockRoot::TopicName(_)));
    assert_eq!(kinds.collect::<Vec<_>>(), [true, true, false, false]);
    let producer = ProducerDocument::key(&producer(AT, 1));
    assert_eq!(lock_root(&producer), Some(LockRoot::Partition(AT)), "a producer goes with its partition");
}
