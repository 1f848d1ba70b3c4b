//! Encodes the reply, without its records: those are put into their places when it is sent.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::protocol::Encodable;
use kernel::{ErrorCode, Malformed, Records};

use super::partition::{FetchResult, Fetched, LogOffsets, PartitionRef};
use crate::engines::Isolation;
use crate::store::{Aborted, TopicRef};

/// The body of a reply that only has a fetch session error.
pub(super) fn session_error(version: i16, error: ErrorCode) -> Result<Bytes, Malformed> {
    encode(&FetchResponse::default().with_error_code(error.code()), version)
}

/// The body of a reply, and the records of its partitions, if there are any.
pub(super) fn body(
    version: i16,
    session_id: i32,
    fetched: Vec<Fetched>,
    isolation: Isolation,
) -> Result<(Bytes, Vec<Records>), Malformed> {
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut all = Vec::with_capacity(fetched.len());
    let mut last: Option<TopicRef> = None;
    for Fetched { place: PartitionRef { topic, partition }, found, .. } in fetched {
        let data = partition_data(partition, &found, isolation);
        all.push(if let FetchResult::Read { records, .. } = found { records } else { Records::default() });
        // Only adjacent partitions of a topic are joined, as in Kafka: the order of partitions matters.
        if last.as_ref() != Some(&topic) {
            topics.push(topic_response(&topic));
        }
        if let Some(response) = topics.last_mut() {
            response.partitions.push(data);
        }
        last = Some(topic);
    }
    let response = FetchResponse::default().with_session_id(session_id).with_responses(topics);
    Ok((encode(&response, version)?, all))
}

fn encode(response: &FetchResponse, version: i16) -> Result<Bytes, Malformed> {
    let mut buffer = BytesMut::new();
    response.encode(&mut buffer, version).map_err(|error| Malformed(format!("{error:#}")))?;
    Ok(buffer.freeze())
}

fn topic_response(topic: &TopicRef) -> FetchableTopicResponse {
    FetchableTopicResponse::default().with_topic(topic.wire_name()).with_topic_id(topic.wire_id())
}

fn partition_data(partition: i32, found: &FetchResult, isolation: Isolation) -> PartitionData {
    let LogOffsets { log_start, last_stable, high_watermark } = found.offsets();
    let data = PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(found.error().map_or(0, |error| error.code()))
        .with_high_watermark(high_watermark)
        .with_last_stable_offset(last_stable)
        .with_log_start_offset(log_start)
        .with_records(Some(Bytes::new()));
    // Null if not requested, empty if there are none; otherwise as Kafka does.
    let aborted = match found {
        FetchResult::Unknown(_) => Some(Vec::new()),
        FetchResult::Read { aborted, .. } if isolation == Isolation::ReadCommitted => {
            Some(aborted.iter().map(aborted_transaction).collect())
        }
        FetchResult::Read { .. } | FetchResult::Failed(_) | FetchResult::Diverging { .. } => None,
    };
    let data = data.with_aborted_transactions(aborted);
    match found {
        FetchResult::Diverging { epoch, end_offset, .. } => {
            let diverging = EpochEndOffset::default().with_epoch(*epoch).with_end_offset(*end_offset);
            data.with_diverging_epoch(diverging)
        }
        _ => data,
    }
}

fn aborted_transaction(aborted: &Aborted) -> AbortedTransaction {
    AbortedTransaction::default()
        .with_producer_id(aborted.producer.0.into())
        .with_first_offset(aborted.first_offset)
}
