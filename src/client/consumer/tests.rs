use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse};
use kafka_protocol::protocol::Decodable;
use kernel::call::Header;
use kernel::records::{BatchBuilder, Codec, NewRecord, StoredHeader, control, settle};
use kernel::{Api, ErrorCode};
use parking_lot::Mutex;

use super::super::fake::{self, Act};
use super::*;

/// A broker with 2 partitions of 30 records in batches of 10, which fails its first `failures` fetches with
/// `error`.
struct Broker {
    address: OnceLock<String>,
    failures: AtomicUsize,
    error: Option<ErrorCode>,
}

impl Broker {
    async fn start(failures: usize, error: Option<ErrorCode>) -> Arc<Broker> {
        let broker =
            Arc::new(Broker { address: OnceLock::new(), failures: AtomicUsize::new(failures), error });
        let own = Arc::clone(&broker);
        let address = fake::start(move |header: &Header, body: Bytes| own.act(header, body)).await;
        broker.address.set(address).unwrap();
        broker
    }

    fn act(&self, header: &Header, mut body: Bytes) -> Act {
        match header.api {
            Api::METADATA => fake::metadata(header, self.address.get().unwrap(), 2),
            Api::FETCH => {
                let fails = |left: usize| left.checked_sub(1);
                let is_failing =
                    self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails).is_ok();
                match (is_failing, self.error) {
                    (true, None) => Act::Hangup,
                    (true, Some(error)) => fetched(
                        header,
                        &FetchRequest::decode(&mut body, header.version).unwrap(),
                        error.code(),
                    ),
                    (false, _) => {
                        fetched(header, &FetchRequest::decode(&mut body, header.version).unwrap(), 0)
                    }
                }
            }
            _ => fake::versions(header),
        }
    }

    async fn consumer(&self, assignments: Vec<Assignment>) -> Consumer {
        let cluster = fake::cluster(self.address.get().unwrap()).await;
        Consumer::open(cluster, "t", assignments, Settings::default()).await.unwrap()
    }
}

fn fetched(header: &Header, request: &FetchRequest, error: i16) -> Act {
    let partitions = request.topics[0].partitions.iter().map(|asked| {
        let data = PartitionData::default().with_partition_index(asked.partition).with_error_code(error);
        let base = asked.fetch_offset / 10 * 10;
        let records = if error == 0 && base < 30 { batch(base) } else { Bytes::new() };
        data.with_high_watermark(30).with_records(Some(records))
    });
    let topic = FetchableTopicResponse::default()
        .with_topic(request.topics[0].topic.clone())
        .with_partitions(partitions.collect());
    fake::answer(&FetchResponse::default().with_responses(vec![topic]), header.version)
}

fn batch(base: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Lz4);
    for offset in base..base + 10 {
        let value = offset.to_string();
        builder.push(NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() });
    }
    let mut bytes = builder.build().unwrap().to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes.into()
}

fn assignment(partition: i32, offset: i64, until: i64) -> Assignment {
    Assignment { partition, offset, until: Some(until) }
}

async fn read_all(consumer: &mut Consumer) -> Vec<(i32, i64)> {
    let mut read = Vec::new();
    while let Some(fetched) = consumer.poll().await.unwrap() {
        for part in &fetched {
            for record in part.records() {
                let record = record.unwrap();
                assert_eq!(record.value.unwrap(), record.offset.to_string().as_bytes());
                read.push((part.partition, record.offset));
            }
        }
    }
    read.sort_unstable();
    read
}

#[tokio::test]
async fn each_partition_is_read_from_its_offset_up_to_its_end() {
    let broker = Broker::start(0, None).await;
    let mut consumer = broker.consumer(vec![assignment(0, 15, 30), assignment(1, 0, 12)]).await;
    let expected: Vec<_> =
        (15..30).map(|offset| (0, offset)).chain((0..12).map(|offset| (1, offset))).collect();
    assert_eq!(read_all(&mut consumer).await, expected, "also from within a batch, and up to within one");
}

#[tokio::test]
async fn a_moved_leader_and_a_broken_connection_are_survived() {
    for error in [Some(ErrorCode::NotLeaderOrFollower), None] {
        let broker = Broker::start(2, error).await;
        let mut consumer = broker.consumer(vec![assignment(0, 0, 30)]).await;
        assert_eq!(read_all(&mut consumer).await.len(), 30, "{error:?}");
    }
}

#[tokio::test]
async fn an_outage_is_told_when_it_begins_and_when_it_ends() {
    let broker = Broker::start(usize::MAX, None).await;
    let mut consumer = broker.consumer(vec![assignment(0, 0, 30)]).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let (log, own) = (Arc::clone(&told), Arc::clone(&broker));
    consumer.on_outage(move |outage| {
        log.lock().push(outage);
        own.failures.store(0, Ordering::SeqCst);
    });
    assert_eq!(read_all(&mut consumer).await.len(), 30);
    assert_eq!(*told.lock(), [Outage::Began, Outage::Ended]);
}

