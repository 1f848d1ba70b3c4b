//! Appends: the header fields of a record batch that the rules use, and the batch itself, which they never
//! parse.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kernel::records::{Batch, NO_PRODUCER_ID};
use kernel::{ProducerId, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::documents::ProducerKey;

/// Appends one record batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The partition.
    pub partition: TopicPartition,
    /// Its header fields, already validated.
    pub batch: BatchFacts,
    /// The batch; its base offset and leader epoch are not final.
    pub payload: Payload,
    /// When the broker received it, in ms.
    pub now_ms: i64,
    /// The service that gave its producer id; `None` for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<str>>,
}

impl Append {
    /// Appends a validated batch, whose producer id is of this service.
    pub fn new(partition: TopicPartition, batch: &Batch, now_ms: i64) -> Self {
        let payload = Payload(batch.bytes().clone());
        Self { partition, batch: BatchFacts::of(batch), payload, now_ms, origin: None }
    }

    /// The key of its producer's state.
    pub fn producer(&self) -> ProducerKey {
        ProducerKey {
            partition: self.partition,
            producer: ProducerId(self.batch.producer_id),
            origin: self.origin.clone(),
        }
    }
}

/// Header fields of a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchFacts {
    /// How many records it has.
    pub record_count: i32,
    /// The offset of the last record, relative to the base offset.
    pub last_offset_delta: i32,
    /// The timestamp that the records' timestamps are relative to, in ms.
    pub base_timestamp: i64,
    /// The greatest timestamp, in ms.
    pub max_timestamp: i64,
    /// Producer id; -1 for none.
    pub producer_id: i64,
    /// Producer epoch; -1 for none.
    pub producer_epoch: i16,
    /// The sequence number of the first record; -1 for none.
    pub base_sequence: i32,
    /// Kafka's flags: codec, timestamp type, transactional, control.
    pub attributes: i16,
    /// Length of the whole batch in bytes.
    pub bytes: u32,
}

impl BatchFacts {
    /// The header fields of a batch.
    pub fn of(batch: &Batch) -> Self {
        Self {
            record_count: batch.record_count(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp: batch.base_timestamp(),
            max_timestamp: batch.max_timestamp(),
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            attributes: batch.attributes(),
            // A frame is shorter than 2 GiB.
            bytes: batch.bytes().len() as u32,
        }
    }

    /// Whether its producer is idempotent.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id != NO_PRODUCER_ID
    }
}

/// A record batch as bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}
