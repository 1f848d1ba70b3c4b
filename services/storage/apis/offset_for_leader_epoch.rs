//! OffsetForLeaderEpoch: the end offset of a leader epoch, by which consumers detect log truncation.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use kernel::{Call, ErrorCode, TopicPartition};
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::epochs::{self, check_leader_epoch, end_of_epoch};
use crate::broker::Broker;
use crate::store::TopicRef;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: OffsetForLeaderEpochRequest = call.decode()?;
    call.ticket.after_writes().await;
    let refs: Vec<TopicRef> =
        request.topics.iter().map(|topic| TopicRef::new(false, &topic.topic, Uuid::nil())).collect();
    let topics = broker.store.find_topics(refs.clone()).await?;
    let mut places: Vec<TopicPartition> = Vec::new();
    for (topic, named) in request.topics.iter().zip(&refs) {
        places.extend(topic.partitions.iter().flat_map(|partition| topics.at(named, partition.partition)));
    }
    let logs = broker.store.logs(places.clone()).await?;
    let histories = broker.store.epoch_histories(places).await?;
    let believed = request.topics.iter().flat_map(|topic| &topic.partitions);
    let believed = believed.map(|partition| partition.current_leader_epoch).max();
    let current = broker.store.leader_epoch_against(believed, broker.clock.now_ms()).await?;
    let mut results = Vec::with_capacity(request.topics.len());
    for (topic, named) in request.topics.into_iter().zip(&refs) {
        let answer = |partition: &OffsetForLeaderPartition| {
            let found = topics.at(named, partition.partition).and_then(|at| {
                let log = logs.get(at)?;
                check_leader_epoch(epochs::known_epoch(partition.current_leader_epoch), current)?;
                let history = histories.get(&at).map(|history| &**history);
                Ok(end_of_epoch(log, history, current, partition.leader_epoch))
            });
            response(partition.partition, found)
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        let result = OffsetForLeaderTopicResult::default().with_topic(topic.topic);
        results.push(result.with_partitions(partitions));
    }
    Ok(Some(call.reply(&OffsetForLeaderEpochResponse::default().with_topics(results))?))
}

