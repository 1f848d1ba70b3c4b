//! DeleteRecords: advances the log start offset.

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, Command, Outcome};
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::requests::{by_topic, keep_last};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::TopicRef;

/// Kafka's "no low watermark".
const NO_WATERMARK: i64 = -1;

/// A partition, as the request names it.
type PartitionRef = (TopicRef, i32);

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DeleteRecordsRequest = call.decode()?;
    let wanted = wanted(&request);
    let places: Vec<PartitionRef> = wanted.iter().map(|(place, _)| place.clone()).collect();
    let topics = broker.store.find_topics_to_write(&call.ticket, places.clone()).await?;
    let (mut commands, mut errors) = (Vec::new(), Vec::new());
    for ((topic, index), offset) in wanted {
        let place = topics.at_to_delete(&topic, index);
        errors.push(place.as_ref().err().copied());
        commands.extend(place.map(|partition| Command::AdvanceLogStart { partition, offset }));
    }
    let outcomes = commit(broker, call, commands).await?;
    let response = response(places, errors, outcomes);
    Ok(Some(call.reply(&response)?))
}

/// The partitions and their requested log start offsets.
fn wanted(request: &DeleteRecordsRequest) -> Vec<(PartitionRef, i64)> {
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let named = TopicRef::new(false, &topic.name, Uuid::nil());
        let partitions = topic.partitions.iter();
        wanted.extend(partitions.map(|asked| ((named.clone(), asked.partition_index), asked.offset)));
    }
    keep_last(wanted)
}

async fn commit(broker: &Broker, call: &Call, commands: Vec<Command>) -> Result<Vec<Outcome>, StoreError> {
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    broker.store.commit(&call.ticket, commands).await
}

/// `errors` has an entry for each partition, `outcomes` for each without an error.
fn response(
    places: Vec<PartitionRef>,
    errors: Vec<Option<ErrorCode>>,
    outcomes: Vec<Outcome>,
) -> DeleteRecordsResponse {
    let mut outcomes = outcomes.into_iter();
    let result = |((topic, index), error): (PartitionRef, Option<ErrorCode>)| {
        let (low_watermark, error_code) = match error {
            Some(error) => (NO_WATERMARK, error.code()),
            None => told(outcomes.next()),
        };
        let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
        (topic, result.with_low_watermark(low_watermark).with_error_code(error_code))
    };
    let topics = by_topic(places.into_iter().zip(errors).map(result)).into_iter();
    let topics = topics.map(|(topic, partitions)| {
        DeleteRecordsTopicResult::default().with_name(topic.wire_name()).with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn told(outcome: Option<Outcome>) -> (i64, i16) {
    match outcome {
        Some(Ok(Applied::LogStart(log_start))) => (log_start, 0),
        Some(Err(refused)) => (NO_WATERMARK, refused.error.code()),
        Some(Ok(_)) | None => (NO_WATERMARK, ErrorCode::UnknownServerError.code()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    use kernel::Api;
    use kernel::records::Codec;

    use super::*;
    use crate::apis::common::text;
    use crate::apis::testing::{NOW_MS, append, ask, batch, broker, topic};

    async fn delete(broker: &Arc<Broker>, name: &str, asked: &[(i32, i64)]) -> Vec<(i32, i64, i16)> {
        let mut told = Vec::new();
        for version in 0..=2 {
            let partition = |(index, offset): &(i32, i64)| {
                DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
            };
            let topic = DeleteRecordsTopic::default().with_name(text::topic_name(name));
            let topic = topic.with_partitions(asked.iter().map(partition).collect());
            let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1_000);
            let response: DeleteRecordsResponse = ask(broker, Api::DELETE_RECORDS, version, &request).await;
            let results = &response.topics[0].partitions;
            told = results.iter().map(|p| (p.partition_index, p.low_watermark, p.error_code)).collect();
        }
        told
    }

    // The answers are those of Kafka 4.1.1. Every version sends the same request: deleting again is no error.
    #[tokio::test]
    async fn logs_begin_later_and_never_earlier() {
        let broker = broker().await;
        let orders = topic(&broker, "orders", 2, &[]).await;
        append(&broker, orders.partition(0).unwrap(), batch(Codec::None, &[NOW_MS; 7])).await;
        let (out_of_range, unknown) = (1, 3);
        assert_eq!(delete(&broker, "orders", &[(0, 3), (1, 0)]).await, [(0, 3, 0), (1, 0, 0)]);
        assert_eq!(delete(&broker, "orders", &[(0, 1)]).await, [(0, 3, 0)]);
        assert_eq!(delete(&broker, "orders", &[(0, 8)]).await, [(0, -1, out_of_range)]);
        assert_eq!(delete(&broker, "orders", &[(0, -2)]).await, [(0, -1, out_of_range)]);
        assert_eq!(delete(&broker, "orders", &[(9, 0), (0, -1)]).await, [(9, -1, unknown), (0, 7, 0)]);
        assert_eq!(delete(&broker, "nope", &[(0, 0)]).await, [(0, -1, unknown)]);
    }

    #[tokio::test]
    async fn not_of_what_is_only_compacted() {
        let broker = broker().await;
        for (name, policy, told) in [
            ("compacted", "compact", (0, -1, 44)),
            ("both", "compact,delete", (0, 0, 0)),
            ("none", "", (0, 0, 0)),
        ] {
            topic(&broker, name, 1, &[("cleanup.policy", policy)]).await;
            assert_eq!(delete(&broker, name, &[(0, 0)]).await, [told], "{name}");
        }
    }

    #[tokio::test]
    async fn of_a_partition_named_twice_the_last_offset_counts() {
        let broker = broker().await;
        let orders = topic(&broker, "orders", 1, &[]).await;
        append(&broker, orders.partition(0).unwrap(), batch(Codec::None, &[NOW_MS; 7])).await;
        assert_eq!(delete(&broker, "orders", &[(0, 99), (0, 2)]).await, [(0, 2, 0)]);
    }
}
