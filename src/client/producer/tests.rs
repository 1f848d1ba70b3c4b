use std::collections::VecDeque;
use std::sync::OnceLock;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{InitProducerIdResponse, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::Decodable;
use kernel::Api;
use kernel::call::Header;
use kernel::records::Batch as RecordBatch;
use parking_lot::Mutex;

use super::super::fake::{self, Act};
use super::*;

/// A broker that stores batches, and fails as scripted.
#[derive(Default)]
struct Broker {
    address: OnceLock<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The responses to the next batches; `None` closes the connection.
    script: VecDeque<Option<ErrorCode>>,
    kept: Vec<(i32, RecordBatch)>,
    producer_ids: i64,
}

impl Broker {
    async fn start(script: impl IntoIterator<Item = Option<ErrorCode>>) -> Arc<Broker> {
        let broker = Arc::new(Broker::default());
        broker.state.lock().script.extend(script);
        let own = Arc::clone(&broker);
        let address = fake::start(move |header: &Header, body: Bytes| own.act(header, body)).await;
        broker.address.set(address).unwrap();
        broker
    }

    fn act(&self, header: &Header, body: Bytes) -> Act {
        match header.api {
            Api::METADATA => fake::metadata(header, self.address.get().unwrap(), 2),
            Api::INIT_PRODUCER_ID => {
                let mut state = self.state.lock();
                state.producer_ids += 1;
                let response = InitProducerIdResponse::default().with_producer_id(state.producer_ids.into());
                fake::answer(&response, header.version)
            }
            Api::PRODUCE => self.produce(header, body),
            _ => fake::versions(header),
        }
    }

    fn produce(&self, header: &Header, mut body: Bytes) -> Act {
        let request = ProduceRequest::decode(&mut body, header.version).unwrap();
        let mut state = self.state.lock();
        let mut answers = Vec::new();
        for data in &request.topic_data[0].partition_data {
            let batch = RecordBatch::check(data.records.clone().unwrap()).unwrap();
            let answer = PartitionProduceResponse::default().with_index(data.index);
            match state.script.pop_front() {
                Some(None) => return Act::Hangup,
                Some(Some(code)) => answers.push(answer.with_error_code(code.code())),
                None => {
                    answers.push(answer.with_base_offset(state.kept.len() as i64));
                    state.kept.push((data.index, batch));
                }
            }
        }
        if request.acks == 0 {
            return Act::Silence;
        }
        let topic = TopicProduceResponse::default()
            .with_name(request.topic_data[0].name.clone())
            .with_partition_responses(answers);
        fake::answer(&ProduceResponse::default().with_responses(vec![topic]), header.version)
    }

    /// The content of a partition: value, producer id and sequence number of each record.
    fn held(&self, partition: i32) -> Vec<(String, i64, i32)> {
        let state = self.state.lock();
        let of_partition = state.kept.iter().filter(|(index, _)| *index == partition);
        of_partition
            .flat_map(|(_, batch)| {
                batch.records(1 << 20).unwrap().zip(0..).map(|(record, place)| {
                    let value = record.unwrap().value.unwrap();
                    let text = String::from_utf8(value.to_vec()).unwrap();
                    (text, batch.producer_id(), batch.base_sequence() + place)
                })
            })
            .collect()
    }

    async fn producer(&self, settings: Settings) -> Producer {
        let cluster = fake::cluster(self.address.get().unwrap()).await;
        Producer::open(cluster, "t", settings).await.unwrap()
    }
}

/// One record per batch, so that a script applies to records.
fn one_by_one() -> Settings {
    Settings { batch_bytes: 1, linger: Duration::ZERO, ..Settings::default() }
}

fn push(producer: &mut Producer, value: &str, partition: Option<i32>) {
    producer.push(NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() }, partition).unwrap();
}

#[tokio::test]
async fn records_arrive_in_order_and_each_is_accounted_for() {
    let broker = Broker::start([]).await;
    let mut producer = broker.producer(Settings { batch_bytes: 500, ..Settings::default() }).await;
    for number in 0..1_000 {
        push(&mut producer, &number.to_string(), Some(number % 2));
    }
    producer.flush().await.unwrap();
    for partition in 0..2 {
        let expected: Vec<_> = (0..500).map(|n| ((2 * n + partition).to_string(), 1, n)).collect();
        assert_eq!(broker.held(partition), expected);
    }
    let deliveries = producer.take_deliveries();
    assert_eq!(deliveries.iter().map(|delivery| delivery.pushed.len()).sum::<usize>(), 1_000);
    assert!(deliveries.iter().all(|delivery| matches!(delivery.outcome, Ok(Some(_)))));
    assert!(producer.has_room() && producer.buffered_bytes == 0);
    assert!(producer.push(NewRecord::default(), Some(2)).is_err(), "there is no partition 2");
}

