//! Offsets to be committed, as OffsetCommit and TxnOffsetCommit have them.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode};
use rules::commands::CommittedOffset;
use rules::documents::OffsetDocument;

use super::directory::DirectoryTopics;
use super::groups::store_failed;
use super::text::to_arc;
use crate::broker::Broker;
use crate::store::TopicRef;

/// Kafka's `offset.metadata.max.bytes`, which counts Java's UTF-16 code units.
const METADATA_UNITS_MAX: usize = 4096;

/// A partition, as the request names it, and its result.
pub(crate) type Row = (TopicRef, i32, Result<(), ErrorCode>);

/// An offset in a request.
pub(crate) struct AskedOffset<'a> {
    /// The topic.
    pub(crate) topic: TopicRef,
    /// The partition.
    pub(crate) partition: i32,
    /// The next offset to read.
    pub(crate) offset: i64,
    /// The leader epoch of the last record that was read; -1 if it is not known.
    pub(crate) leader_epoch: i32,
    /// What the client keeps with it.
    pub(crate) metadata: Option<&'a StrBytes>,
}

/// The dates of offsets, in ms.
#[derive(Clone, Copy)]
pub(crate) struct Dates {
    /// When they are committed.
    pub(crate) now_ms: i64,
    /// When they expire, if the request says so.
    pub(crate) expires_ms: Option<i64>,
}

/// A row for each offset of a request, in its order, and what can be committed of them.
pub(crate) async fn find_all(
    broker: &Broker,
    call: &Call,
    asked: Vec<AskedOffset<'_>>,
    dates: Dates,
) -> (Vec<Row>, Vec<CommittedOffset>) {
    let places: Vec<_> = asked.iter().map(|one| (one.topic.clone(), one.partition)).collect();
    let topics = match DirectoryTopics::find_to_write(broker, &call.ticket, &places).await {
        Ok(topics) => topics,
        Err(error) => {
            let error = store_failed(call, &error);
            return (
                places.into_iter().map(|(topic, index)| (topic, index, Err(error))).collect(),
                Vec::new(),
            );
        }
    };
    let mut rows = Vec::with_capacity(asked.len());
    let mut offsets = Vec::new();
    for one in asked {
        tokio::task::consume_budget().await;
        let result = one.find(&topics, dates).map(|offset| offsets.push(offset));
        rows.push((one.topic, one.partition, result));
    }
    (rows, offsets)
}

impl AskedOffset<'_> {
    /// The offset of a partition that exists.
    fn find(&self, topics: &DirectoryTopics, dates: Dates) -> Result<CommittedOffset, ErrorCode> {
        let facts = topics.partition(&self.topic, self.partition)?;
        let metadata = self.metadata.map(to_arc).unwrap_or_default();
        if metadata.encode_utf16().count() > METADATA_UNITS_MAX {
            return Err(ErrorCode::OffsetMetadataTooLarge);
        }
        Ok(CommittedOffset {
            topic: Arc::clone(&facts.name),
            partition: self.partition,
            document: OffsetDocument {
                topic_id: facts.id,
                offset: self.offset,
                leader_epoch: self.leader_epoch,
                metadata,
                committed_ms: dates.now_ms,
                expires_ms: dates.expires_ms,
                revision: 0,
                sent_after: None,
                sent_as: 0,
            },
        })
    }
}
