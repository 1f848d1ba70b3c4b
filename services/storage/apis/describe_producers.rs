//! DescribeProducers (KIP-664): the active idempotent producers of a partition.

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
use crate::apis::common::text;
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::{TopicRef, Topics};

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeProducersRequest = call.decode()?;
    call.ticket.after_writes().await;
    let named = |topic: &TopicRequest| TopicRef::new(false, &topic.name, Uuid::nil());
    let topics = broker.store.find_topics(request.topics.iter().map(named).collect()).await?;
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in &topic.partition_indexes {
            let response = PartitionResponse::default().with_partition_index(*index);
            partitions.push(match topics.at(&named(&topic), *index) {
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
            // There is no transaction.
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(-1)
    };
    Ok(broker.store.producers(at).await?.into_iter().map(state).collect())
}
