//! Messages as batches of records.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::records::{BatchBuilder, Codec, NewRecord};
use kernel::{TopicId, TopicPartition};
use rules::commands::Refused;
use rules::documents::TopicDocument;

use super::headers::Headers;
use crate::engines::outbox::Message;

/// Bytes of a batch at most, and one record more; a topic may allow less.
const BATCH_BYTES_MAX: usize = 512 << 10;
/// The header of a batch.
const BATCH_OVERHEAD: usize = 61;
/// Numbers of a record beside its key, value and headers.
const RECORD_OVERHEAD: usize = 40;
/// Numbers of a header.
const HEADER_OVERHEAD: usize = 10;

/// A message whose partition is known.
pub(super) struct Addressed {
    pub(super) topic: Arc<TopicDocument>,
    pub(super) partition: i32,
    pub(super) message: Message,
    pub(super) headers: Headers,
    /// As a record, at most.
    pub(super) bytes: usize,
}

/// Messages of one partition, in order.
pub(super) struct Batch {
    pub(super) topic: Arc<TopicDocument>,
    pub(super) partition: i32,
    pub(super) messages: Vec<(Message, Headers)>,
    bytes: usize,
}

/// An upper bound of the bytes that a message has as a record.
pub(super) fn bytes_at_most(message: &Message, headers: &Headers) -> usize {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let header = |(name, value): &(String, Option<String>)| {
        name.len() + value.as_ref().map_or(0, String::len) + HEADER_OVERHEAD
    };
    let headers: usize = headers.iter().map(header).sum();
    of(&message.key) + of(&message.value) + headers + RECORD_OVERHEAD
}

/// Batches of messages: those of a partition are in the order of the messages.
pub(super) fn batches(messages: Vec<Addressed>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut open: HashMap<(TopicId, i32), usize> = HashMap::new();
    for Addressed { topic, partition, message, headers, bytes } in messages {
        let at = (topic.id, partition);
        let last = open.get(&at).copied().filter(|index| batches[*index].has_room_for(bytes));
        let index = last.unwrap_or_else(|| {
            batches.push(Batch { topic, partition, messages: Vec::new(), bytes: BATCH_OVERHEAD });
            open.insert(at, batches.len() - 1);
            batches.len() - 1
        });
        batches[index].bytes += bytes;
        batches[index].messages.push((message, headers));
    }
    batches
}

impl Batch {
    fn has_room_for(&self, bytes: usize) -> bool {
        let allowed = usize::try_from(self.topic.effective().max_message_bytes).unwrap_or(0);
        self.bytes + bytes <= BATCH_BYTES_MAX.min(allowed)
    }

    /// The partition.
    pub(super) fn at(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.id, partition: self.partition }
    }

    /// The ids of its messages, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.messages.iter().map(|(message, _)| message.id)
    }

    /// Each message alone.
    pub(super) fn divide(self) -> impl Iterator<Item = Batch> {
        let Self { topic, partition, messages, bytes } = self;
        messages.into_iter().map(move |one| Batch {
            topic: Arc::clone(&topic),
            partition,
            messages: vec![one],
            bytes,
        })
    }

    /// The record batch.
    pub(super) fn records(&self) -> Result<Bytes, Refused> {
        let mut builder = BatchBuilder::new(Codec::None);
        for (message, headers) in &self.messages {
            let headers: Vec<(&str, Option<&[u8]>)> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_ref().map(|value| value.as_bytes())))
                .collect();
            builder.push(NewRecord {
                timestamp: message.timestamp_ms,
                key: message.key.as_deref(),
                value: message.value.as_deref(),
                headers: &headers,
            });
        }
        builder.build().map_err(|error| {
            Refused::new(kernel::ErrorCode::UnknownServerError, format!("a batch cannot be made: {error}"))
        })
    }
}
