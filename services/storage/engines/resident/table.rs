//! The documents of an engine that holds all of them in memory, in key order.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicPartition;
use rules::documents::{
    Document, DocumentKind, GroupDocument, Key, OffsetDocument, OffsetKey, PartitionDocument, Prefix,
    TopicDocument, deleted_with_log,
};
use rules::{Changes, Documents, Lookup};

use super::stats::Lag;
use crate::engines::{Isolation, ReadOutcome, Rest};

/// Documents by key.
#[derive(Debug, Default)]
pub(in crate::engines) struct Table {
    documents: BTreeMap<Key, Document>,
}

impl Table {
    /// Applies the changes of commands.
    pub(in crate::engines) fn apply(&mut self, changes: Changes) {
        for (key, document) in changes {
            match document {
                Some(document) => drop(self.documents.insert(key, document)),
                None => drop(self.documents.remove(&key)),
            }
        }
    }

    /// Removes the producers and transactions of a deleted partition.
    pub(in crate::engines) fn drop_documents(&mut self, partition: TopicPartition) {
        for prefix in deleted_with_log(partition) {
            let gone: Vec<Key> = self.range(&prefix, None).map(|(key, _)| key.clone()).collect();
            gone.iter().for_each(|key| drop(self.documents.remove(key)));
        }
    }

    /// The documents of a prefix after a key, in key order.
    fn range<'a>(
        &'a self,
        prefix: &'a Prefix,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Document)> {
        let first = Key::from_text(prefix.as_str());
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        self.documents.range((from, Bound::Unbounded)).take_while(|(key, _)| prefix.matches(key))
    }

    /// A document.
    pub(in crate::engines) fn get<T: DocumentKind>(&self, key: &T::Key) -> Option<&T> {
        self.documents.get(&T::key(key))?.get()
    }

    /// A partition's log.
    pub(in crate::engines) fn partition(&self, at: TopicPartition) -> Option<&PartitionDocument> {
        self.get(&at)
    }

    /// All documents of a kind, in key order.
    pub(in crate::engines) fn all<T: DocumentKind>(&self) -> impl Iterator<Item = (&Key, &T)> {
        let prefix = T::prefix();
        let from = Key::from_text(prefix.as_str());
        let of_kind = self.documents.range(from..).take_while(move |(key, _)| prefix.matches(key));
        of_kind.filter_map(|(key, document)| Some((key, document.get()?)))
    }

    /// All topics, in name order.
    pub(in crate::engines) fn topics(&self) -> impl Iterator<Item = &TopicDocument> {
        self.all::<TopicDocument>().map(|(_, topic)| topic)
    }

    /// All groups, in id order.
    pub(in crate::engines) fn groups(&self) -> impl Iterator<Item = (Arc<str>, &GroupDocument)> {
        self.all::<GroupDocument>().filter_map(|(key, group)| Some((GroupDocument::parse_key(key)?, group)))
    }

    /// Documents by key.
    pub(in crate::engines) fn load(&self, keys: &[Key]) -> Vec<Option<Document>> {
        keys.iter().map(|key| self.documents.get(key).cloned()).collect()
    }

    /// Documents of a prefix, in key order.
    pub(in crate::engines) fn scan(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Vec<(Key, Document)> {
        let found = self.range(prefix, after).take(limit);
        found.map(|(key, document)| (key.clone(), document.clone())).collect()
    }

    /// The consumer lags of the first committed offsets. Offsets of deleted topics are left out.
    pub(in crate::engines) fn lags(&self, limit: usize) -> impl Iterator<Item = Lag> {
        self.all::<OffsetDocument>().take(limit).filter_map(|(key, offset)| {
            let OffsetKey { group, topic, partition } = OffsetDocument::parse_key(key)?;
            let log = self.partition(TopicPartition { topic: offset.topic_id, partition })?;
            Some(Lag { group, topic, partition, records: (log.end - offset.offset).max(0) })
        })
    }
}

/// The result of a read at an offset if no batch has to be read for it.
pub(in crate::engines) fn outcome_without_log(
    log: &PartitionDocument,
    offset: i64,
    isolation: Isolation,
) -> Option<ReadOutcome> {
    let (log_start, high_watermark) = (log.log_start, log.end);
    if offset < log_start || offset > high_watermark {
        return Some(ReadOutcome::OutOfRange { log_start, high_watermark });
    }
    // There may be more behind the last stable offset, which is no error to ask for.
    (offset >= isolation.end_of(log)).then(|| empty(log))
}

/// The result of a read without batches.
pub(in crate::engines) fn empty(log: &PartitionDocument) -> ReadOutcome {
    outcome_of(log, Vec::new(), None)
}

/// The result of a read of these batches.
pub(in crate::engines) fn outcome_of(
    log: &PartitionDocument,
    batches: Vec<Bytes>,
    rest: Option<Rest>,
) -> ReadOutcome {
    ReadOutcome::Read {
        log_start: log.log_start,
        high_watermark: log.end,
        last_stable: log.last_stable(),
        last_aborted: log.last_aborted,
        cleaning_steps: log.cleaning_steps(),
        batches,
        rest,
    }
}

impl Documents for Table {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        Lookup::Known(self.documents.get(key))
    }

    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        Some(self.range(prefix, None).map(|(key, _)| key.clone()).collect())
    }

    fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>> {
        Some(self.range(prefix, None).take(count).map(|(key, _)| key.clone()).collect())
    }
}
