//! The answers are those of Kafka 4.1.1 with one broker, except where a test says otherwise.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TransactionalId;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kernel::records::{BatchBuilder, NewRecord};
use kernel::ticket::Lane;
use kernel::{Api, Session, TopicId};
use rules::documents::TopicDocument;
use uuid::Uuid;

use super::*;
use crate::apis::common::text;
use crate::apis::testing::{
    self, NOW_MS, batch, broker, broker_over, broker_with, end_transaction, idempotent_batch, topic,
    transactional_batch, transactional_producer,
};
use crate::dispatch;
use crate::engines::memory::Memory;
use crate::engines::{ReadFrom, ReadLimits, ReadOutcome, ReadSpec, RetentionLimits};
use kernel::clock::ManualClock;

const HOUR_MS: i64 = 60 * 60 * 1000;

fn partition(index: i32, records: Bytes) -> PartitionProduceData {
    PartitionProduceData::default().with_index(index).with_records(Some(records))
}

fn to(name: &str, partitions: Vec<PartitionProduceData>) -> TopicProduceData {
    TopicProduceData::default().with_name(text::topic_name(name)).with_partition_data(partitions)
}

fn request(acks: i16, topics: Vec<TopicProduceData>) -> ProduceRequest {
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1_000).with_topic_data(topics)
}

async fn ask(broker: &Arc<Broker>, version: i16, request: &ProduceRequest) -> ProduceResponse {
    testing::ask(broker, Api::PRODUCE, version, request).await
}

/// Produces to the first partition of `orders`.
async fn produce(broker: &Arc<Broker>, version: i16, records: Bytes) -> PartitionProduceResponse {
    let request = request(-1, vec![to("orders", vec![partition(0, records)])]);
    let mut response = ask(broker, version, &request).await;
    response.responses.remove(0).partition_responses.remove(0)
}

async fn error(broker: &Arc<Broker>, records: Bytes) -> i16 {
    let response = produce(broker, 12, records).await;
    if response.error_code != 0 {
        assert_eq!((response.base_offset, response.log_append_time_ms), (-1, -1));
        assert!(response.error_message.is_some_and(|message| !message.is_empty()));
    }
    response.error_code
}

async fn stored(broker: &Broker, topic: &TopicDocument) -> Vec<Batch> {
    let partition = topic.partition(0).unwrap();
    let spec = ReadSpec::uncommitted(partition, ReadFrom::Offset(0), 1 << 20);
    match broker.store.read(vec![spec], ReadLimits::all_now(1 << 20)).await.unwrap().remove(0) {
        ReadOutcome::Read { batches, .. } => {
            batches.into_iter().map(|batch| Batch::check(batch).unwrap()).collect()
        }
        other => panic!("the log cannot be read: {other:?}"),
    }
}

fn good() -> Bytes {
    batch(Codec::None, &[NOW_MS, NOW_MS])
}

/// The batch with the bytes at a position replaced.
fn with(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut changed = BytesMut::from(&batch[..]);
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    changed.freeze()
}

/// The same, with a valid CRC.
fn sealed(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let changed = with(batch, at, bytes);
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    let fold = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    let crc = !changed[21..].iter().fold(!0u32, fold);
    with(&changed, 17, &crc.to_be_bytes())
}

fn followed_by(batch: &Bytes, bytes: &[u8]) -> Bytes {
    let mut longer = BytesMut::from(&batch[..]);
    longer.put_slice(bytes);
    longer.freeze()
}

#[tokio::test]
async fn of_a_partition_named_twice_the_last_records_count() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 2, &[]).await;
    let (one, other) = (batch(Codec::None, &[NOW_MS]), batch(Codec::None, &[NOW_MS, NOW_MS, NOW_MS]));
    let twice = vec![
        to("orders", vec![partition(0, one.clone()), partition(1, one)]),
        to("unknown", Vec::new()),
        to("orders", vec![partition(0, other.clone())]),
    ];
    let response = ask(&broker, 12, &request(-1, twice)).await;
    assert_eq!(response.responses.len(), 1, "a topic is told once, and one without partitions not at all");
    let answers = &response.responses[0].partition_responses;
    assert_eq!(
        answers.iter().map(|answer| (answer.index, answer.error_code)).collect::<Vec<_>>(),
        [(0, 0), (1, 0)]
    );
    assert_eq!(stored(&broker, &orders).await[0].bytes()[16..], other[16..]);
}

