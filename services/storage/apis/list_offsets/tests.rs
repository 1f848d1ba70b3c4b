//! The answers are those of Kafka 4.1.1 with one broker, except where a test says otherwise.

use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;
use kernel::records::{Batch, Codec};
use kernel::{Api, Ticket};
use rules::commands::{Append, Command};
use rules::documents::TopicDocument;

use super::*;
use crate::apis::common::text;
use crate::apis::testing::{self, NOW_MS, append, batch, broker, topic};
use crate::apis::testing_transactions::Transactional;

fn part(index: i32, timestamp: i64) -> ListOffsetsPartition {
    ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
}

fn of(name: &str, partitions: Vec<ListOffsetsPartition>) -> ListOffsetsTopic {
    ListOffsetsTopic::default().with_name(text::topic_name(name)).with_partitions(partitions)
}

async fn list(broker: &Arc<Broker>, version: i16, topics: Vec<ListOffsetsTopic>) -> ListOffsetsResponse {
    let request = ListOffsetsRequest::default().with_topics(topics);
    testing::ask(broker, Api::LIST_OFFSETS, version, &request).await
}

/// Error, offset, timestamp and leader epoch of one partition.
async fn told(broker: &Arc<Broker>, version: i16, partition: ListOffsetsPartition) -> (i16, i64, i64, i32) {
    let response = list(broker, version, vec![of("orders", vec![partition])]).await;
    let answer = &response.topics[0].partitions[0];
    (answer.error_code, answer.offset, answer.timestamp, answer.leader_epoch)
}

/// Offsets 0 to 6: uncompressed, gzip and uncompressed batches. The second partition is empty.
async fn orders(broker: &Broker) -> Arc<TopicDocument> {
    let orders = topic(broker, "orders", 2, &[]).await;
    let at = orders.partition(0).unwrap();
    append(broker, at, batch(Codec::None, &[NOW_MS - 1_000, NOW_MS - 900])).await;
    append(broker, at, batch(Codec::Gzip, &[NOW_MS - 500, NOW_MS - 100, NOW_MS - 300])).await;
    append(broker, at, batch(Codec::None, &[NOW_MS - 400, NOW_MS - 100])).await;
    orders
}

#[tokio::test]
async fn every_version_tells_where_a_log_begins_and_ends() {
    let broker = broker().await;
    orders(&broker).await;
    for version in 1..=10 {
        let epoch = if version < 4 { -1 } else { 0 };
        assert_eq!(told(&broker, version, part(0, LATEST)).await, (0, 7, -1, epoch));
        assert_eq!(told(&broker, version, part(0, EARLIEST)).await, (0, 0, -1, epoch));
        assert_eq!(told(&broker, version, part(1, LATEST)).await, (0, 0, -1, epoch));
        assert_eq!(told(&broker, version, part(0, 0)).await, (0, 0, NOW_MS - 1_000, epoch));
        assert_eq!(told(&broker, version, part(1, 0)).await, (0, -1, -1, -1));
    }
}

#[tokio::test]
async fn special_times_came_with_versions() {
    let broker = broker().await;
    orders(&broker).await;
    let nothing = (0, -1, -1, -1);
    let cases = [
        (MAX_TIMESTAMP, 7, (0, 3, NOW_MS - 100, 0)),
        (EARLIEST_LOCAL, 8, (0, 0, -1, 0)),
        (LATEST_TIERED, 9, nothing),
        (-6, 11, nothing),
        (i64::MIN, 11, nothing),
    ];
    for (time, from, answer) in cases {
        for version in 1..=10 {
            let unsupported_version = (35, -1, -1, -1);
            let expected = if version < from { unsupported_version } else { answer };
            assert_eq!(told(&broker, version, part(0, time)).await, expected, "{time} in {version}");
        }
    }
    assert_eq!(told(&broker, 10, part(1, MAX_TIMESTAMP)).await, nothing);
}