#[tokio::test]
async fn an_offset_out_of_range_is_told_at_once() {
    let broker = Broker::start(usize::MAX, Some(ErrorCode::OffsetOutOfRange)).await;
    let mut consumer = broker.consumer(vec![assignment(0, 500, 600)]).await;
    let error = consumer.poll().await.unwrap_err();
    assert!(error.to_string().contains("OFFSET_OUT_OF_RANGE"), "{error}");
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_told_at_once() {
    let broker = Broker::start(0, None).await;
    let cluster = fake::cluster(broker.address.get().unwrap()).await;
    let opened = Consumer::open(cluster, "t", vec![assignment(2, 0, 1)], Settings::default()).await;
    assert!(opened.unwrap_err().to_string().contains("partition 2 of topic \"t\" does not exist"));
}

#[test]
fn a_flipped_bit_and_an_old_format_are_noticed() {
    let at = assignment(0, 0, 10);
    let read = |bytes: Vec<u8>| {
        let data = PartitionData::default().with_records(Some(bytes.into()));
        let fetched = Fetched::read(Arc::from("t"), at, data, Isolation::ReadUncommitted);
        fetched.map(|fetched| fetched.records().count())
    };
    let good = batch(0).to_vec();
    assert_eq!(read(good.clone()), Ok(10));
    assert_eq!(read([&good[..], &good[..40]].concat()), Ok(10), "the cut-off batch will come again");
    let mut flipped = good.clone();
    flipped[70] ^= 1;
    // What comes before it in the same answer is read.
    let data = PartitionData::default().with_records(Some(flipped.into()));
    let fetched = Fetched::read(Arc::from("t"), at, data, Isolation::ReadUncommitted).unwrap();
    let error = fetched.records().next().unwrap().unwrap_err().to_string();
    assert!(error.contains("the batch at offset 0 of partition") && error.contains("CRC"), "{error}");
    let mut old = good.clone();
    old[16] = 1;
    assert!(read(old).unwrap_err().contains("format"));
    assert!(read(good[..40].to_vec()).unwrap_err().contains("less than one"));
}

/// The attribute bit of a batch in a transaction.
const TRANSACTIONAL: i16 = 0x10;

/// A batch of a record, or a marker, as it is stored at an offset.
fn stored(batch: Bytes, offset: i64, attributes: i16) -> Vec<u8> {
    let mut batch = batch.to_vec();
    let header = StoredHeader { base_offset: offset, leader_epoch: 0, attributes, max_timestamp: 5 };
    settle(&mut batch, &header);
    batch
}

fn record(producer: i64, offset: i64, attributes: i16) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None).producer(producer, 0, 0);
    builder.push(NewRecord { timestamp: 5, value: Some(b"v"), ..NewRecord::default() });
    stored(builder.build().unwrap(), offset, attributes)
}

fn marker(producer: i64, offset: i64, commit: bool) -> Vec<u8> {
    stored(control::marker(producer, 0, commit, 0, 5), offset, TRANSACTIONAL | 0x20)
}

#[test]
fn records_of_aborted_transactions_are_not_read() {
    let batches = [
        record(1, 10, TRANSACTIONAL),
        record(2, 11, TRANSACTIONAL),
        record(1, 12, 0),
        marker(1, 13, false),
        record(1, 14, TRANSACTIONAL),
        record(2, 15, TRANSACTIONAL),
        marker(1, 16, true),
        marker(2, 17, false),
        record(3, 18, 0),
        record(2, 19, TRANSACTIONAL),
        marker(2, 20, false),
    ];
    let aborted = |producer: i64, first_offset| {
        AbortedTransaction::default().with_producer_id(producer.into()).with_first_offset(first_offset)
    };
    let read = |isolation| {
        let data = PartitionData::default()
            .with_records(Some(batches.concat().into()))
            .with_aborted_transactions(Some(vec![aborted(2, 11), aborted(1, 4), aborted(2, 19)]));
        let at = Assignment { partition: 0, offset: 10, until: None };
        let fetched = Fetched::read(Arc::from("t"), at, data, isolation).unwrap();
        let offsets: Vec<i64> = fetched.records().map(|record| record.unwrap().offset).collect();
        (offsets, fetched.next_offset())
    };
    assert_eq!(read(Isolation::ReadCommitted), (vec![12, 14, 18], Some(21)), "the position passes them all");
    assert_eq!(read(Isolation::ReadUncommitted), (vec![10, 11, 12, 14, 15, 18, 19], Some(21)));
}