#[tokio::test]
async fn a_producers_claim_of_append_time_is_cleared() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[]).await;
    let claim = sealed(&good(), 21, &8i16.to_be_bytes());
    assert_eq!(error(&broker, claim.clone()).await, 0);
    assert_eq!(stored(&broker, &orders).await[0].bytes()[16..], good()[16..]);
    let timeless = sealed(&claim, 35, &(-1i64).to_be_bytes());
    assert_eq!(error(&broker, timeless).await, ErrorCode::InvalidTimestamp.code());
}

#[tokio::test]
async fn every_version_appends() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[]).await;
    for (version, base_offset) in (3..=13).zip((0..).step_by(2)) {
        let data = to("orders", vec![partition(0, good())]).with_topic_id(orders.id.0);
        let mut response = ask(&broker, version, &request(-1, vec![data])).await;
        let topic = response.responses.remove(0);
        match version {
            13 => assert_eq!(topic.topic_id, orders.id.0),
            _ => assert_eq!(topic.name.as_str(), "orders"),
        }
        let answer = &topic.partition_responses[0];
        let log_start = if version < 5 { -1 } else { 0 };
        assert_eq!((answer.index, answer.error_code), (0, 0), "version {version}");
        assert_eq!((answer.base_offset, answer.log_start_offset), (base_offset, log_start));
        assert_eq!(answer.log_append_time_ms, -1);
    }
    let batches = stored(&broker, &orders).await;
    assert_eq!(batches.len(), 11);
    assert!(batches.iter().all(|batch| batch.bytes()[16..] == good()[16..]), "batches are kept as they came");
}

#[tokio::test]
async fn records_that_are_not_one_good_batch_are_refused() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    let (corrupt, invalid_record) = (2, 87);
    let good = good();
    let cases = [
        ("nothing", Bytes::new(), invalid_record),
        ("too short for a batch", Bytes::from_static(&[0; 10]), invalid_record),
        ("cut", good.slice(..good.len() - 1), invalid_record),
        ("zeroes", Bytes::from_static(&[0; 30]), corrupt),
        ("two batches", followed_by(&good, &good), invalid_record),
        ("a batch and zeroes", followed_by(&good, &[0; 40]), corrupt),
        ("magic 0", with(&good, 16, &[0]), invalid_record),
        ("magic 1", with(&good, 16, &[1]), invalid_record),
        ("magic 3", with(&good, 16, &[3]), corrupt),
        ("magic -1", with(&good, 16, &[0xff]), corrupt),
        ("another CRC", with(&good, 17, &[0; 4]), corrupt),
        ("a base offset", with(&good, 0, &5i64.to_be_bytes()), invalid_record),
        ("a base offset and another CRC", with(&with(&good, 17, &[0; 4]), 7, &[5]), invalid_record),
        ("a count too high", sealed(&good, 57, &3i32.to_be_bytes()), invalid_record),
        ("no records", sealed(&good, 57, &0i32.to_be_bytes()), invalid_record),
        ("another last offset", sealed(&good, 23, &5i32.to_be_bytes()), invalid_record),
        ("a control batch", sealed(&good, 21, &[0, 0x20]), invalid_record),
        ("a producer without a sequence", idempotent_batch(7, 0, -1, 1), invalid_record),
    ];
    for (case, records, code) in cases {
        assert_eq!(error(&broker, records).await, code, "{case}");
    }
}

