//! Commands and effects survive serialization.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::ports::TopicFacts;
use kernel::records::{Batch, BatchBuilder, Codec, NewRecord, control};
use kernel::{NodeId, ProducerId, TopicId, TopicPartition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::*;
use crate::configs::group::GroupDefaults;
use crate::documents::{
    Blob, DueComplete, DueSubject, MemberProtocol, NodeAddress, NodeFacts, OffsetDocument, ProducerKey,
};

const AT: TopicPartition = TopicPartition { topic: TopicId(Uuid::from_u128(1)), partition: 3 };

fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

fn check_round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let written = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&written).unwrap(), value, "{written}");
}

fn batch() -> Batch {
    let mut builder = BatchBuilder::new(Codec::None).producer(9, 1, 5);
    builder.push(NewRecord { timestamp: 7, value: Some(b"v"), ..NewRecord::default() });
    Batch::check(builder.build().unwrap()).unwrap()
}

fn join() -> Join {
    Join {
        member: MemberIdentity { id: text("m"), instance_id: Some(text("i")), generation: 4 },
        fresh_id: text("fresh"),
        requires_known_id: true,
        can_skip_assignment: false,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        session_timeout_ms: 1,
        rebalance_timeout_ms: 2,
        protocol_type: text("consumer"),
        protocols: vec![MemberProtocol {
            name: text("range"),
            metadata: Blob(Bytes::from_static(b"\0\xff")),
        }],
        initial_delay_ms: 3,
        members_max: 10,
        known_topics: known(),
        now_ms: 5,
    }
}

fn known() -> KnownTopics {
    let mut known = KnownTopics::default();
    let topic = TopicFacts { name: text("t"), id: AT.topic, partitions: 7 };
    known.add(&BTreeSet::from([text("t"), text("gone")]), vec![topic]);
    known
}

fn heartbeat() -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        member_id: text("m"),
        instance_id: None,
        member_epoch: 3,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        rack: Some(text("r")),
        rebalance_timeout_ms: None,
        topics: Some(BTreeSet::from([text("t")])),
        regex: Some(text("t.*")),
        resolved_regexes: vec![ResolvedRegex { regex: text("t.*"), topics: BTreeSet::from([text("t")]) }],
        assignor: None,
        owned: Some(BTreeMap::from([(AT.topic, BTreeSet::from([1, 2]))])),
        session_timeout_ms: 1,
        members_max: 2,
        known_topics: known(),
        topics_are_current: true,
        now_ms: 3,
    }
}

fn group_commands() -> Vec<GroupCommand> {
    let member = join().member;
    let document = OffsetDocument {
        topic_id: AT.topic,
        offset: 1,
        leader_epoch: -1,
        metadata: text("text"),
        committed_ms: 2,
        expires_ms: Some(3),
        revision: 0,
        sent_after: None,
        sent_as: 0,
    };
    vec![
        GroupCommand::Join(Box::new(join())),
        GroupCommand::Sync(Box::new(Sync {
            member: member.clone(),
            protocol_type: None,
            protocol: Some(text("range")),
            assignments: vec![(text("m"), Bytes::from_static(b"\x01\x80"))],
            now_ms: 1,
        })),
        GroupCommand::ConsumerHeartbeat(Box::new(heartbeat())),
        GroupCommand::ConsumerLeave(ConsumerLeave {
            member_id: text("m"),
            instance_id: None,
            member_epoch: -1,
            now_ms: 1,
        }),
        GroupCommand::InstallTarget(InstallTarget {
            epoch: 3,
            base_epoch: 1,
            members: BTreeMap::from([(
                text("m"),
                Arc::new(BTreeMap::from([(AT.topic, BTreeSet::from([1, 2]))])),
            )]),
            now_ms: 1,
        }),
        GroupCommand::Advance(Box::new(Advance {
            member_id: text("m"),
            member_epoch: 2,
            owned: None,
            is_full: true,
            awaited_epoch: 4,
            waits_for_target: true,
            now_ms: 1,
        })),
        GroupCommand::Leave { members: vec![member.clone()], now_ms: 1, wall_ms: 2 },
        GroupCommand::Tick { now_ms: 1, wall_ms: 2, timed_out: BTreeMap::from([(text("m"), 2)]) },
        GroupCommand::Resume { now_ms: 1 },
        GroupCommand::CommitOffsets {
            member,
            offsets: vec![CommittedOffset { topic: text("t"), partition: 1, document }],
            knows_epochs: true,
            now_ms: 1,
        },
        GroupCommand::DeleteOffsets { offsets: vec![(text("t"), 1)] },
        GroupCommand::ExpireOffsets {
            now_ms: 1,
            retention_ms: 2,
            deleted_topics: BTreeSet::from([AT.topic]),
        },
        GroupCommand::Delete,
        GroupCommand::Index,
    ]
}