#[tokio::test]
async fn records_are_found_by_their_time() {
    let broker = broker().await;
    orders(&broker).await;
    for (ago, offset, found_ago) in [
        (1_000, 0, 1_000),
        (950, 1, 900),
        (900, 1, 900),
        (500, 2, 500),
        (450, 3, 100),
        (200, 3, 100),
        (100, 3, 100),
    ] {
        assert_eq!(told(&broker, 10, part(0, NOW_MS - ago)).await, (0, offset, NOW_MS - found_ago, 0));
    }
    for time in [NOW_MS - 99, NOW_MS, i64::MAX] {
        assert_eq!(told(&broker, 10, part(0, time)).await, (0, -1, -1, -1));
    }
}

#[tokio::test]
async fn records_without_a_time_are_not_found_by_one() {
    let broker = broker().await;
    let at = topic(&broker, "orders", 1, &[]).await.partition(0).unwrap();
    append(&broker, at, batch(Codec::Gzip, &[-1, -1])).await;
    for time in [0, NOW_MS, MAX_TIMESTAMP] {
        assert_eq!(told(&broker, 10, part(0, time)).await, (0, -1, -1, -1), "{time}");
    }
    append(&broker, at, batch(Codec::None, &[-1, 7, -1])).await;
    append(&broker, at, batch(Codec::None, &[-1])).await;
    for time in [0, 7, MAX_TIMESTAMP] {
        assert_eq!(told(&broker, 10, part(0, time)).await, (0, 3, 7, 0), "{time}");
    }
    assert_eq!(told(&broker, 10, part(0, 8)).await, (0, -1, -1, -1));
}

#[tokio::test]
async fn an_offset_has_the_leader_epoch_of_its_record() {
    let broker = broker().await;
    let at = topic(&broker, "orders", 1, &[]).await.partition(0).unwrap();
    for leader_epoch in [3, 8] {
        let batch = Batch::check(batch(Codec::None, &[NOW_MS - 50 + i64::from(leader_epoch)])).unwrap();
        let append = Append { leader_epoch, ..Append::new(at, &batch, NOW_MS) };
        broker.store.commit_one(&Ticket::only(), Command::Append(append)).await.unwrap().unwrap();
    }
    assert_eq!(told(&broker, 10, part(0, EARLIEST)).await, (0, 0, -1, 3));
    assert_eq!(told(&broker, 10, part(0, 0)).await, (0, 0, NOW_MS - 47, 3));
    assert_eq!(told(&broker, 10, part(0, LATEST)).await, (0, 2, -1, 8));
    for (epoch, error) in [(3, 74), (8, 0), (9, 75)] {
        let believing = part(0, LATEST).with_current_leader_epoch(epoch);
        assert_eq!(told(&broker, 10, believing).await.0, error);
    }
    begin_at(&broker, at, 1).await;
    assert_eq!(told(&broker, 10, part(0, EARLIEST_LOCAL)).await, (0, 1, -1, 8));
}

async fn begin_at(broker: &Broker, partition: TopicPartition, offset: i64) {
    let trim = Command::AdvanceLogStart { partition, offset };
    broker.store.commit_one(&Ticket::only(), trim).await.unwrap().unwrap();
}

#[tokio::test]
async fn records_before_the_logs_beginning_are_not_found() {
    let broker = broker().await;
    let at = orders(&broker).await.partition(0).unwrap();
    begin_at(&broker, at, 1).await;
    assert_eq!(told(&broker, 10, part(0, NOW_MS - 1_000)).await, (0, 1, NOW_MS - 900, 0));
    // The second batch has this timestamp only in a deleted record; the next such record is in the third.
    begin_at(&broker, at, 4).await;
    assert_eq!(told(&broker, 10, part(0, NOW_MS - 200)).await, (0, 6, NOW_MS - 100, 0));
    // Kafka, too, returns a record that can no longer be read.
    assert_eq!(told(&broker, 10, part(0, MAX_TIMESTAMP)).await, (0, 6, NOW_MS - 100, 0));
    begin_at(&broker, at, 7).await;
    for time in [0, MAX_TIMESTAMP] {
        assert_eq!(told(&broker, 10, part(0, time)).await, (0, -1, -1, -1));
    }
    assert_eq!(told(&broker, 10, part(0, EARLIEST)).await, (0, 7, -1, 0));
}