#[tokio::test]
async fn a_batch_shorter_than_its_header_is_corrupt() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    let mut short = BytesMut::zeroed(40);
    short[8..12].copy_from_slice(&28i32.to_be_bytes());
    short[16] = 2;
    assert_eq!(error(&broker, short.freeze()).await, 2);
}

#[tokio::test]
async fn a_few_bytes_behind_a_batch_are_left_away() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[]).await;
    assert_eq!(error(&broker, followed_by(&good(), &[0; 5])).await, 0);
    assert_eq!(stored(&broker, &orders).await[0].bytes().len(), good().len());
}

// Kafka never answers null records, and answers an unknown codec with UNKNOWN_SERVER_ERROR, blaming itself.
#[tokio::test]
async fn null_records_and_unknown_codecs_are_the_clients_fault() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    let null = PartitionProduceData::default().with_records(None);
    let response = ask(&broker, 12, &request(1, vec![to("orders", vec![null])])).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 87);
    assert_eq!(error(&broker, sealed(&good(), 21, &[0, 5])).await, 76);
}

#[tokio::test]
async fn zstd_takes_version_7() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    let zstd = batch(Codec::Zstd, &[NOW_MS]);
    assert_eq!(produce(&broker, 6, zstd.clone()).await.error_code, 76);
    assert_eq!(produce(&broker, 7, zstd).await.error_code, 0);
}

#[tokio::test]
async fn each_partition_hears_of_itself_in_the_requests_order() {
    let broker = broker().await;
    topic(&broker, "orders", 2, &[]).await;
    let topics = vec![
        to("orders", vec![partition(1, good()), partition(9, good()), partition(-1, good())]),
        to("nope", vec![partition(0, good())]),
        to("orders", vec![partition(0, Bytes::new())]),
    ];
    let codes = |response: &ProduceResponse| {
        let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        partitions.map(|answer| (answer.index, answer.error_code, answer.base_offset)).collect::<Vec<_>>()
    };
    let response = ask(&broker, 12, &request(1, topics.clone())).await;
    let (unknown, invalid_record, invalid_acks) = (3, 87, 21);
    let expected =
        [(1, 0, 0), (9, unknown, -1), (-1, unknown, -1), (0, invalid_record, -1), (0, unknown, -1)];
    assert_eq!(codes(&response), expected);
    for acks in [2, -2] {
        let response = ask(&broker, 12, &request(acks, topics.clone())).await;
        let expected = [invalid_acks, unknown, unknown, invalid_record, unknown];
        assert_eq!(codes(&response).iter().map(|(_, code, _)| *code).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn an_unknown_id_is_told_as_one() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[]).await;
    let by_id = |id: Uuid, index| {
        TopicProduceData::default().with_topic_id(id).with_partition_data(vec![partition(index, good())])
    };
    let topics = vec![by_id(Uuid::from_u128(7), 0), by_id(orders.id.0, 0), by_id(orders.id.0, 9)];
    let response = ask(&broker, 13, &request(1, topics)).await;
    let codes = |topic: &TopicProduceResponse| {
        topic.partition_responses.iter().map(|answer| answer.error_code).collect::<Vec<_>>()
    };
    assert_eq!(response.responses.iter().map(codes).collect::<Vec<_>>(), [vec![100], vec![0, 3]]);
}

#[tokio::test]
async fn acks_0_is_answered_by_nothing_or_by_the_end_of_the_connection() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[]).await;
    let connection = Session::for_tests();
    for version in 3..=13 {
        let data = to("orders", vec![partition(0, good())]).with_topic_id(orders.id.0);
        let request = request(0, vec![data]);
        let reply = testing::send(&broker, &connection, Api::PRODUCE, version, &request).await;
        assert!(matches!(reply, Ok(None)), "version {version}");
    }
    assert_eq!(stored(&broker, &orders).await.len(), 11);
    let request = request(0, vec![to("orders", vec![partition(9, good())])]);
    assert!(testing::send(&broker, &connection, Api::PRODUCE, 12, &request).await.is_err());
}

