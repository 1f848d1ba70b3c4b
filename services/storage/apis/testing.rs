//! Helpers for the API tests: a broker over the memory engine, topics, batches, and calls through the door.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, GroupId};
use kafka_protocol::protocol::{Decodable, Encodable};
use kernel::budget::Budget;
use kernel::clock::{ManualClock, SharedClock, SharedStoreClock};
use kernel::ids::RandomIds;
use kernel::parts::{self, Part};
use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::records_later::RecordsLater;
use kernel::session::HostPort;
use kernel::{Api, Call, Hangup, Header, NodeId, Reply, Session, Ticket, TopicPartition};
use rules::commands::{
    Append, Applied, Command, EndTransaction, IfNotAdded, InitTransaction, ProducerIdAndEpoch,
    TransactionCommand, TransactionOfAppend,
};
use rules::documents::TopicDocument;

use crate::apis::common::text;
use crate::broker::{Broker, BrokerParts, NodeFacts};
use crate::dispatch;
use crate::engines::Engine;
use crate::engines::memory::Memory;
use crate::nodes;
use crate::settings::Settings;

/// The time of the broker's clocks, which are stopped.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// A broker with an open, empty store.
pub(crate) async fn broker() -> Arc<Broker> {
    broker_with_replies(64 << 20)
}

/// The same, with this much memory for replies.
pub(crate) fn broker_with_replies(bytes: usize) -> Arc<Broker> {
    broker_over(Arc::new(Memory::new()), Arc::new(ManualClock::at(NOW_MS)), bytes)
}

/// A broker with an open, empty store and other settings.
pub(crate) fn broker_with(change: impl FnOnce(&mut Settings)) -> Arc<Broker> {
    let mut settings = Settings::at("memory://");
    change(&mut settings);
    let clock = Arc::new(ManualClock::at(NOW_MS));
    build_broker(settings, Arc::new(Memory::new()), (clock.clone(), clock), 64 << 20)
}

/// A broker over a store that others may have used, with a clock of the test's, which is its store time, too.
pub(crate) fn broker_over(
    store: Arc<impl Engine + 'static>,
    clock: Arc<ManualClock>,
    reply_bytes: usize,
) -> Arc<Broker> {
    build_broker(Settings::at("memory://"), store, (clock.clone(), clock), reply_bytes)
}

/// The same with other settings.
pub(crate) fn broker_of(
    settings: Settings,
    store: Arc<impl Engine + 'static>,
    clock: Arc<ManualClock>,
) -> Arc<Broker> {
    build_broker(settings, store, (clock.clone(), clock), 1 << 20)
}

/// The same, with a wall clock and a store time of the test's.
pub(crate) fn broker_of_clocks(
    store: Arc<impl Engine + 'static>,
    clock: Arc<ManualClock>,
    time: Arc<ManualClock>,
) -> Arc<Broker> {
    build_broker(Settings::at("memory://"), store, (clock, time), 64 << 20)
}

/// A heartbeat of a member of the consumer protocol, which subscribes to nothing; with epoch 0 it joins.
pub(crate) fn consumer_heartbeat(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text::str_bytes(group)))
        .with_member_id(text::str_bytes(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1);
    if epoch != 0 {
        return request;
    }
    let request = request.with_rebalance_timeout_ms(1_000);
    request.with_subscribed_topic_names(Some(Vec::new())).with_topic_partitions(Some(Vec::new()))
}

/// A broker that shares its store, whose clients connect to a host by its name.
pub(crate) async fn sharing_broker(store: &Arc<Memory>, host: &str) -> Arc<Broker> {
    let node = NodeFacts {
        cluster_id: Arc::from("test-cluster"),
        node_id: None,
        rack: Some(Arc::from(format!("rack-of-{host}"))),
        listeners: "test://localhost:9092".to_owned(),
    };
    let (settings, ids, replies) =
        (Settings::at("memory://"), Arc::new(RandomIds), Budget::for_replies(64 << 20));
    let own_clock = Arc::new(ManualClock::at(0));
    let parts = BrokerParts { settings, node, clock: own_clock.clone(), time: own_clock, ids, replies };
    let (opener, broker) = Broker::new(parts);
    let address = HostPort { host: host.to_owned(), port: 9092 };
    broker.nodes.set_addresses(BTreeMap::from([(Arc::from("test"), Some(address))]));
    let sharing = store.sharing().expect("a shared store");
    broker.follow_clock(&sharing.clock);
    nodes::join(&broker, &**store).await.expect("the first lease");
    opener.opened(Arc::clone(store) as Arc<dyn Engine>);
    Arc::new(broker)
}