#[tokio::test]
async fn a_client_that_believes_in_another_leader_is_told_so() {
    let broker = broker().await;
    orders(&broker).await;
    let (fenced, unknown) = ((74, -1, -1, -1), (75, -1, -1, -1));
    for time in [LATEST, MAX_TIMESTAMP, 0] {
        let believing = |epoch| part(0, time).with_current_leader_epoch(epoch);
        assert_eq!(told(&broker, 10, believing(5)).await, unknown);
        assert_eq!(told(&broker, 10, believing(-2)).await, fenced);
        assert_eq!(told(&broker, 10, believing(0)).await.0, 0);
    }
}

#[tokio::test]
async fn what_is_unknown_or_repeated_is_told_partition_by_partition() {
    let broker = broker().await;
    orders(&broker).await;
    let topics = vec![
        of("nope", vec![part(0, LATEST)]),
        of("orders", vec![part(0, LATEST), part(0, EARLIEST), part(9, LATEST)]),
        of("orders", vec![part(1, LATEST), part(9, LATEST), part(-1, LATEST)]),
    ];
    let response = list(&broker, 10, topics).await;
    let names: Vec<&str> = response.topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["nope", "orders"]);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes: Vec<(i32, i16)> =
        partitions.map(|answer| (answer.partition_index, answer.error_code)).collect();
    let (unknown, invalid_request) = (3, 42);
    assert_eq!(codes, [(0, unknown), (0, invalid_request), (9, invalid_request), (1, 0), (-1, unknown)]);
}

// Kafka answers an unknown isolation level with UNKNOWN_SERVER_ERROR.
#[tokio::test]
async fn isolation_levels_are_0_or_1() {
    let broker = broker().await;
    orders(&broker).await;
    for (level, code) in [(0, 0), (1, 0), (9, 42)] {
        let topics = vec![of("orders", vec![part(0, LATEST)])];
        let request = ListOffsetsRequest::default().with_isolation_level(level).with_topics(topics);
        let response: ListOffsetsResponse = testing::ask(&broker, Api::LIST_OFFSETS, 10, &request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, code);
    }
}

/// Offset and timestamp for each isolation level.
async fn told_to_each(broker: &Arc<Broker>, time: i64) -> [(i64, i64); 2] {
    let mut told = [(0, 0); 2];
    for (level, told) in (0..).zip(&mut told) {
        let topics = vec![of("orders", vec![part(0, time)])];
        let request = ListOffsetsRequest::default().with_isolation_level(level).with_topics(topics);
        let response: ListOffsetsResponse = testing::ask(broker, Api::LIST_OFFSETS, 10, &request).await;
        let answer = &response.topics[0].partitions[0];
        assert_eq!(answer.error_code, 0);
        *told = (answer.offset, answer.timestamp);
    }
    told
}

#[tokio::test]
async fn readers_of_committed_records_find_none_of_an_open_transaction() {
    let broker = broker().await;
    let at = topic(&broker, "orders", 1, &[]).await.partition(0).unwrap();
    append(&broker, at, batch(Codec::None, &[NOW_MS - 100, NOW_MS - 100])).await;
    let mut producer = Transactional::new(&broker, "x").await;
    // Its records have the time of the clock.
    assert_eq!(producer.append(at, 2).await, 2);
    append(&broker, at, batch(Codec::None, &[NOW_MS - 100])).await;
    let nothing = (-1, -1);
    assert_eq!(told_to_each(&broker, LATEST).await, [(5, -1), (2, -1)]);
    for time in [EARLIEST, EARLIEST_LOCAL] {
        assert_eq!(told_to_each(&broker, time).await, [(0, -1); 2]);
    }
    assert_eq!(told_to_each(&broker, NOW_MS - 100).await, [(0, NOW_MS - 100); 2]);
    assert_eq!(told_to_each(&broker, NOW_MS).await, [(2, NOW_MS), nothing]);
    assert_eq!(told_to_each(&broker, MAX_TIMESTAMP).await, [(2, NOW_MS), nothing]);
    assert_eq!(told_to_each(&broker, LATEST_TIERED).await, [nothing; 2]);
    producer.end(false).await;
    assert_eq!(told_to_each(&broker, LATEST).await, [(6, -1); 2]);
    for time in [NOW_MS, MAX_TIMESTAMP] {
        assert_eq!(told_to_each(&broker, time).await, [(2, NOW_MS); 2], "also of an aborted one");
    }
}