#[tokio::test]
async fn a_batch_that_comes_again_gets_its_first_offset() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    let told = |response: PartitionProduceResponse| {
        (response.error_code, response.base_offset, response.log_append_time_ms)
    };
    let batches = [idempotent_batch(7, 0, 0, 2), idempotent_batch(7, 0, 2, 1)];
    assert_eq!(told(produce(&broker, 12, batches[0].clone()).await), (0, 0, -1));
    assert_eq!(told(produce(&broker, 12, batches[1].clone()).await), (0, 2, -1));
    assert_eq!(told(produce(&broker, 12, batches[0].clone()).await), (0, 0, NOW_MS));
    assert_eq!(told(produce(&broker, 12, batches[1].clone()).await), (0, 2, NOW_MS));
    assert_eq!(error(&broker, idempotent_batch(7, 0, 9, 1)).await, 45);
    assert_eq!(error(&broker, idempotent_batch(7, 1, 0, 1)).await, 0);
    assert_eq!(error(&broker, idempotent_batch(7, 0, 3, 1)).await, 47);
}

#[tokio::test]
async fn timestamps_out_of_range_are_named() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    for codec in [Codec::None, Codec::Gzip] {
        let records = batch(codec, &[NOW_MS, NOW_MS + 2 * HOUR_MS, NOW_MS + HOUR_MS, NOW_MS + HOUR_MS + 1]);
        let answer = produce(&broker, 12, records.clone()).await;
        assert_eq!((answer.error_code, answer.base_offset), (32, -1));
        let message = answer.error_message.unwrap();
        assert_eq!(message.as_str(), "One or more records have been rejected due to invalid timestamp");
        let named: Vec<i32> = answer.record_errors.iter().map(|record| record.batch_index).collect();
        assert_eq!(named, [1, 3]);
        let message = answer.record_errors[0].batch_index_error_message.clone().unwrap();
        let expected = format!(
            "Timestamp {} of message with offset 1 is out of range. The timestamp should be within [{}, {}]",
            NOW_MS + 2 * HOUR_MS,
            NOW_MS - i64::MAX,
            NOW_MS + HOUR_MS
        );
        assert_eq!(message.as_str(), expected);
        assert_eq!(produce(&broker, 7, records).await.error_code, 32);
    }
    assert_eq!(error(&broker, batch(Codec::None, &[-1])).await, 0, "no timestamp is a timestamp");
    assert_eq!(error(&broker, batch(Codec::None, &[5])).await, 0);
}

#[tokio::test]
async fn a_compacted_topic_takes_no_record_without_a_key() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[("cleanup.policy", "compact")]).await;
    for codec in [Codec::None, Codec::Gzip] {
        let mut builder = BatchBuilder::new(codec);
        for key in [Some(&b"k"[..]), None, Some(&b""[..]), None] {
            builder.push(NewRecord { timestamp: NOW_MS, key, value: Some(b"v"), headers: &[] });
        }
        let answer = produce(&broker, 12, builder.build().unwrap()).await;
        assert_eq!((answer.error_code, answer.base_offset), (87, -1));
        let keyless = "Compacted topic cannot accept message without key in topic partition orders-0.";
        let expected = format!(
            "One or more records have been rejected due to 2 record errors in total, and only showing the first three errors at most: [RecordError(batchIndex=1, message='{keyless}'), RecordError(batchIndex=3, message='{keyless}')]"
        );
        assert_eq!(answer.error_message.unwrap().as_str(), expected);
        let named: Vec<i32> = answer.record_errors.iter().map(|record| record.batch_index).collect();
        assert_eq!(named, [1, 3]);
        assert_eq!(error(&broker, batch(codec, &[NOW_MS])).await, 0);
    }
}

