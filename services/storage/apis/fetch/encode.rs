//! Encodes the reply. Large record batches become parts of it without a copy.
//!
//! The response is first encoded without records. Then the walker finds the positions of the records fields,
//! where the batches are inserted.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use kafka_protocol::protocol::Encodable;
use kernel::schema::walk::{self, ELEMENTS_MAX, put_varint};
use kernel::schema::{Direction, Mark};
use kernel::{Api, ErrorCode, Malformed};

use super::partition::{FetchResult, Fetched, PartitionRef};
use crate::store::TopicRef;

/// Smaller batches are copied: a separate part would cost more than the copy.
const PART_BYTES_MIN: usize = 4 << 10;
/// The walker counts at most this many per partition: it, its topic, name and records, and a tagged field.
const ELEMENTS_OF_A_PARTITION: usize = 8;

/// The body of a reply that only has a fetch session error.
pub(super) fn session_error(version: i16, error: ErrorCode) -> Result<Bytes, Malformed> {
    encode(&FetchResponse::default().with_error_code(error.code()), version)
}

/// The body of a reply, in parts.
pub(super) fn body(
    version: i16,
    session_id: i32,
    fetched: Vec<Fetched>,
    is_committed: bool,
) -> Result<Vec<Bytes>, Malformed> {
    // Beyond the walker's limit, far above what consumers request, the records are encoded with the rest.
    let is_walked = fetched.len() < ELEMENTS_MAX / ELEMENTS_OF_A_PARTITION;
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut records = Vec::with_capacity(fetched.len());
    let mut last: Option<TopicRef> = None;
    for Fetched { place: PartitionRef { topic, partition }, found, .. } in fetched {
        let mut data = partition_data(partition, &found, is_committed);
        let batches = if let FetchResult::Read { batches, .. } = found { batches } else { Vec::new() };
        if is_walked {
            records.push(batches)
        } else {
            data.records = Some(batches.concat().into())
        }
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
    splice(version, encode(&response, version)?, records)
}

fn encode(response: &FetchResponse, version: i16) -> Result<Bytes, Malformed> {
    let mut buffer = BytesMut::new();
    response.encode(&mut buffer, version).map_err(|error| Malformed(format!("{error:#}")))?;
    Ok(buffer.freeze())
}

fn topic_response(topic: &TopicRef) -> FetchableTopicResponse {
    FetchableTopicResponse::default().with_topic(topic.wire_name()).with_topic_id(topic.wire_id())
}

fn partition_data(partition: i32, found: &FetchResult, is_committed: bool) -> PartitionData {
    let high_watermark = found.high_watermark();
    let data = PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(found.error().map_or(0, |error| error.code()))
        .with_high_watermark(high_watermark)
        .with_last_stable_offset(high_watermark)
        .with_log_start_offset(found.log_start())
        .with_records(Some(Bytes::new()));
    // Null if not requested, empty if there are none; otherwise as Kafka does.
    let lists_aborted = match found {
        FetchResult::Unknown(_) => true,
        FetchResult::Read { .. } => is_committed,
        FetchResult::Failed(_) | FetchResult::Diverging { .. } => false,
    };
    let data = data.with_aborted_transactions(lists_aborted.then(Vec::new));
    match found {
        FetchResult::Diverging { epoch, end_offset, .. } => {
            let diverging = EpochEndOffset::default().with_epoch(*epoch).with_end_offset(*end_offset);
            data.with_diverging_epoch(diverging)
        }
        _ => data,
    }
}

/// Inserts batches where the encoded response has empty records, partition by partition.
fn splice(version: i16, encoded: Bytes, records: Vec<Vec<Bytes>>) -> Result<Vec<Bytes>, Malformed> {
    if records.iter().all(Vec::is_empty) {
        return Ok(vec![encoded]);
    }
    let Some(message) = Api::FETCH.message(Direction::Response) else {
        return Err(Malformed("the schema table has no Fetch response".to_owned()));
    };
    let mut places = Vec::with_capacity(records.len());
    walk::walk(message, version, &encoded, |found| {
        if found.field.mark == Mark::Records {
            places.push(found.at);
        }
    })?;
    let is_flexible = message.flexible.contains(version);
    let mut parts = Parts::default();
    let mut copied_to = 0;
    for (place, batches) in places.into_iter().zip(records) {
        if batches.is_empty() {
            continue;
        }
        parts.open.extend_from_slice(&encoded[copied_to..place.start]);
        parts.length(batches.iter().map(Bytes::len).sum(), is_flexible)?;
        batches.into_iter().for_each(|batch| parts.push(batch));
        copied_to = place.end;
    }
    parts.open.extend_from_slice(&encoded[copied_to..]);
    Ok(parts.close())
}

/// A body under construction: finished parts, and the one that small pieces are copied into.
#[derive(Default)]
struct Parts {
    done: Vec<Bytes>,
    open: Vec<u8>,
}

impl Parts {
    fn length(&mut self, bytes: usize, is_flexible: bool) -> Result<(), Malformed> {
        let length =
            i32::try_from(bytes).map_err(|_| Malformed(format!("{bytes} bytes of one partition")))?;
        if is_flexible {
            put_varint(&mut self.open, length as u32 + 1)
        } else {
            self.open.extend(length.to_be_bytes())
        }
        Ok(())
    }

    fn push(&mut self, batch: Bytes) {
        if batch.len() < PART_BYTES_MIN {
            self.open.extend_from_slice(&batch);
            return;
        }
        self.cut();
        self.done.push(batch);
    }

    fn cut(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open).into());
        }
    }

    fn close(mut self) -> Vec<Bytes> {
        self.cut();
        self.done
    }
}
