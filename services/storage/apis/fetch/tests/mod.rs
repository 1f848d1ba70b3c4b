//! The answers are those of Kafka 4.1.1 with one broker, except where a test says otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchResponse};
use kafka_protocol::protocol::Decodable;
use kernel::budget::Budget;
use kernel::drain::drain;
use kernel::records::{BatchBuilder, Codec, NewRecord};
use kernel::session::HostPort;
use kernel::{Api, Body, Session, Ticket};
use rules::commands::Command;
use rules::documents::TopicDocument;
use tokio::task::yield_now;
use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::apis::common::text;
use crate::apis::testing::{self, NOW_MS, append, batch, broker, broker_with_replies, topic};
use crate::dispatch;

mod isolation;
mod sessions;

fn part(index: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(index)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

fn of(name: &str, partitions: Vec<FetchPartition>) -> FetchTopic {
    FetchTopic::default().with_topic(text::topic_name(name)).with_partitions(partitions)
}

/// A request that does not wait.
fn request(topics: Vec<FetchTopic>) -> FetchRequest {
    FetchRequest::default().with_min_bytes(1).with_max_bytes(1 << 20).with_topics(topics)
}

async fn fetch(broker: &Arc<Broker>, version: i16, request: &FetchRequest) -> FetchResponse {
    testing::ask(broker, Api::FETCH, version, request).await
}

/// All partitions of a response, in order.
fn parts(response: &FetchResponse) -> Vec<&PartitionData> {
    response.responses.iter().flat_map(|topic| &topic.partitions).collect()
}

/// Number, error and bytes of each partition.
fn told(response: &FetchResponse) -> Vec<(i32, i16, usize)> {
    let bytes = |part: &PartitionData| part.records.as_ref().map_or(0, Bytes::len);
    parts(response).into_iter().map(|part| (part.partition_index, part.error_code, bytes(part))).collect()
}

fn two_records() -> Bytes {
    batch(Codec::None, &[NOW_MS, NOW_MS])
}

/// `orders`, with four batches of two records in the first partition and one in the second.
async fn orders(broker: &Broker) -> Arc<TopicDocument> {
    let orders = topic(broker, "orders", 3, &[]).await;
    for index in [0, 0, 0, 0, 1] {
        append(broker, orders.partition(index).unwrap(), two_records()).await;
    }
    orders
}

#[tokio::test]
async fn every_version_gets_the_batches_with_their_offsets() {
    let broker = broker().await;
    let orders = orders(&broker).await;
    for version in 4..=18 {
        let asked = of("orders", vec![part(0, 2), part(1, 2)]).with_topic_id(orders.id.0);
        let response = fetch(&broker, version, &request(vec![asked])).await;
        assert_eq!((response.error_code, response.session_id, response.responses.len()), (0, 0, 1));
        match version {
            13.. => assert_eq!(response.responses[0].topic_id, orders.id.0),
            _ => assert_eq!(response.responses[0].topic.as_str(), "orders"),
        }
        let log_start = if version < 5 { -1 } else { 0 };
        let parts = parts(&response);
        for (part, high_watermark) in parts.iter().zip([8, 2]) {
            assert_eq!((part.high_watermark, part.last_stable_offset), (high_watermark, high_watermark));
            assert_eq!((part.log_start_offset, part.preferred_read_replica.0), (log_start, -1));
            assert_eq!(part.aborted_transactions, None);
        }
        let records = parts[0].records.clone().unwrap();
        let batches: Vec<_> = kernel::records::Batch::split_all(records).collect();
        let offsets: Vec<i64> = batches.iter().map(|batch| batch.base_offset()).collect();
        assert_eq!(offsets, [2, 4, 6], "version {version}");
        assert!(batches.iter().all(|batch| batch.crc_fits()));
        assert_eq!(parts[1].records.as_deref(), Some(&[][..]));
    }
}

#[tokio::test]
async fn a_few_batches_are_read_at_once_and_the_others_when_they_are_sent() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 2, &[]).await;
    let mut sent = Vec::new();
    for bytes in [10, 20_000, 30, 50_000] {
        let mut builder = BatchBuilder::new(Codec::None);
        let value = vec![b'x'; bytes];
        builder.push(NewRecord { timestamp: NOW_MS, value: Some(&value), ..NewRecord::default() });
        sent.push(builder.build().unwrap());
        append(&broker, orders.partition(1).unwrap(), builder.build().unwrap()).await;
    }
    for version in 4..=18 {
        let asked = of("orders", vec![part(0, 0), part(1, 0)]).with_topic_id(orders.id.0);
        let request = request(vec![asked]);
        let reply = testing::send(&broker, &Session::for_tests(), Api::FETCH, version, &request).await;
        let reply = reply.unwrap().unwrap();
        let records = &reply.records[1];
        let (ready, all) = (records.ready.len(), records.bytes());
        assert!(
            ready > 0 && records.later.as_ref().is_some_and(|later| later.bytes > 40_000),
            "version {version}"
        );
        assert_eq!(all, sent.iter().map(|batch| batch.len() as u64).sum::<u64>());
        let mut body = testing::whole(Api::FETCH, version, reply).await;
        let response = FetchResponse::decode(&mut body, version).unwrap();
        let records = parts(&response)[1].records.clone().unwrap();
        let batches: Vec<_> = kernel::records::Batch::split_all(records).collect();
        assert_eq!(batches.len(), 4);
        assert!(batches.iter().zip(&sent).all(|(batch, sent)| batch.bytes()[16..] == sent[16..]));
    }
}