fn build_broker(
    settings: Settings,
    store: Arc<impl Engine + 'static>,
    (clock, time): (SharedClock, SharedStoreClock),
    reply_bytes: usize,
) -> Arc<Broker> {
    let node = NodeFacts {
        cluster_id: Arc::from("test-cluster"),
        node_id: Some(NodeId(1)),
        rack: None,
        listeners: "main://localhost:9092".to_owned(),
    };
    let ids = Arc::new(RandomIds);
    let replies = Budget::for_replies(reply_bytes);
    let parts = BrokerParts { settings, node, clock, time, ids, replies };
    let (opener, broker) = Broker::new(parts);
    opener.opened(store);
    Arc::new(broker)
}

/// The stored topic.
pub(crate) async fn stored(broker: &Broker, name: &str) -> Arc<TopicDocument> {
    let found = broker.store.get_one::<TopicDocument>(&Arc::from(name)).await;
    found.expect("the store is open").expect("the topic is there")
}

/// The versions of an API that Kafka 4.1 supports.
pub(crate) fn versions(api: Api) -> RangeInclusive<i16> {
    api.versions().min..=api.versions().max
}

/// Creates a topic.
pub(crate) async fn topic(
    broker: &Broker,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> Arc<TopicDocument> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let configs: BTreeMap<String, String> = configs.iter().map(owned).collect();
    let id = broker.fresh_topic_id();
    let command = Command::CreateTopic { name: Arc::from(name), id, partitions, configs };
    match broker.store.commit_one(&Ticket::only(), command).await.expect("the store is open") {
        Ok(Applied::Topic(topic)) => topic,
        other => panic!("{name} was not created: {other:?}"),
    }
}

/// Appends a batch and returns its base offset.
pub(crate) async fn append(broker: &Broker, partition: TopicPartition, batch: Bytes) -> i64 {
    let batch = Batch::check(batch).expect("a test's batch is whole");
    let command = Command::Append(Append::new(partition, &batch, NOW_MS));
    match broker.store.commit_one(&Ticket::only(), command).await.expect("the store is open") {
        Ok(Applied::Appended { base_offset, .. }) => base_offset,
        other => panic!("the batch was not appended: {other:?}"),
    }
}

async fn commit_transaction(broker: &Broker, id: &str, command: TransactionCommand) -> Applied {
    let command = Command::Transaction { id: Arc::from(id), command };
    let outcome = broker.store.commit_one(&Ticket::only(), command).await.expect("the store is open");
    outcome.expect("the command is not refused")
}

/// The next producer of a transactional id.
pub(crate) async fn transactional_producer(broker: &Broker, id: &str) -> ProducerIdAndEpoch {
    let init = InitTransaction {
        timeout_ms: 60_000,
        producer: None,
        version: 1,
        seed: 1,
        now_ms: NOW_MS,
        leader_epoch: 0,
    };
    match commit_transaction(broker, id, TransactionCommand::Init(init)).await {
        Applied::TransactionalProducer(producer) => producer,
        other => panic!("{id} has no producer: {other:?}"),
    }
}

/// The same, with an open transaction that has the group `g` in it.
pub(crate) async fn open_transaction(broker: &Broker, id: &str) -> ProducerIdAndEpoch {
    let producer = transactional_producer(broker, id).await;
    let add = TransactionCommand::AddGroup { producer, group: Arc::from("g"), now_ms: NOW_MS };
    commit_transaction(broker, id, add).await;
    producer
}

/// Ends a transaction; its producer keeps its epoch.
pub(crate) async fn end_transaction(broker: &Broker, id: &str, producer: ProducerIdAndEpoch, commit: bool) {
    let end = EndTransaction { producer, commit, version: 1, now_ms: NOW_MS, leader_epoch: 0 };
    commit_transaction(broker, id, TransactionCommand::End(end)).await;
}