fn transaction_commands() -> Vec<TransactionCommand> {
    let producer = ProducerIdAndEpoch { id: ProducerId(9), epoch: 3 };
    let document = OffsetDocument {
        topic_id: AT.topic,
        offset: 1,
        leader_epoch: -1,
        metadata: text(""),
        committed_ms: 2,
        expires_ms: None,
        revision: 0,
        sent_after: None,
        sent_as: 0,
    };
    vec![
        TransactionCommand::Init(InitTransaction {
            timeout_ms: 1,
            producer: Some(producer),
            version: 2,
            seed: 3,
            now_ms: 4,
            leader_epoch: 5,
        }),
        TransactionCommand::AddPartitions { producer, partitions: vec![AT], now_ms: 1 },
        TransactionCommand::AddGroup { producer, group: text("g"), now_ms: 1 },
        TransactionCommand::CommitOffsets(Box::new(CommitTransactionOffsets {
            producer,
            group: text("g"),
            member: join().member,
            offsets: vec![CommittedOffset { topic: text("t"), partition: 1, document }],
            if_not_added: IfNotAdded::RefuseAbortable,
            now_ms: 1,
        })),
        TransactionCommand::End(EndTransaction {
            producer,
            commit: true,
            version: 1,
            now_ms: 2,
            leader_epoch: 3,
        }),
        TransactionCommand::Expire { taken_ms: 1, now_ms: 2, leader_epoch: 3 },
    ]
}

fn in_transaction() -> Append {
    let transaction = TransactionOfAppend { id: text("x"), if_not_added: IfNotAdded::Join };
    Append { transaction: Some(transaction), ..Append::new(AT, &batch(), 17) }
}

fn producer(origin: Option<Arc<str>>) -> ProducerKey {
    ProducerKey { partition: AT, producer: ProducerId(9), origin }
}

#[test]
fn commands_round_trip() {
    let operations =
        ["Set", "Append", "Subtract"].map(|value| (value.to_owned(), ConfigOperation::Set(value.to_owned())));
    let incremental = NewConfigs::Incremental(
        operations.into_iter().chain([("x".to_owned(), ConfigOperation::Delete)]).collect(),
    );
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]);
    let mut commands = vec![
        Command::CreateTopic { name: text("t"), id: AT.topic, partitions: 3, configs: configs.clone() },
        Command::DeleteTopic { id: AT.topic },
        Command::CreatePartitions { name: text("t"), count: 5 },
        Command::AlterConfigs { name: text("t"), configs: NewConfigs::Replace(configs) },
        Command::AlterClientMetrics { name: text("s"), configs: incremental },
        Command::AlterGroupConfigs {
            group: text("g"),
            configs: NewConfigs::Incremental(vec![("x".to_owned(), ConfigOperation::Delete)]),
            defaults: GroupDefaults { session_ms: 45_000, heartbeat_ms: 5_000 },
        },
        Command::Append(Append::new(AT, &batch(), 17)),
        Command::Append(in_transaction()),
        Command::WriteMarker(WriteMarker {
            partition: AT,
            producer: ProducerIdAndEpoch { id: ProducerId(9), epoch: 3 },
            commit: false,
            coordinator_epoch: 4,
            now_ms: 5,
            leader_epoch: 6,
        }),
        Command::RecordEpoch { epoch: 6 },
        Command::AdvanceLogStart { partition: AT, offset: -1 },
        Command::AllocateProducerId { seed: 7 },
        Command::ExpireProducer { producer: producer(None), taken_ms: Some(5), now_ms: 6 },
        Command::ExpireProducer { producer: producer(Some(text("a/b"))), taken_ms: None, now_ms: 6 },
        Command::Retain(Retain {
            partition: AT,
            taken_ms: Some(5),
            end: 9,
            log_start: Some(7),
            next_ms: None,
            after_append: true,
        }),
        Command::Clean(Clean {
            partition: AT,
            steps: 3,
            log_start: 1,
            runs: vec![cleaned_run()],
            ended: vec![(7, 9)],
            clean_end: Some(8),
        }),
        Command::ForgetAborted { partition: AT },
        Command::AwaitCleaning(AwaitCleaning { partition: AT, taken_ms: Some(5), end: 9, next_ms: Some(60) }),
        Command::Due(DueCommand::Complete(DueComplete { offsets_retention_ms: 1 })),
        Command::Check(Box::new(Command::AllocateProducerId { seed: 7 })),
    ];
    let subjects = [
        DueSubject::Partition(AT),
        DueSubject::Cleaning(AT),
        DueSubject::Topic(text("t")),
        DueSubject::Producer(producer(None)),
        DueSubject::Offsets(text("g")),
        DueSubject::DeletedTopic(AT.topic),
    ];
    let moved = |subject| DueCommand::Move { subject, from_ms: vec![0, 7], to_ms: Some(9) };
    commands.extend(subjects.into_iter().map(moved).map(Command::Due));
    let of_transaction = |command| Command::Transaction { id: text("x"), command };
    commands.extend(transaction_commands().into_iter().map(of_transaction));
    commands.extend(group_commands().into_iter().map(|command| Command::Group { group: text("g"), command }));
    commands.extend(node_commands().into_iter().map(Command::Node));
    commands.iter().for_each(check_round_trip);
}