#[tokio::test]
async fn a_bound_on_the_past_is_held_record_by_record() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[("message.timestamp.before.max.ms", "1000")]).await;
    for codec in [Codec::None, Codec::Zstd] {
        let answer = produce(&broker, 12, batch(codec, &[NOW_MS, NOW_MS - 1_001, NOW_MS - 1_000])).await;
        let named: Vec<i32> = answer.record_errors.iter().map(|record| record.batch_index).collect();
        assert_eq!((answer.error_code, named), (32, vec![1]));
        assert_eq!(error(&broker, batch(codec, &[NOW_MS, NOW_MS - 1_000])).await, 0);
    }
}

#[tokio::test]
async fn the_broker_stamps_where_the_topic_says_so() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let answer = produce(&broker, 12, batch(Codec::Gzip, &[5, NOW_MS + 9 * HOUR_MS])).await;
    assert_eq!((answer.error_code, answer.log_append_time_ms), (0, NOW_MS));
    let batches = stored(&broker, &orders).await;
    assert!(batches[0].has_append_time() && batches[0].max_timestamp() == NOW_MS);

    let stamped = sealed(&good(), 21, &[0, 0x08]);
    let answer = produce(&broker, 12, stamped).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (32, 2));
}

#[tokio::test]
async fn log_append_time_never_goes_back() {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let broker = broker_over(Arc::new(Memory::new()), Arc::clone(&clock), 64 << 20);
    let orders = topic(&broker, "orders", 2, &[("message.timestamp.type", "LogAppendTime")]).await;
    for (step_ms, expected) in [(0, NOW_MS), (-HOUR_MS, NOW_MS), (HOUR_MS + 5, NOW_MS + 5)] {
        clock.advance(step_ms);
        let answer = produce(&broker, 12, batch(Codec::Lz4, &[5])).await;
        assert_eq!((answer.error_code, answer.log_append_time_ms), (0, expected));
    }
    let times: Vec<i64> = stored(&broker, &orders).await.iter().map(Batch::max_timestamp).collect();
    assert_eq!(times, [NOW_MS, NOW_MS, NOW_MS + 5]);
}

#[tokio::test]
async fn the_greatest_timestamp_is_worked_out_from_the_records() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[]).await;
    for codec in Codec::ALL {
        let sent = batch(codec, &[NOW_MS - 5, NOW_MS, NOW_MS - 9]);
        for claimed in [NO_TIMESTAMP, -7, NOW_MS - 9, i64::MAX] {
            assert_eq!(
                error(&broker, sealed(&sent, 35, &claimed.to_be_bytes())).await,
                0,
                "{codec:?} {claimed}"
            );
        }
    }
    for batch in stored(&broker, &orders).await {
        assert_eq!(batch.max_timestamp(), NOW_MS);
    }
}

#[tokio::test]
async fn records_without_a_time_are_as_old_as_their_append() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[("retention.ms", "1000")]).await;
    let undated = batch(Codec::Zstd, &[NO_TIMESTAMP, NO_TIMESTAMP]);
    for records in [undated, batch(Codec::None, &[5, NO_TIMESTAMP]), batch(Codec::None, &[5])] {
        assert_eq!(error(&broker, records).await, 0);
    }
    let engine = broker.store.engine().await.unwrap();
    let at = orders.partition(0).unwrap();
    let limits = RetentionLimits { retention_ms: Some(1_000), retention_bytes: None };
    for (age_ms, log_start) in [(0, None), (1_000, None), (1_001, Some(5))] {
        let looks = engine.retention(vec![(at, limits)], NOW_MS + age_ms).await.unwrap();
        let look = looks.into_iter().next().unwrap().unwrap().unwrap();
        assert_eq!(look.log_start, log_start, "{age_ms} ms later");
    }
}

#[tokio::test]
async fn a_batch_that_nobody_can_read_is_refused() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 1, &[]).await;
    let count = |batch: &Bytes, count: i32| {
        let last = sealed(batch, 23, &(count - 1).to_be_bytes());
        sealed(&last, 57, &count.to_be_bytes())
    };
    for codec in Codec::ALL {
        let good = batch(codec, &[NOW_MS, NOW_MS]);
        for (case, records) in [
            ("more records than there are", count(&good, 3)),
            ("far more", count(&good, i32::MAX)),
            ("fewer", count(&good, 1)),
            ("another payload", sealed(&good, 61, b"nonsense")),
        ] {
            assert_eq!(error(&broker, records).await, 87, "{codec:?}: {case}");
        }
    }
    assert!(stored(&broker, &orders).await.is_empty());
}