#[tokio::test]
async fn positions_that_cannot_be_read_are_told_at_once() {
    let broker = broker().await;
    orders(&broker).await;
    let (out_of_range, unknown, not_leader, unknown_epoch) = (1, 3, 6, 75);
    let cases = [
        ("past the end", part(0, 9), out_of_range),
        ("before the beginning", part(0, -1), out_of_range),
        ("an epoch to come", part(0, 0).with_current_leader_epoch(5), unknown_epoch),
        ("the epoch", part(0, 0).with_current_leader_epoch(0), 0),
        ("no epoch at all", part(0, 0).with_current_leader_epoch(-2), 0),
        ("a last epoch to come", part(0, 4).with_last_fetched_epoch(5), out_of_range),
        ("the last epoch", part(0, 4).with_last_fetched_epoch(0), 0),
        ("no such partition", part(9, 0), unknown),
    ];
    for (case, partition, code) in cases {
        let asked = request(vec![of("orders", vec![partition])]).with_max_wait_ms(60_000);
        let response = fetch(&broker, 12, &asked).await;
        let part = parts(&response)[0];
        assert_eq!(part.error_code, code, "{case}");
        if code != 0 {
            assert_eq!((part.high_watermark, part.last_stable_offset, part.log_start_offset), (-1, -1, -1));
            let aborted = if code == unknown { Some(Vec::new()) } else { None };
            assert_eq!((&part.aborted_transactions, part.records.as_deref()), (&aborted, Some(&[][..])));
        }
    }
    let follower = request(vec![of("orders", vec![part(0, 0)])]);
    let response = fetch(&broker, 12, &follower.clone().with_replica_id(BrokerId(5))).await;
    assert_eq!(told(&response), [(0, not_leader, 0)]);
    let response = fetch(&broker, 12, &follower.with_replica_id(BrokerId(-2))).await;
    assert_eq!(told(&response)[0].1, 0, "a debugging consumer reads like any other");
}

#[tokio::test]
async fn a_replica_of_newer_versions_is_seen_too() {
    let broker = broker().await;
    let orders = orders(&broker).await;
    let state = ReplicaState::default().with_replica_id(BrokerId(5));
    let asked = of("", vec![part(0, 0)]).with_topic_id(orders.id.0);
    let response = fetch(&broker, 15, &request(vec![asked]).with_replica_state(state)).await;
    assert_eq!(told(&response), [(0, 6, 0)]);
}

#[tokio::test]
async fn a_log_that_has_diverged_is_told_where() {
    let broker = broker().await;
    orders(&broker).await;
    let asked = request(vec![of("orders", vec![part(0, 9).with_last_fetched_epoch(0)])]);
    let response = fetch(&broker, 12, &asked.with_max_wait_ms(60_000)).await;
    let part = parts(&response)[0];
    assert_eq!((part.error_code, part.high_watermark, part.log_start_offset), (0, 8, 0));
    assert_eq!((part.diverging_epoch.epoch, part.diverging_epoch.end_offset), (0, 8));
}

#[tokio::test]
async fn unknown_topics_come_last_by_id_and_by_name() {
    let broker = broker().await;
    let orders = orders(&broker).await;
    let by_id = |id, partitions| FetchTopic::default().with_topic_id(id).with_partitions(partitions);
    let unknown = by_id(Uuid::from_u128(7), vec![part(0, 0)]);
    let known = by_id(orders.id.0, vec![part(9, 0), part(1, 0)]);
    let response = fetch(&broker, 13, &request(vec![unknown, known])).await;
    assert_eq!(told(&response), [(1, 0, two_records().len()), (0, 100, 0), (9, 3, 0)]);

    let topics = vec![of("nope", vec![part(0, 0)]), of("orders", vec![part(1, 0)])];
    let response = fetch(&broker, 12, &request(topics)).await;
    assert_eq!(told(&response), [(1, 0, two_records().len()), (0, 3, 0)]);
}

