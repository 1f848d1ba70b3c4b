//! OffsetForLeaderEpoch: the end offset of a leader epoch, by which consumers detect log truncation.

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use kernel::{Call, ErrorCode, TopicPartition};
use rules::documents::PartitionDocument;
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
    let logs = broker.store.logs(places).await?;
    let mut results = Vec::with_capacity(request.topics.len());
    for (topic, named) in request.topics.into_iter().zip(&refs) {
        let answer = |partition: &OffsetForLeaderPartition| {
            let log = topics.at(named, partition.partition).map(|at| logs.get(&at));
            let found = log.and_then(|log| find(log.ok_or(ErrorCode::UnknownTopicOrPartition)?, partition));
            response(partition.partition, found)
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        let result = OffsetForLeaderTopicResult::default().with_topic(topic.topic);
        results.push(result.with_partitions(partitions));
    }
    Ok(Some(call.reply(&OffsetForLeaderEpochResponse::default().with_topics(results))?))
}

/// The epoch and its end offset; `None` if the log has no such epoch yet.
fn find(
    log: &PartitionDocument,
    partition: &OffsetForLeaderPartition,
) -> Result<Option<(i32, i64)>, ErrorCode> {
    check_leader_epoch(epochs::known_epoch(partition.current_leader_epoch), log)?;
    Ok(end_of_epoch(log, partition.leader_epoch))
}

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
    use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;
    use kernel::Api;
    use kernel::records::Codec;

    use super::*;
    use crate::apis::common::text;
    use crate::apis::testing::{NOW_MS, append, ask, batch, broker, topic};

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
