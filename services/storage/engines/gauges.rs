//! What `/metrics` shows of the documents of an engine that reads them from a store.

use std::collections::HashMap;

use kernel::TopicPartition;
use rules::documents::{
    Document, DocumentKind, GroupDocument, Key, OffsetDocument, OffsetKey, PartitionDocument, Prefix,
    TopicDocument,
};

use super::resident::{Gauges, Lag, PartitionGauge, SHOWN_MAX};
use super::{Pending, StoreError};

/// Reads without a lock that a commit needs.
pub(in crate::engines) trait ReadDocuments: Send + Sync {
    /// As [`Engine::scan`](super::Engine::scan).
    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>>;

    /// As [`Engine::get`](super::Engine::get); what is damaged counts as absent.
    fn readable(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>>;

    /// As [`Engine::sizes`](super::Engine::sizes).
    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>>;
}

/// Reads the first documents of each kind.
pub(in crate::engines) async fn gather(readers: impl ReadDocuments) -> Result<Gauges, StoreError> {
    let groups = readers.scan(GroupDocument::prefix(), None, SHOWN_MAX).await?;
    let groups = groups.iter().filter_map(|(key, document)| {
        let document = document.get::<GroupDocument>()?;
        Some((GroupDocument::parse_key(key)?, document.state.name(), document.members as usize))
    });
    let groups = groups.collect();
    let (lags, has_more_lags) = lags(&readers).await?;
    let (partitions, has_more_partitions) = partitions(&readers).await?;
    Ok(Gauges { groups, lags, has_more_lags, partitions, has_more_partitions, outbox: None })
}

async fn lags(readers: &impl ReadDocuments) -> Result<(Vec<Lag>, bool), StoreError> {
    let offsets = readers.scan(OffsetDocument::prefix(), None, SHOWN_MAX + 1).await?;
    let has_more = offsets.len() > SHOWN_MAX;
    let offset = |(key, document): &(_, Document)| {
        let OffsetKey { group, topic, partition } = OffsetDocument::parse_key(key)?;
        let offset = document.get::<OffsetDocument>()?;
        Some((group, topic, TopicPartition { topic: offset.topic_id, partition }, offset.offset))
    };
    let offsets: Vec<_> = offsets.iter().take(SHOWN_MAX).filter_map(offset).collect();
    let logs = logs(readers, offsets.iter().map(|(_, _, at, _)| *at).collect()).await?;
    let lag = |(group, topic, at, offset): (_, _, TopicPartition, i64)| {
        let records = (logs.get(&at)?.end - offset).max(0);
        Some(Lag { group, topic, partition: at.partition, records })
    };
    Ok((offsets.into_iter().filter_map(lag).collect(), has_more))
}

async fn partitions(readers: &impl ReadDocuments) -> Result<(Vec<PartitionGauge>, bool), StoreError> {
    let topics = readers.scan(TopicDocument::prefix(), None, SHOWN_MAX + 1).await?;
    let topics: Vec<_> =
        topics.iter().filter_map(|(_, document)| document.get_arc::<TopicDocument>()).collect();
    let each = topics.iter().flat_map(|topic| topic.all_partitions().map(move |at| (&topic.name, at)));
    let mut shown: Vec<_> = each.take(SHOWN_MAX + 1).collect();
    let has_more = shown.len() > SHOWN_MAX;
    shown.truncate(SHOWN_MAX);
    let logs = logs(readers, shown.iter().map(|(_, at)| *at).collect()).await?;
    let sizes = readers.sizes(shown.iter().map(|(_, at)| *at).collect()).await?;
    let partition = |((topic, at), bytes): ((&std::sync::Arc<str>, TopicPartition), u64)| {
        let log = *logs.get(&at)?;
        Some(PartitionGauge { topic: topic.clone(), partition: at.partition, log, bytes })
    };
    Ok((shown.into_iter().zip(sizes).filter_map(partition).collect(), has_more))
}

async fn logs(
    readers: &impl ReadDocuments,
    partitions: Vec<TopicPartition>,
) -> Result<HashMap<TopicPartition, PartitionDocument>, StoreError> {
    let keys: Vec<Key> = partitions.iter().map(PartitionDocument::key).collect();
    let found = readers.readable(keys).await?;
    let log = |(at, document): (_, Option<Document>)| Some((at, *document?.get::<PartitionDocument>()?));
    Ok(partitions.into_iter().zip(found).filter_map(log).collect())
}