#[tokio::test]
async fn the_first_batch_comes_whatever_the_limits_and_no_other_passes_them() {
    let broker = broker().await;
    orders(&broker).await;
    let one = two_records().len();
    let limited = |max: i32, first: i32, second: i32| {
        let first = part(0, 0).with_partition_max_bytes(first);
        let second = part(1, 0).with_partition_max_bytes(second);
        request(vec![of("orders", vec![first, second])]).with_max_bytes(max)
    };
    let large = 1 << 20;
    let two = i32::try_from(2 * one).unwrap();
    for (asked, bytes) in [
        (limited(0, large, large), [one, 0]),
        (limited(large, 0, 0), [one, 0]),
        (limited(large, 10, large), [one, one]),
        (limited(two, large, large), [2 * one, 0]),
        (limited(two + 1, large, large), [2 * one, 0]),
        (limited(large, two, large), [2 * one, one]),
    ] {
        let response = fetch(&broker, 12, &asked.with_max_wait_ms(60_000)).await;
        assert_eq!(told(&response), [(0, 0, bytes[0]), (1, 0, bytes[1])]);
    }
}

#[tokio::test]
async fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let broker = broker().await;
    orders(&broker).await;
    let response = fetch(&broker, 12, &request(vec![of("orders", vec![part(0, 7)])])).await;
    assert_eq!(told(&response), [(0, 0, two_records().len())]);
}

#[tokio::test]
async fn of_a_partition_named_twice_the_last_position_counts() {
    let broker = broker().await;
    orders(&broker).await;
    let response = fetch(&broker, 12, &request(vec![of("orders", vec![part(0, 0), part(0, 6)])])).await;
    assert_eq!(told(&response), [(0, 0, two_records().len())]);
}

#[tokio::test]
async fn a_reader_of_committed_records_gets_an_empty_list_of_aborted_transactions() {
    let broker = broker().await;
    orders(&broker).await;
    let asked = request(vec![of("orders", vec![part(0, 0), part(2, 0)])]).with_isolation_level(1);
    let response = fetch(&broker, 12, &asked).await;
    assert!(parts(&response).iter().all(|part| part.aborted_transactions == Some(Vec::new())));
}

// Kafka answers these with UNKNOWN_SERVER_ERROR.
#[tokio::test]
async fn sizes_below_zero_and_unknown_isolation_levels_are_invalid_requests() {
    let broker = broker().await;
    orders(&broker).await;
    let plain = request(vec![of("orders", vec![part(0, 0)])]);
    let negative = request(vec![of("orders", vec![part(0, 0).with_partition_max_bytes(-5)])]);
    for asked in [plain.clone().with_max_bytes(-1), negative, plain.with_isolation_level(7)] {
        assert_eq!(fetch(&broker, 12, &asked).await.error_code, 42);
    }
}

/// A running fetch of both partitions of a new topic.
struct Parked {
    broker: Arc<Broker>,
    topic: Arc<TopicDocument>,
    budget: Budget,
    fetch: tokio::task::JoinHandle<FetchResponse>,
}

impl Parked {
    async fn new(min_bytes: usize) -> Self {
        Self::on(Session::for_tests(), min_bytes).await
    }

    async fn on(session: Arc<Session>, min_bytes: usize) -> Self {
        let broker = broker().await;
        let topic = topic(&broker, "parked", 2, &[]).await;
        let asked = request(vec![of("parked", vec![part(0, 0), part(1, 0)])]).with_max_wait_ms(5_000);
        let asked = asked.with_min_bytes(i32::try_from(min_bytes).unwrap());
        let mut call = Call::for_tests(Api::FETCH, 12, &asked);
        call.session = session;
        let budget = Budget::for_requests(1 << 20);
        call.body = Body::new(call.body.raw().clone(), budget.take(1_000).await);
        let reply = dispatch::door(&broker).enter(call);
        let fetch = tokio::spawn(async move {
            let reply = reply.await.unwrap().unwrap();
            FetchResponse::decode(&mut testing::whole(Api::FETCH, 12, reply).await, 12).unwrap()
        });
        let parked = Self { broker, topic, budget, fetch };
        parked.settle().await;
        parked
    }

    /// Lets the fetch run until it waits.
    async fn settle(&self) {
        for _ in 0..50 {
            yield_now().await;
        }
    }

