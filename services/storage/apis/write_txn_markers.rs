//! WriteTxnMarkers: an operator ends what a producer has left open in a partition (KIP-664).
//!
//! In Kafka, the coordinator of a transaction sends it as well. Here no transaction needs it: what is open and not hanging is
//! ended with its transaction, and a marker for it is refused.

use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use kernel::{Call, ErrorCode, TopicPartition};
use rules::commands::{Command, Outcome, WriteMarker};
use tracing::warn;
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::transactions::producer;
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::{TopicRef, Topics};

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: WriteTxnMarkersRequest = call.decode()?;
    let mut asked = Vec::new();
    for (marker, topic) in request.markers.iter().flat_map(topics) {
        let named = TopicRef::new(false, &topic.name, Uuid::nil());
        asked.extend(topic.partition_indexes.iter().map(|index| (marker, (named.clone(), *index))));
    }
    let places = asked.iter().map(|(_, place)| place.clone()).collect();
    let found = broker.store.find_topics_to_write(&call.ticket, places).await?;
    let mut codes = write(broker, call, &asked, &found).await?.into_iter();
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        let topic = |topic: WritableTxnMarkerTopic| {
            let partition = |(index, code): (&i32, i16)| {
                WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(code)
            };
            let partitions = topic.partition_indexes.iter().zip(codes.by_ref()).map(partition).collect();
            WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions)
        };
        let has_partitions = marker.topics.iter().any(|topic| !topic.partition_indexes.is_empty());
        let topics = marker.topics.into_iter().map(topic).collect();
        let result = WritableTxnMarkerResult::default().with_producer_id(marker.producer_id);
        // Kafka answers for partitions only.
        markers.extend(has_partitions.then(|| result.with_topics(topics)));
    }
    Ok(Some(call.reply(&WriteTxnMarkersResponse::default().with_markers(markers))?))
}

fn topics(marker: &WritableTxnMarker) -> impl Iterator<Item = (&WritableTxnMarker, &WritableTxnMarkerTopic)> {
    marker.topics.iter().map(move |topic| (marker, topic))
}

/// A marker, and a partition that it is to be written in.
type Asked<'a> = (&'a WritableTxnMarker, (TopicRef, i32));

/// Writes all markers that can be written at once; returns an error code for each.
async fn write(
    broker: &Broker,
    call: &Call,
    asked: &[Asked<'_>],
    found: &Topics,
) -> Result<Vec<i16>, StoreError> {
    let now_ms = broker.clock.now_ms();
    let leader_epoch = broker.store.epoch_to_append(now_ms).await?;
    let command = |marker: &WritableTxnMarker, partition: TopicPartition| {
        Command::WriteMarker(WriteMarker {
            partition,
            producer: producer(marker.producer_id, marker.producer_epoch),
            commit: marker.transaction_result,
            coordinator_epoch: marker.coordinator_epoch,
            now_ms,
            leader_epoch,
        })
    };
    let places: Vec<Result<TopicPartition, ErrorCode>> =
        asked.iter().map(|(_, (topic, index))| found.at(topic, *index)).collect();
    let commands = asked.iter().zip(&places);
    let commands: Vec<Command> =
        commands.filter_map(|(&(marker, _), place)| Some(command(marker, place.ok()?))).collect();
    let outcomes =
        if commands.is_empty() { Vec::new() } else { broker.store.commit(&call.ticket, commands).await? };
    let mut outcomes = outcomes.into_iter();
    let codes = asked.iter().zip(places).map(|(&(marker, _), place)| match place {
        Err(error) => error.code(),
        Ok(_) => code(marker, outcomes.next()),
    });
    Ok(codes.collect())
}

/// Kafka writes a marker where nothing is open as well. That is no error here either.
fn code(marker: &WritableTxnMarker, outcome: Option<Outcome>) -> i16 {
    match outcome {
        Some(Ok(_)) => 0,
        Some(Err(refused)) => {
            // The response has no messages.
            warn!(producer_id = marker.producer_id.0, "a marker was refused: {}", refused.message);
            refused.error.code()
        }
        None => ErrorCode::UnknownServerError.code(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::Api;
    use rules::commands::ProducerIdAndEpoch;
    use rules::documents::PartitionDocument;

    use super::*;
    use crate::apis::common::text;
    use crate::apis::testing::{
        ask, broker, end_transaction, produce_in_transaction, topic, transactional_producer,
    };

    fn marker(producer: ProducerIdAndEpoch, topic: &str) -> WritableTxnMarker {
        let topic = WritableTxnMarkerTopic::default()
            .with_name(text::topic_name(topic))
            .with_partition_indexes(vec![0, 9]);
        WritableTxnMarker::default()
            .with_producer_id(producer.id.0.into())
            .with_producer_epoch(producer.epoch)
            .with_topics(vec![topic])
    }

    async fn write(broker: &Arc<Broker>, markers: Vec<WritableTxnMarker>) -> Vec<(i64, Vec<i16>)> {
        let request = WriteTxnMarkersRequest::default().with_markers(markers);
        let response: WriteTxnMarkersResponse = ask(broker, Api::WRITE_TXN_MARKERS, 1, &request).await;
        let codes = |marker: &WritableTxnMarkerResult| {
            let partitions = marker.topics.iter().flat_map(|topic| &topic.partitions);
            (marker.producer_id.0, partitions.map(|partition| partition.error_code).collect())
        };
        response.markers.iter().map(codes).collect()
    }

    async fn last_stable(broker: &Broker, partition: TopicPartition) -> (i64, i64) {
        let log = broker.store.get_one::<PartitionDocument>(&partition).await.unwrap().unwrap();
        (log.last_stable(), log.end)
    }

    #[tokio::test]
    async fn what_is_open_is_left_to_its_transactional_id() {
        let broker = broker().await;
        let orders = topic(&broker, "orders", 1, &[]).await.partition(0).unwrap();
        let producer = transactional_producer(&broker, "id").await;
        produce_in_transaction(&broker, "id", producer, orders).await;
        assert_eq!(last_stable(&broker, orders).await, (0, 1));
        let asked = || vec![marker(producer, "orders")];
        assert_eq!(write(&broker, asked()).await, [(producer.id.0, vec![48, 3])], "its id will end it");
        let old = ProducerIdAndEpoch { epoch: producer.epoch - 1, ..producer };
        assert_eq!(write(&broker, vec![marker(old, "orders")]).await, [(producer.id.0, vec![47, 3])]);
        assert_eq!(last_stable(&broker, orders).await, (0, 1));
        end_transaction(&broker, "id", producer, true).await;
        assert_eq!(last_stable(&broker, orders).await, (2, 2));
        assert_eq!(write(&broker, asked()).await, [(producer.id.0, vec![0, 3])], "nothing is open");
        assert_eq!(last_stable(&broker, orders).await, (2, 2));
    }

    #[tokio::test]
    async fn each_marker_of_partitions_is_answered() {
        let broker = broker().await;
        topic(&broker, "orders", 1, &[]).await;
        let producer = |id| ProducerIdAndEpoch { id: kernel::ProducerId(id), epoch: 0 };
        let markers =
            vec![marker(producer(7), "unknown"), WritableTxnMarker::default(), marker(producer(8), "orders")];
        // Not one without partitions, as in Kafka.
        let expected = [(7, vec![3, 3]), (8, vec![0, 3])];
        assert_eq!(write(&broker, markers).await, expected);
    }
}
