//! The documents that an engine holds in memory, in key order.
//!
//! All topics and partitions are here, because every request needs them. Producers may be loaded on demand,
//! because there may be many and most are idle.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use kernel::TopicPartition;
use rules::documents::{
    Document, DocumentKind, GroupDocument, Key, OffsetDocument, OffsetKey, PartitionDocument, Prefix,
    ProducerDocument, TopicDocument,
};
use rules::{Changes, Documents, Lookup};

use crate::engines::ReadOutcome;

/// Limit on loaded producers. Beyond it all are unloaded, and each is loaded again when it produces.
const LOADED_PRODUCERS_MAX: usize = 10_000;

/// Documents by key.
#[derive(Debug, Default)]
pub(in crate::engines) struct Table {
    documents: BTreeMap<Key, Document>,
    /// How many documents of each kind there are, but of producers.
    counts: BTreeMap<Arc<str>, usize>,
    /// `None` is a producer that is known not to exist.
    producers: BTreeMap<Key, Option<Document>>,
    loads_producers: bool,
}

impl Table {
    /// A table whose producers are loaded on demand.
    pub(in crate::engines) fn loading_producers() -> Self {
        Self { loads_producers: true, ..Self::default() }
    }

    /// Whether documents of this prefix may be in the store but not loaded.
    pub(in crate::engines) fn is_partial(&self, prefix: &Prefix) -> bool {
        self.loads_producers && prefix.as_str().starts_with(ProducerDocument::prefix().as_str())
    }

    /// Adds a document, or records that a producer does not exist.
    pub(in crate::engines) fn put(&mut self, key: Key, document: Option<Document>) {
        if is_producer(&key) {
            if document.is_none() && !self.loads_producers {
                self.producers.remove(&key);
            } else {
                self.producers.insert(key, document);
            }
            return;
        }
        let kind = key.kind();
        if !self.counts.contains_key(kind) {
            self.counts.insert(Arc::from(kind), 0);
        }
        let Some(count) = self.counts.get_mut(kind) else { return };
        match document {
            Some(document) => *count += usize::from(self.documents.insert(key, document).is_none()),
            None => *count -= usize::from(self.documents.remove(&key).is_some()),
        }
    }

    /// How many documents of a kind there are.
    pub(in crate::engines) fn count(&self, kind: &str) -> usize {
        self.counts.get(kind).copied().unwrap_or_default()
    }

    /// Applies the changes of commands.
    pub(in crate::engines) fn apply(&mut self, changes: Changes) {
        if self.loads_producers && self.producers.len() > LOADED_PRODUCERS_MAX {
            self.producers.clear();
        }
        for (key, document) in changes {
            self.put(key, document);
        }
    }

    /// Removes the producers of a deleted partition.
    pub(in crate::engines) fn drop_producers(&mut self, partition: TopicPartition) {
        let of_partition = ProducerDocument::of_partition(partition);
        let from = Key::from_text(of_partition.as_str());
        let gone = self.producers.range(from..).map(|(key, _)| key);
        let gone: Vec<Key> = gone.take_while(|key| of_partition.matches(key)).cloned().collect();
        gone.iter().for_each(|key| drop(self.producers.remove(key)));
    }

    /// A document.
    pub(in crate::engines) fn get<T: DocumentKind>(&self, key: &T::Key) -> Option<&T> {
        self.find(&T::key(key))?.get()
    }

    /// A partition's log.
    pub(in crate::engines) fn partition(&self, at: TopicPartition) -> Option<&PartitionDocument> {
        self.get(&at)
    }

    fn find(&self, key: &Key) -> Option<&Document> {
        if is_producer(key) { self.producers.get(key)?.as_ref() } else { self.documents.get(key) }
    }

    /// All documents of a kind that is fully loaded, in key order.
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

    /// Producers without a batch after this time.
    pub(in crate::engines) fn idle_producers(&self, unused_since_ms: i64) -> Vec<Key> {
        let is_idle = |document: &Option<Document>| {
            let producer = document.as_ref().and_then(Document::get::<ProducerDocument>);
            producer.is_some_and(|producer| producer.last_ms <= unused_since_ms)
        };
        self.producers.iter().filter(|(_, document)| is_idle(document)).map(|(key, _)| key.clone()).collect()
    }

    /// Documents by key.
    pub(in crate::engines) fn load(&self, keys: &[Key]) -> Vec<Option<Document>> {
        keys.iter().map(|key| self.find(key).cloned()).collect()
    }

    /// Documents of a prefix, in key order.
    pub(in crate::engines) fn scan(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Vec<(Key, Document)> {
        let first = Key::from_text(prefix.as_str());
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        let range = (from, Bound::Unbounded);
        let is_covered = |key: &Key| prefix.matches(key);
        if is_producer(&first) {
            let all = self.producers.range(range).take_while(|(key, _)| is_covered(key));
            let stored = all.filter_map(|(key, document)| Some((key.clone(), document.clone()?)));
            return stored.take(limit).collect();
        }
        let all = self.documents.range(range).take_while(|(key, _)| is_covered(key));
        all.take(limit).map(|(key, document)| (key.clone(), document.clone())).collect()
    }

    /// The consumer lags of the first committed offsets: group, topic, partition and records. Offsets of deleted topics
    /// are left out.
    pub(in crate::engines) fn lags(
        &self,
        limit: usize,
    ) -> impl Iterator<Item = (Arc<str>, Arc<str>, i32, i64)> {
        self.all::<OffsetDocument>().take(limit).filter_map(|(key, offset)| {
            let OffsetKey { group, topic, partition } = OffsetDocument::parse_key(key)?;
            let log = self.partition(TopicPartition { topic: offset.topic_id, partition })?;
            Some((group, topic, partition, (log.end - offset.offset).max(0)))
        })
    }

    /// The result of a read at `offset` if it needs no log access; `None` if the log must be read.
    pub(in crate::engines) fn outcome_without_log(
        &self,
        at: TopicPartition,
        offset: i64,
    ) -> Option<ReadOutcome> {
        let Some(log) = self.partition(at) else { return Some(ReadOutcome::UnknownPartition) };
        let (log_start, high_watermark) = (log.log_start, log.end);
        if offset < log_start || offset > high_watermark {
            return Some(ReadOutcome::OutOfRange { log_start, high_watermark });
        }
        (offset == high_watermark).then(|| empty(log))
    }
}

fn is_producer(key: &Key) -> bool {
    let parts = key.as_str().strip_prefix(ProducerDocument::PREFIX);
    parts.is_some_and(|parts| parts.starts_with('/'))
}

/// The result of a read without batches.
pub(in crate::engines) fn empty(log: &PartitionDocument) -> ReadOutcome {
    ReadOutcome::Read { log_start: log.log_start, high_watermark: log.end, batches: Vec::new() }
}

impl Documents for Table {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        if !is_producer(key) {
            return Lookup::Known(self.documents.get(key));
        }
        match self.producers.get(key) {
            Some(known) => Lookup::Known(known.as_ref()),
            None if self.loads_producers => Lookup::Unknown,
            None => Lookup::Known(None),
        }
    }
}