#[tokio::test]
async fn a_long_batch_is_checked_as_a_short_one() {
    let broker = broker().await;
    let at = topic(&broker, "orders", 1, &[("max.message.bytes", "10000000")]).await.partition(0).unwrap();
    for (codec, value_bytes) in [(Codec::None, 1_100_000), (Codec::Gzip, 200_000), (Codec::Snappy, 3 << 20)] {
        let mut builder = BatchBuilder::new(codec);
        for timestamp in [NOW_MS - 1, NOW_MS] {
            let value = vec![b'v'; value_bytes];
            builder.push(NewRecord { timestamp, value: Some(&value), ..NewRecord::default() });
        }
        let good = builder.build().unwrap();
        let misstated = sealed(&good, 35, &NO_TIMESTAMP.to_be_bytes());
        assert_eq!(error(&broker, misstated).await, 0, "{codec:?}");
        let too_many = sealed(&sealed(&good, 23, &2i32.to_be_bytes()), 57, &3i32.to_be_bytes());
        assert_eq!(error(&broker, too_many).await, 87, "{codec:?}");
    }
    assert_eq!(broker.store.logs(vec![at]).await.unwrap().get(at).unwrap().end, 6);
}

#[tokio::test]
async fn compressed_batches_are_not_opened_where_only_headers_are_checked() {
    let broker = broker_with(|settings| settings.check_records = CheckRecords::Header);
    let orders = topic(&broker, "orders", 1, &[]).await;
    let nonsense = sealed(&batch(Codec::Gzip, &[NOW_MS]), 61, b"nonsense");
    assert_eq!(error(&broker, nonsense.clone()).await, 0);
    assert_eq!(stored(&broker, &orders).await[0].max_timestamp(), NOW_MS);
    let late = batch(Codec::Gzip, &[NOW_MS, NOW_MS + 2 * HOUR_MS]);
    let answer = produce(&broker, 12, late).await;
    assert_eq!((answer.error_code, answer.record_errors.len()), (32, 1), "the header says that it must be");
    let too_many = sealed(&sealed(&good(), 23, &2i32.to_be_bytes()), 57, &3i32.to_be_bytes());
    assert_eq!(error(&broker, too_many).await, 87, "uncompressed records are always checked");
    topic(&broker, "bounded", 1, &[("message.timestamp.before.max.ms", "1000")]).await;
    let asked = request(-1, vec![to("bounded", vec![partition(0, nonsense)])]);
    let response = ask(&broker, 12, &asked).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 87, "the topic looks at each record");
}

