//! DescribeProducers (KIP-664): the active idempotent producers of a partition, with the transactions that they have open.

use std::sync::Arc;

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use kernel::{Call, ErrorCode, ProducerId, TopicPartition};
use rules::documents::ProducerDocument;
use rules::topics::check_topic_name;
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::repeats::without_repeats;
use crate::apis::common::text;
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::{TopicRef, Topics};

/// Of a producer that no marker was written for.
const NO_EPOCH: i32 = -1;
/// Of a producer that has no transaction open.
const NO_OFFSET: i64 = -1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeProducersRequest = call.decode()?;
    call.ticket.after_writes().await;
    let named = |topic: &TopicRequest| TopicRef::new(false, &topic.name, Uuid::nil());
    let topics = broker.store.find_topics(request.topics.iter().map(named).collect()).await?;
    let asked = without_repeats(request.topics, |topic| topic.name.clone());
    let mut responses = Vec::with_capacity(asked.len());
    for mut topic in asked {
        let indexes = without_repeats(std::mem::take(&mut topic.partition_indexes), |index| *index);
        let mut partitions = Vec::with_capacity(indexes.len());
        for index in indexes {
            let response = PartitionResponse::default().with_partition_index(index);
            partitions.push(match topics.at(&named(&topic), index) {
                Ok(at) => response.with_active_producers(producers(broker, at).await?),
                Err(_) => refused(response, &topic, &topics),
            });
        }
        responses.push(TopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    Ok(Some(call.reply(&DescribeProducersResponse::default().with_topics(responses))?))
}

fn refused(response: PartitionResponse, topic: &TopicRequest, topics: &Topics) -> PartitionResponse {
    let unknown = response.with_error_code(ErrorCode::UnknownTopicOrPartition.code());
    let name = topic.name.as_str();
    match check_topic_name(name) {
        Err(refused) => unknown
            .with_error_code(ErrorCode::InvalidTopicException.code())
            .with_error_message(text::error_message(refused.message)),
        // Kafka sends no message for an unknown partition of an existing topic.
        Ok(()) if topics.topic(&TopicRef::new(false, &topic.name, Uuid::nil())).is_some() => unknown,
        Ok(()) => unknown.with_error_message(text::error_message(format!("there is no topic {name:?}"))),
    }
}

async fn producers(broker: &Broker, at: TopicPartition) -> Result<Vec<ProducerState>, StoreError> {
    let state = |(id, producer): (ProducerId, Arc<ProducerDocument>)| {
        ProducerState::default()
            .with_producer_id(id.0.into())
            .with_producer_epoch(producer.epoch.into())
            .with_last_sequence(producer.batches.last().map_or(-1, |batch| batch.last_sequence))
            .with_last_timestamp(producer.last_ms)
            .with_coordinator_epoch(producer.coordinator_epoch.unwrap_or(NO_EPOCH))
            .with_current_txn_start_offset(producer.transaction.unwrap_or(NO_OFFSET))
    };
    Ok(broker.store.producers(at).await?.into_iter().map(state).collect())
}

#[cfg(test)]
mod tests {
    use kernel::Api;

    use super::*;
    use crate::apis::testing::{
        append, ask, broker, end_transaction, idempotent_batch, produce_in_transaction, topic,
        transactional_producer,
    };

    /// Id, last sequence, coordinator epoch, and the offset at which a transaction begins.
    async fn described(broker: &Arc<Broker>) -> Vec<(i64, i32, i32, i64)> {
        let topic =
            TopicRequest::default().with_name(text::topic_name("orders")).with_partition_indexes(vec![0]);
        let request = DescribeProducersRequest::default().with_topics(vec![topic]);
        let response: DescribeProducersResponse = ask(broker, Api::DESCRIBE_PRODUCERS, 0, &request).await;
        let producers = response.topics[0].partitions[0].active_producers.iter();
        let row = |producer: &ProducerState| {
            let ProducerState { coordinator_epoch, current_txn_start_offset, last_sequence, .. } = producer;
            (producer.producer_id.0, *last_sequence, *coordinator_epoch, *current_txn_start_offset)
        };
        producers.map(row).collect()
    }

    #[tokio::test]
    async fn an_open_transaction_is_shown_until_its_marker() {
        let broker = broker().await;
        let orders = topic(&broker, "orders", 1, &[]).await.partition(0).unwrap();
        append(&broker, orders, idempotent_batch(5, 0, 0, 2)).await;
        let producer = transactional_producer(&broker, "id").await;
        produce_in_transaction(&broker, "id", producer, orders).await;
        let id = producer.id.0;
        assert_eq!(described(&broker).await, [(5, 1, -1, -1), (id, 0, -1, 2)]);
        end_transaction(&broker, "id", producer, true).await;
        assert_eq!(described(&broker).await, [(5, 1, -1, -1), (id, 0, 0, -1)]);
    }
}