/// Appends the first batch of a producer, of one record, in a transaction that the partition joins.
pub(crate) async fn produce_in_transaction(
    broker: &Broker,
    id: &str,
    producer: ProducerIdAndEpoch,
    partition: TopicPartition,
) {
    let batch = Batch::check(transactional_batch(producer, 0)).expect("a test's batch is whole");
    let transaction = TransactionOfAppend { id: Arc::from(id), if_not_added: IfNotAdded::Join };
    let append = Append { transaction: Some(transaction), ..Append::new(partition, &batch, NOW_MS) };
    let outcome = broker.store.commit_one(&Ticket::only(), Command::Append(append)).await;
    outcome.expect("the store is open").expect("the batch is appended");
}

/// A batch of one record in a transaction.
pub(crate) fn transactional_batch(producer: ProducerIdAndEpoch, sequence: i32) -> Bytes {
    let builder = BatchBuilder::new(Codec::None).producer(producer.id.0, producer.epoch, sequence);
    build(builder.transactional(), &[NOW_MS])
}

/// A batch of records with these timestamps; the values count up from `v0`.
pub(crate) fn batch(codec: Codec, timestamps: &[i64]) -> Bytes {
    build(BatchBuilder::new(codec), timestamps)
}

/// The batch of an idempotent producer, its records stamped with [`NOW_MS`].
pub(crate) fn idempotent_batch(producer: i64, epoch: i16, sequence: i32, records: usize) -> Bytes {
    build(BatchBuilder::new(Codec::None).producer(producer, epoch, sequence), &vec![NOW_MS; records])
}

fn build(mut builder: BatchBuilder, timestamps: &[i64]) -> Bytes {
    for (index, timestamp) in timestamps.iter().enumerate() {
        let value = format!("v{index}");
        let value = Some(value.as_bytes());
        builder.push(NewRecord { timestamp: *timestamp, key: Some(b"key"), value, headers: &[] });
    }
    builder.build().expect("a test's batch can be built")
}

/// Sends a request on a connection and returns what the stack would get.
pub(crate) async fn send<Q: Encodable>(
    broker: &Arc<Broker>,
    connection: &Arc<Session>,
    api: Api,
    version: i16,
    request: &Q,
) -> Result<Option<Reply>, Hangup> {
    let mut call = Call::for_tests(api, version, request);
    call.session = Arc::clone(connection);
    dispatch::door(broker).enter(call).await
}

/// The whole body of a reply, with its records.
pub(crate) async fn whole(api: Api, version: i16, mut reply: Reply) -> Bytes {
    let header = Header { api, version, correlation_id: 1, client_id: None };
    let (parts, bytes) = parts::of(&header, &mut reply).expect("the reply has its parts");
    let mut body = Vec::new();
    for part in parts {
        match part {
            Part::Bytes(bytes) => body.extend_from_slice(&bytes),
            Part::Later(RecordsLater { mut bytes, mut source }) => {
                while bytes > 0 {
                    let piece = usize::try_from(bytes.min(100_000)).expect("it fits");
                    let (read, next) = source.read(piece).await.expect("the records are there");
                    read.iter().for_each(|read| body.extend_from_slice(read));
                    bytes -= read.iter().map(Bytes::len).sum::<usize>() as u64;
                    source = next;
                }
            }
        }
    }
    assert_eq!(body.len() as u64, bytes);
    body.into()
}

/// Sends a request on a connection and decodes the reply to its last byte.
pub(crate) async fn ask_on<Q: Encodable, R: Decodable>(
    broker: &Arc<Broker>,
    connection: &Arc<Session>,
    api: Api,
    version: i16,
    request: &Q,
) -> R {
    let reply = send(broker, connection, api, version, request).await;
    let reply = reply.expect("the connection stays open").expect("there is a reply");
    let mut body = whole(api, version, reply).await;
    let decoded = R::decode(&mut body, version).expect("the reply decodes");
    assert!(body.is_empty(), "{api} {version}: {} bytes are left", body.len());
    decoded
}

/// Sends a request on a new connection.
pub(crate) async fn ask<Q: Encodable, R: Decodable>(
    broker: &Arc<Broker>,
    api: Api,
    version: i16,
    request: &Q,
) -> R {
    ask_on(broker, &Session::for_tests(), api, version, request).await
}