#[tokio::test]
async fn batches_are_stored_in_the_topics_codec() {
    for (config, codec) in [
        ("uncompressed", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ] {
        let broker = broker().await;
        let orders = topic(&broker, "orders", 1, &[("compression.type", config)]).await;
        for sent in Codec::ALL {
            assert_eq!(error(&broker, batch(sent, &[NOW_MS, NOW_MS - 1])).await, 0);
        }
        for batch in stored(&broker, &orders).await {
            assert_eq!(batch.codec(), Some(codec));
            let timestamps: Vec<i64> =
                batch.records(1 << 20).unwrap().map(|record| record.unwrap().timestamp).collect();
            assert_eq!(timestamps, [NOW_MS, NOW_MS - 1]);
        }
        let unreadable = sealed(&good(), 21, &[0, if codec == Codec::Zstd { 1 } else { 4 }]);
        assert_eq!(error(&broker, unreadable).await, 87, "Kafka says UNKNOWN_SERVER_ERROR");
    }
}

#[tokio::test]
async fn a_batch_is_not_larger_than_the_topic_allows_before_or_after_recompression() {
    let broker = broker().await;
    let configs = [("compression.type", "uncompressed"), ("max.message.bytes", "300")];
    let orders = topic(&broker, "orders", 1, &configs).await;
    let (fits, too_large) = ([b'x'; 200], [b'x'; 300]);
    for (codec, value, code) in
        [(Codec::None, &fits[..], 0), (Codec::None, &too_large[..], 10), (Codec::Gzip, &too_large[..], 10)]
    {
        let mut builder = BatchBuilder::new(codec);
        builder.push(NewRecord { timestamp: NOW_MS, value: Some(value), ..NewRecord::default() });
        let records = builder.build().unwrap();
        assert!(codec == Codec::None || records.len() < 300, "it is too large only once it is unpacked");
        assert_eq!(error(&broker, records).await, code);
    }
    assert_eq!(stored(&broker, &orders).await.len(), 1);
}

/// A request with a transactional id.
fn transactional(id: &str, topics: Vec<TopicProduceData>) -> ProduceRequest {
    request(-1, topics).with_transactional_id(Some(TransactionalId(text::str_bytes(id))))
}

fn codes(response: &ProduceResponse) -> Vec<i16> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.map(|partition| partition.error_code).collect()
}

#[tokio::test]
async fn a_transactional_batch_needs_a_transactional_id() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 2, &[]).await;
    let producer = transactional_producer(&broker, "payments").await;
    let topics =
        vec![to("orders", vec![partition(0, good()), partition(1, transactional_batch(producer, 0))])];
    for (asked, code) in [(request(-1, topics.clone()), 53), (transactional("", topics), 42)] {
        assert_eq!(codes(&ask(&broker, 12, &asked).await), [code, code]);
        let asked = asked.with_acks(0);
        let hangup = testing::send(&broker, &Session::for_tests(), Api::PRODUCE, 12, &asked).await;
        assert!(hangup.is_err());
    }
    assert!(stored(&broker, &orders).await.is_empty());
}

#[tokio::test]
async fn a_partition_that_was_not_added_joins_with_version_12() {
    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    let producer = transactional_producer(&broker, "payments").await;
    let asked = |sequence| {
        let batch = partition(0, transactional_batch(producer, sequence));
        transactional("payments", vec![to("orders", vec![batch])])
    };
    for (version, sequence, code) in
        [(3, 0, 48), (10, 0, 48), (11, 0, 120), (12, 0, 0), (11, 1, 0), (3, 2, 0)]
    {
        assert_eq!(codes(&ask(&broker, version, &asked(sequence)).await), [code], "version {version}");
    }
    end_transaction(&broker, "payments", producer, true).await;
    assert_eq!(
        codes(&ask(&broker, 11, &asked(3)).await),
        [120],
        "the next transaction has no partitions yet"
    );
    let plain = idempotent_batch(producer.id.0, producer.epoch, 3, 1);
    let beside = transactional("payments", vec![to("orders", vec![partition(0, plain)])]);
    assert_eq!(codes(&ask(&broker, 12, &beside).await), [0], "no transaction is open");
    assert_eq!(codes(&ask(&broker, 12, &asked(4)).await), [0]);
    let plain = idempotent_batch(producer.id.0, producer.epoch, 5, 1);
    let within = transactional("payments", vec![to("orders", vec![partition(0, plain)])]);
    assert_eq!(codes(&ask(&broker, 12, &within).await), [48], "a transaction is open");
}

