//! Appends: the header fields of a record batch that the rules use, and the batch itself, which they never
//! parse.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kernel::records::{
    Batch, DELETE_HORIZON, LOG_APPEND_TIME, NO_PRODUCER_ID, NO_TIMESTAMP, RecordTimes, StoredHeader,
};
use kernel::{ProducerId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::transaction::{ProducerIdAndEpoch, TransactionOfAppend};
use crate::documents::ProducerKey;

/// Attribute bits of a batch in a transaction, and of one that holds markers.
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
/// "No sequence number", of a batch that no producer counts.
const NO_SEQUENCE: i32 = -1;

/// Appends one record batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The partition.
    pub partition: TopicPartition,
    /// Its header fields, already validated. With log append time, the rules settle which.
    pub batch: BatchFacts,
    /// The batch. It is stored with the header fields that are settled ([`BatchFacts::stored`]).
    pub payload: Payload,
    /// When the broker received it, in ms.
    pub now_ms: i64,
    /// The leader epoch of this opening of the store. A partition that has seen a later one keeps that.
    #[serde(default)]
    pub leader_epoch: i32,
    /// The service that gave its producer id; `None` for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<str>>,
    /// The transaction of its request, which may have other batches than transactional ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionOfAppend>,
}

impl Append {
    /// Appends a validated batch, whose producer id is of this service, in the first leader epoch and in no transaction.
    pub fn new(partition: TopicPartition, batch: &Batch, now_ms: i64) -> Self {
        let payload = Payload(batch.bytes().clone());
        let batch = BatchFacts::of(batch);
        Self { partition, batch, payload, now_ms, leader_epoch: 0, origin: None, transaction: None }
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
    /// The greatest timestamp, in ms; -1 if no record has one.
    pub max_timestamp: i64,
    /// Whether a record has no timestamp.
    #[serde(default)]
    pub has_undated: bool,
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
    /// The header fields of a batch, taken at their word; only a cleaner says until when its tombstones stay.
    pub fn of(batch: &Batch) -> Self {
        Self {
            record_count: batch.record_count(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp: batch.base_timestamp(),
            max_timestamp: batch.max_timestamp(),
            has_undated: !batch.has_append_time() && batch.max_timestamp() < 0,
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
            attributes: batch.attributes() & !DELETE_HORIZON,
            // A frame is shorter than 2 GiB.
            bytes: batch.bytes().len() as u32,
        }
    }

    /// The header fields of the marker of a transaction, whose batch has `bytes`.
    pub fn of_marker(producer: ProducerIdAndEpoch, now_ms: i64, bytes: u32) -> Self {
        Self {
            record_count: 1,
            last_offset_delta: 0,
            base_timestamp: now_ms,
            max_timestamp: now_ms,
            has_undated: now_ms < 0,
            producer_id: producer.id.0,
            producer_epoch: producer.epoch,
            base_sequence: NO_SEQUENCE,
            attributes: TRANSACTIONAL | CONTROL,
            bytes,
        }
    }

    /// The same with the timestamps of the records, as they were worked out.
    pub fn with_create_time(self, times: RecordTimes) -> Self {
        Self {
            // With a producer's bit, consumers would read one timestamp for all records.
            attributes: self.attributes & !LOG_APPEND_TIME,
            max_timestamp: times.latest.unwrap_or(NO_TIMESTAMP),
            has_undated: times.has_undated,
            ..self
        }
    }

    /// The same with log append time.
    pub fn with_append_time(self) -> Self {
        Self { attributes: self.attributes | LOG_APPEND_TIME, has_undated: false, ..self }
    }

    /// Whether all records have the time of the append.
    pub fn has_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// What is set in the header of the batch when it is stored.
    pub fn stored(&self, base_offset: i64, leader_epoch: i32) -> StoredHeader {
        let Self { attributes, max_timestamp, .. } = *self;
        StoredHeader { base_offset, leader_epoch, attributes, max_timestamp }
    }

    /// Whether its producer is idempotent.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id != NO_PRODUCER_ID
    }

    /// Whether it is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
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