fn node_commands() -> [NodeCommand; 4] {
    let node = Some(NodeId(3));
    [
        NodeCommand::Renew(Box::new(RenewNode {
            node,
            had: node,
            facts: node_facts(),
            ended: vec![text("s")],
            lease_ms: 4,
            now_ms: 5,
        })),
        NodeCommand::Leave { incarnation: AT.topic.0 },
        NodeCommand::Drain { node: NodeId(3), is_drained: true, now_ms: 5 },
        NodeCommand::Finalize { level: 2, now_ms: 5 },
    ]
}

fn node_facts() -> NodeFacts {
    let address = NodeAddress { host: text("broker-1"), port: 9092 };
    NodeFacts {
        incarnation: AT.topic.0,
        cluster_id: Some(Arc::from("c")),
        addresses: BTreeMap::from([(text("main"), address)]),
        rack: Some(text("a")),
        release: text("1.0"),
        level: 2,
        session: Some(text("s")),
    }
}

fn cleaned_run() -> CleanedRun {
    let batch = CleanedBatch {
        base_offset: 4,
        next_offset: 6,
        max_timestamp: 17,
        has_records: true,
        payload: Payload(batch().bytes().clone()),
    };
    CleanedRun { from: 4, until: 6, batches: vec![batch] }
}

#[test]
fn effects_round_trip() {
    let append = Append::new(AT, &batch(), 17);
    let effects = [
        Effect::CreateLog { partition: AT },
        Effect::Append {
            partition: AT,
            base_offset: 1 << 40,
            leader_epoch: 2,
            batch: append.batch,
            appended_ms: 17,
            payload: append.payload,
        },
        Effect::Trim { partition: AT, was: 1, log_start: 2 },
        Effect::Clean { partition: AT, run: cleaned_run() },
        Effect::DropLog { partition: AT },
    ];
    effects.iter().for_each(check_round_trip);
}

#[test]
fn the_header_fields_of_a_marker_are_those_of_its_batch() {
    let producer = ProducerIdAndEpoch { id: ProducerId(9), epoch: 3 };
    let bytes = control::marker(9, 3, true, 0, 17);
    let facts = BatchFacts::of_marker(producer, 17, bytes.len() as u32);
    let batch = Batch::check(bytes).unwrap();
    assert_eq!(facts, BatchFacts::of(&batch));
    assert!(facts.is_transactional() && batch.is_control());
}

#[test]
fn an_append_carries_the_header_fields_of_its_batch() {
    let Append { batch: facts, payload, .. } = Append::new(AT, &batch(), 17);
    assert_eq!((facts.producer_id, facts.producer_epoch, facts.base_sequence), (9, 1, 5));
    assert_eq!((facts.record_count, facts.last_offset_delta), (1, 0));
    assert_eq!((facts.base_timestamp, facts.max_timestamp), (7, 7));
    assert_eq!(facts.bytes as usize, payload.0.len());
}