#[tokio::test]
async fn only_the_producer_of_a_transactional_id_appends_in_its_transaction() {
    let broker = broker().await;
    let orders = topic(&broker, "orders", 2, &[]).await;
    let old = transactional_producer(&broker, "payments").await;
    let producer = transactional_producer(&broker, "payments").await;
    let other = transactional_producer(&broker, "refunds").await;
    let by =
        |producer, sequence| vec![to("orders", vec![partition(0, transactional_batch(producer, sequence))])];
    for version in [3, 11, 12] {
        for (id, producer, code) in [
            ("payments", old, 47),
            ("payments", other, 49),
            ("refunds", producer, 49),
            ("unknown", producer, 49),
        ] {
            let response = ask(&broker, version, &transactional(id, by(producer, 0))).await;
            assert_eq!(codes(&response), [code], "version {version}, {id}");
        }
    }
    let two = [(0, producer), (1, other)];
    let two = two.map(|(index, producer)| partition(index, transactional_batch(producer, 0))).to_vec();
    let response = ask(&broker, 12, &transactional("payments", vec![to("orders", two)])).await;
    assert_eq!(codes(&response), [49, 49], "one request has one producer");
    assert!(stored(&broker, &orders).await.is_empty());
    assert_eq!(codes(&ask(&broker, 12, &transactional("payments", by(producer, 0))).await), [0]);
    assert_eq!(stored(&broker, &orders).await.len(), 1);
}

/// As route sends it: the transactional id is of another service.
#[tokio::test]
async fn a_transaction_of_another_service_is_refused_with_a_sentence() {
    use kafka_protocol::protocol::Decodable;

    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    let producer = transactional_producer(&broker, "payments").await;
    let batch = partition(0, transactional_batch(producer, 0));
    let mut call =
        Call::for_tests(Api::PRODUCE, 12, &transactional("payments", vec![to("orders", vec![batch])]));
    call.origin = Some(Arc::from("other"));
    let reply = dispatch::door(&broker).enter(call).await.unwrap().unwrap();
    let response = ProduceResponse::decode(&mut reply.body.clone(), 12).unwrap();
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 48);
    assert!(partition.error_message.as_ref().unwrap().contains("another service"));
}

#[tokio::test]
async fn a_topic_made_by_the_connections_earlier_call_is_found() {
    let broker = broker().await;
    let lane = Lane::new();
    let (earlier, ticket) = (lane.issue(), lane.issue());
    let id = TopicId(Uuid::from_u128(7));
    let mut call =
        Call::for_tests(Api::PRODUCE, 12, &request(1, vec![to("orders", vec![partition(0, good())])]));
    call.ticket = ticket;
    let produced = tokio::spawn(dispatch::door(&broker).enter(call));
    tokio::task::yield_now().await;
    let create = Command::CreateTopic {
        name: Arc::from("orders"),
        id,
        partitions: 1,
        configs: std::collections::BTreeMap::new(),
    };
    broker.store.commit_one(&earlier, create).await.unwrap().unwrap();
    assert!(!produced.is_finished(), "the earlier call has not been answered yet");
    drop(earlier);
    let reply = produced.await.unwrap().unwrap().unwrap();
    let response = {
        use kafka_protocol::protocol::Decodable;
        ProduceResponse::decode(&mut reply.body.clone(), 12).unwrap()
    };
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

/// As route sends it: the producer's id is of another service.
#[tokio::test]
async fn a_producer_with_the_id_of_another_service_is_another_producer() {
    use kafka_protocol::protocol::Decodable;

    let broker = broker().await;
    topic(&broker, "orders", 1, &[]).await;
    let mut told = Vec::new();
    for origin in [None, Some("other"), None, Some("other")] {
        let records = idempotent_batch(5, 0, 0, 1);
        let asked = request(-1, vec![to("orders", vec![partition(0, records)])]);
        let mut call = Call::for_tests(Api::PRODUCE, 12, &asked);
        call.origin = origin.map(Arc::from);
        let reply = dispatch::door(&broker).enter(call).await.unwrap().unwrap();
        let response = ProduceResponse::decode(&mut reply.body.clone(), 12).unwrap();
        let partition = &response.responses[0].partition_responses[0];
        told.push((partition.error_code, partition.base_offset));
    }
    assert_eq!(told, [(0, 0), (0, 1), (0, 0), (0, 1)], "each of them has been sent twice");
}