    async fn append(&self, partition: i32) {
        append(&self.broker, self.topic.partition(partition).unwrap(), two_records()).await;
        self.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_is_woken_by_an_append() {
    let started = Instant::now();
    let parked = Parked::new(1).await;
    assert!(!parked.fetch.is_finished());
    parked.append(1).await;
    let response = parked.fetch.await.unwrap();
    assert_eq!(told(&response), [(0, 0, 0), (1, 0, two_records().len())]);
    assert!(started.elapsed().is_zero(), "it waited for the clock");
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_waits_for_as_many_bytes_as_it_asked_for() {
    let started = Instant::now();
    let parked = Parked::new(2 * two_records().len()).await;
    parked.append(0).await;
    assert!(!parked.fetch.is_finished(), "half of the bytes are there");
    parked.append(1).await;
    let response = parked.fetch.await.unwrap();
    assert_eq!(told(&response), [(0, 0, two_records().len()), (1, 0, two_records().len())]);
    assert!(started.elapsed().is_zero(), "it waited for the clock");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_ends_when_its_time_is_up_with_what_there_is() {
    let started = Instant::now();
    let parked = Parked::new(1 << 16).await;
    parked.append(0).await;
    let response = parked.fetch.await.unwrap();
    assert_eq!(told(&response), [(0, 0, two_records().len()), (1, 0, 0)]);
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_hears_that_its_topic_is_gone() {
    let started = Instant::now();
    let parked = Parked::new(1).await;
    let delete = Command::DeleteTopic { id: parked.topic.id };
    parked.broker.store.commit_one(&Ticket::only(), delete).await.unwrap().unwrap();
    let response = parked.fetch.await.unwrap();
    assert_eq!(told(&response), [(0, 3, 0), (1, 3, 0)]);
    assert!(started.elapsed().is_zero(), "it waited for the clock");
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_ends_when_its_connection_is_drained() {
    let started = Instant::now();
    let (signal, drain) = drain();
    let address = SocketAddr::from(([127, 0, 0, 1], 9092));
    let advertised = HostPort { host: "localhost".to_owned(), port: 9092 };
    let session = Session::new(1, address, address, Arc::from("main"), advertised, drain);
    let parked = Parked::on(Arc::new(session), 1).await;
    assert!(!parked.fetch.is_finished());
    signal.start();
    assert_eq!(told(&parked.fetch.await.unwrap()), [(0, 0, 0), (1, 0, 0)]);
    assert!(started.elapsed().is_zero(), "it waited for the clock");
}

#[tokio::test(start_paused = true)]
async fn a_parked_fetch_holds_no_memory() {
    let parked = Parked::new(1 << 16).await;
    parked.append(0).await;
    assert!(!parked.fetch.is_finished());
    assert_eq!(parked.budget.bytes_in_use(), 0, "request memory");
    assert_eq!(parked.broker.replies.bytes_in_use(), 0, "reply memory");
}

#[tokio::test(start_paused = true)]
async fn who_wants_no_bytes_or_no_wait_is_answered_at_once() {
    let broker = broker().await;
    orders(&broker).await;
    let started = Instant::now();
    let at_end = request(vec![of("orders", vec![part(2, 0)])]);
    let nothing = request(Vec::new()).with_max_wait_ms(5_000);
    let unknown = request(vec![of("nope", vec![part(0, 0)])]).with_max_wait_ms(5_000);
    for asked in [at_end.clone().with_max_wait_ms(5_000).with_min_bytes(0), at_end, nothing, unknown] {
        fetch(&broker, 12, &asked).await;
    }
    assert!(started.elapsed().is_zero());
    // An unknown partition does not end the wait for one that exists.
    let both = vec![of("orders", vec![part(2, 0)]), of("nope", vec![part(0, 0)])];
    fetch(&broker, 12, &request(both).with_max_wait_ms(5_000)).await;
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[tokio::test]
async fn a_reply_holds_its_memory_until_it_is_sent() {
    let broker = broker().await;
    orders(&broker).await;
    let asked = request(vec![of("orders", vec![part(0, 0)])]);
    let reply = testing::send(&broker, &Session::for_tests(), Api::FETCH, 12, &asked).await.unwrap();
    assert!(broker.replies.bytes_in_use() >= 2 * two_records().len());
    drop(reply);
    assert_eq!(broker.replies.bytes_in_use(), 0);
}

#[tokio::test]
async fn a_batch_larger_than_all_reply_memory_is_delivered() {
    let broker = broker_with_replies(1_000);
    let orders = topic(&broker, "orders", 1, &[]).await;
    let large = batch(Codec::None, &[NOW_MS; 500]);
    assert!(large.len() > 1_000);
    append(&broker, orders.partition(0).unwrap(), large.clone()).await;
    append(&broker, orders.partition(0).unwrap(), two_records()).await;
    let asked = request(vec![of("orders", vec![part(0, 0)])]).with_min_bytes(1 << 20);
    let response = fetch(&broker, 12, &asked.with_max_wait_ms(60_000)).await;
    assert_eq!(told(&response), [(0, 0, large.len() + two_records().len())]);
}