#[tokio::test]
async fn what_fails_for_the_moment_is_sent_again_in_order_and_unchanged() {
    let moved = Some(ErrorCode::NotLeaderOrFollower);
    let gap = Some(ErrorCode::OutOfOrderSequenceNumber);
    let broker = Broker::start([moved, gap, gap]).await;
    let mut producer = broker.producer(one_by_one()).await;
    ["a", "b", "c", "d"].iter().for_each(|value| push(&mut producer, value, Some(0)));
    producer.flush().await.unwrap();
    let expected = [("a", 1, 0), ("b", 1, 1), ("c", 1, 2), ("d", 1, 3)];
    // The fourth was in flight with the first three and found no gap at this broker, so it comes first.
    let mut held = broker.held(0);
    held.sort();
    assert_eq!(held, expected.map(|(value, id, sequence)| (value.to_owned(), id, sequence)));
    assert!(producer.take_deliveries().iter().all(|delivery| delivery.outcome.is_ok()));
}

#[tokio::test]
async fn after_a_broken_connection_the_batch_is_sent_on_a_new_one() {
    let broker = Broker::start([None]).await;
    let mut producer = broker.producer(one_by_one()).await;
    push(&mut producer, "a", Some(0));
    producer.flush().await.unwrap();
    assert_eq!(broker.held(0), [("a".to_owned(), 1, 0)]);
    assert!(producer.take_deliveries()[0].outcome.is_ok());
}

#[tokio::test]
async fn a_duplicate_is_a_success_without_an_offset() {
    let broker = Broker::start([Some(ErrorCode::DuplicateSequenceNumber)]).await;
    let mut producer = broker.producer(one_by_one()).await;
    push(&mut producer, "a", Some(0));
    producer.flush().await.unwrap();
    assert_eq!(producer.take_deliveries()[0].outcome, Ok(None));
}

#[tokio::test]
async fn a_record_refused_for_good_fails_alone_and_the_rest_goes_on_under_a_new_id() {
    let too_large = Some(ErrorCode::MessageTooLarge);
    let broker = Broker::start([too_large, Some(ErrorCode::OutOfOrderSequenceNumber)]).await;
    let mut producer = broker.producer(one_by_one()).await;
    push(&mut producer, "a", Some(0));
    push(&mut producer, "b", Some(0));
    producer.flush().await.unwrap();
    assert_eq!(broker.held(0), [("b".to_owned(), 2, 0)], "a new producer begins at 0");
    let (failed, kept): (Vec<_>, Vec<_>) =
        producer.take_deliveries().into_iter().partition(|delivery| delivery.outcome.is_err());
    assert_eq!((failed.len(), kept.len()), (1, 1));
    let error = failed[0].outcome.as_ref().unwrap_err();
    assert!(error.to_string().contains("max.message.bytes"), "{error}");
}

#[tokio::test]
async fn a_failure_that_lasts_is_told_after_the_delivery_timeout() {
    let unwritable = Some(ErrorCode::KafkaStorageError);
    let broker = Broker::start(std::iter::repeat_n(unwritable, 1_000)).await;
    let settings = Settings { delivery_timeout: Duration::from_millis(300), ..one_by_one() };
    let mut producer = broker.producer(settings).await;
    push(&mut producer, "a", Some(0));
    producer.flush().await.unwrap();
    let error = producer.take_deliveries().remove(0).outcome.unwrap_err();
    assert!(error.is_retriable(), "it was the last failure of many: {error}");
}

#[tokio::test]
async fn nothing_is_answered_and_nothing_is_lost_with_acks_0() {
    let broker = Broker::start([]).await;
    let settings = Settings { acks: Acks::None, is_idempotent: false, ..one_by_one() };
    let mut producer = broker.producer(settings).await;
    for number in 0..100 {
        push(&mut producer, &number.to_string(), Some(0));
    }
    producer.flush().await.unwrap();
    assert_eq!(broker.held(0).len(), 100, "the flush ends behind the last of them");
    assert_eq!(producer.take_deliveries().len(), 100);
}

#[tokio::test]
async fn an_idempotent_producer_insists_on_all_acks() {
    let broker = Broker::start([]).await;
    let cluster = fake::cluster(broker.address.get().unwrap()).await;
    let settings = Settings { acks: Acks::Leader, ..Settings::default() };
    assert!(Producer::open(cluster, "t", settings).await.is_err());
}