/// The epoch and its end offset; without them there is no such epoch yet.
fn response(index: i32, found: Result<Option<(i32, i64)>, ErrorCode>) -> EpochEndOffset {
    let response = EpochEndOffset::default().with_partition(index);
    match found {
        Err(error) => response.with_error_code(error.code()),
        Ok(None) => response,
        Ok(Some((epoch, end_offset))) => response.with_leader_epoch(epoch).with_end_offset(end_offset),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{
        FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
        MetadataResponse, ProduceRequest, ProduceResponse,
    };
    use kernel::Api;
    use kernel::clock::ManualClock;
    use kernel::records::Codec;

    use super::*;
    use crate::apis::common::text;
    use crate::apis::testing::{NOW_MS, append, ask, batch, broker, broker_over, topic};
    use crate::engines::memory::Memory;

    fn request(name: &'static str, asked: &[(i32, i32, i32)]) -> OffsetForLeaderEpochRequest {
        let partition = |(index, current, epoch): &(i32, i32, i32)| {
            OffsetForLeaderPartition::default()
                .with_partition(*index)
                .with_current_leader_epoch(*current)
                .with_leader_epoch(*epoch)
        };
        let topic = OffsetForLeaderTopic::default().with_topic(text::topic_name(name));
        let topic = topic.with_partitions(asked.iter().map(partition).collect());
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    }

    // The answers are those of Kafka 4.1.1 with one broker.
    #[tokio::test]
    async fn epochs_end_where_kafka_says_they_end() {
        let broker = broker().await;
        let orders = topic(&broker, "orders", 1, &[]).await;
        append(&broker, orders.partition(0).unwrap(), batch(Codec::None, &[NOW_MS; 7])).await;
        for version in 2..=4 {
            let asked = [
                (0, -1, 0),
                (0, 0, 0),
                (0, -1, 1),
                (0, -1, -1),
                (0, -1, -2),
                (0, 5, 0),
                (0, -2, 0),
                (7, -1, 0),
            ];
            let request = request("orders", &asked);
            let response: OffsetForLeaderEpochResponse =
                ask(&broker, Api::OFFSET_FOR_LEADER_EPOCH, version, &request).await;
            let told = |end: &EpochEndOffset| (end.error_code, end.leader_epoch, end.end_offset);
            let told: Vec<_> = response.topics[0].partitions.iter().map(told).collect();
            let (unknown_epoch, fenced, unknown_partition) = (75, 74, 3);
            let expected = [
                (0, 0, 7),
                (0, 0, 7),
                (0, -1, -1),
                (0, -1, -1),
                (0, -2, 0),
                (unknown_epoch, -1, -1),
                (fenced, -1, -1),
                (unknown_partition, -1, -1),
            ];
            assert_eq!(told, expected, "version {version}");
        }
    }

    /// A broker that opens the store so many seconds after the beginning of 2024.
    fn broker_at(store: &Arc<Memory>, seconds: i64) -> Arc<Broker> {
        let clock = Arc::new(ManualClock::at(1_704_067_200_000 + seconds * 1_000));
        broker_over(Arc::clone(store), clock, 64 << 20)
    }

    async fn produce(broker: &Arc<Broker>, name: &'static str, records: usize) {
        let records = batch(Codec::None, &vec![NOW_MS; records]);
        let data = PartitionProduceData::default().with_records(Some(records));
        let topic = TopicProduceData::default().with_name(text::topic_name(name));
        let topic = topic.with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
        let response: ProduceResponse = ask(broker, Api::PRODUCE, 12, &request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }

    /// What Metadata and Fetch take for the current epoch of `orders`.
    async fn current(broker: &Arc<Broker>) -> i32 {
        let epoch = reported(broker).await;
        for (sent, error) in [(epoch - 1, 74), (epoch, 0), (epoch + 1, 75)] {
            assert_eq!(fetch_believing(broker, sent).await, error, "{sent} of {epoch}");
        }
        epoch
    }

    /// The error of a Fetch of `orders` by a client that takes this for the current epoch.
    async fn fetch_believing(broker: &Arc<Broker>, epoch: i32) -> i16 {
        let partition =
            FetchPartition::default().with_current_leader_epoch(epoch).with_partition_max_bytes(1);
        let topic = FetchTopic::default().with_topic(text::topic_name("orders"));
        let topic = topic.with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_bytes(1).with_topics(vec![topic]);
        let response: FetchResponse = ask(broker, Api::FETCH, 12, &request).await;
        response.responses[0].partitions[0].error_code
    }

    /// What Metadata reports.
    async fn reported(broker: &Arc<Broker>) -> i32 {
        let topic = MetadataRequestTopic::default().with_name(Some(text::topic_name("orders")));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let response: MetadataResponse = ask(broker, Api::METADATA, 9, &request).await;
        response.topics[0].partitions[0].leader_epoch
    }

    async fn ends<const N: usize>(broker: &Arc<Broker>, epochs: [i32; N]) -> [(i32, i64); N] {
        let request = request("orders", &epochs.map(|epoch| (0, -1, epoch)));
        let response: OffsetForLeaderEpochResponse =
            ask(broker, Api::OFFSET_FOR_LEADER_EPOCH, 4, &request).await;
        let mut found = response.topics[0].partitions.iter();
        epochs.map(|_| found.next().map(|end| (end.leader_epoch, end.end_offset)).unwrap())
    }

    #[tokio::test]
    async fn an_opening_of_the_store_begins_an_epoch_with_its_first_append() {
        let store = Arc::new(Memory::new());
        let broker = broker_at(&store, 100);
        for name in ["orders", "others"] {
            topic(&broker, name, 1, &[]).await;
        }
        assert_eq!(broker.store.leader_epoch().await, Ok(0));
        produce(&broker, "orders", 3).await;
        assert_eq!(current(&broker).await, 100);
        // The clock was set back.
        let broker = broker_at(&store, 50);
        assert_eq!(current(&broker).await, 100, "nothing was appended yet");
        produce(&broker, "orders", 2).await;
        produce(&broker, "orders", 1).await;
        assert_eq!(current(&broker).await, 101);
        assert_eq!(ends(&broker, [99, 100, 101, 102]).await, [(99, 0), (100, 3), (101, 6), (-1, -1)]);
        let broker = broker_at(&store, 500);
        produce(&broker, "others", 1).await;
        assert_eq!(current(&broker).await, 500, "it is the same for all partitions");
        assert_eq!(
            ends(&broker, [100, 101, 300, 500, 501]).await,
            [(100, 3), (101, 6), (101, 6), (500, 6), (-1, -1)]
        );
        produce(&broker, "orders", 1).await;
        assert_eq!(ends(&broker, [101, 300, 500]).await, [(101, 6), (101, 6), (500, 7)]);
    }

    /// The original was opened at 100 and at 300, when the clients learned its epoch; the backup knows 100, and is opened at
    /// 500. Whatever a client asks first, it need not wait for an append.
    #[tokio::test]
    async fn a_client_that_knows_a_later_epoch_than_a_restored_store_waits_for_no_append() {
        for first in [Api::FETCH, Api::LIST_OFFSETS, Api::OFFSET_FOR_LEADER_EPOCH] {
            let store = Arc::new(Memory::new());
            let broker = broker_at(&store, 100);
            topic(&broker, "orders", 1, &[]).await;
            produce(&broker, "orders", 3).await;
            let broker = broker_at(&store, 500);
            assert_eq!(reported(&broker).await, 100);
            assert_eq!(error_of(&broker, first, 300).await, 75, "{first}");
            // It asks for metadata, and these are later than what it knows.
            assert_eq!(reported(&broker).await, 500, "{first}");
            for api in [Api::FETCH, Api::LIST_OFFSETS, Api::OFFSET_FOR_LEADER_EPOCH] {
                for (epoch, error) in [(300, 74), (500, 0), (501, 75)] {
                    assert_eq!(error_of(&broker, api, epoch).await, error, "{api} at {epoch}");
                }
            }
            assert_eq!(ends(&broker, [100, 300, 500, 501]).await, [(100, 3), (100, 3), (500, 3), (-1, -1)]);
            assert_eq!(reported(&broker).await, 500, "it is not recorded twice");
            produce(&broker, "orders", 1).await;
            assert_eq!(current(&broker).await, 500);
            assert_eq!(ends(&broker, [100, 300, 500]).await, [(100, 3), (100, 3), (500, 4)]);
        }
    }

    /// The error for a client that takes this for the current epoch of `orders`.
    async fn error_of(broker: &Arc<Broker>, api: Api, epoch: i32) -> i16 {
        let name = text::topic_name("orders");
        match api {
            Api::FETCH => fetch_believing(broker, epoch).await,
            Api::LIST_OFFSETS => {
                let partition = ListOffsetsPartition::default().with_timestamp(-1);
                let partition = partition.with_current_leader_epoch(epoch);
                let topic = ListOffsetsTopic::default().with_name(name).with_partitions(vec![partition]);
                let request = ListOffsetsRequest::default().with_topics(vec![topic]);
                let response: ListOffsetsResponse = ask(broker, api, 6, &request).await;
                response.topics[0].partitions[0].error_code
            }
            _ => {
                let request = request("orders", &[(0, epoch, 100)]);
                let response: OffsetForLeaderEpochResponse = ask(broker, api, 4, &request).await;
                response.topics[0].partitions[0].error_code
            }
        }
    }

    #[tokio::test]
    async fn an_unknown_topic_is_told_partition_by_partition() {
        let broker = broker().await;
        let request = request("nope", &[(0, -1, 0), (3, -1, 0)]);
        let response: OffsetForLeaderEpochResponse =
            ask(&broker, Api::OFFSET_FOR_LEADER_EPOCH, 4, &request).await;
        let told: Vec<_> =
            response.topics[0].partitions.iter().map(|end| (end.partition, end.error_code)).collect();
        assert_eq!(told, [(0, 3), (3, 3)]);
    }
}
