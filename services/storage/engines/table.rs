//! The documents that an engine holds in memory.
//!
//! Topics and partitions are all here, because every request asks for them; producers may be loaded as they come,
//! because there may be many and most are idle.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kernel::TopicPartition;

use super::{Load, ReadOutcome};
use crate::rules::groups::GroupDocument;
use crate::rules::{Document, Documents, Key, Lookup, PartitionDocument, TopicDocument};

/// Producers that are kept loaded; past this many all are let go, and come back one by one as they produce.
const LOADED_PRODUCERS_MAX: usize = 10_000;

/// Documents by key.
#[derive(Debug, Default)]
pub(crate) struct Table {
    documents: HashMap<Key, Document>,
    /// `None` is a producer that is known not to be stored.
    producers: HashMap<Key, Option<Document>>,
    topics: BTreeSet<Arc<str>>,
    groups: BTreeSet<Arc<str>>,
    client_metrics: BTreeSet<Arc<str>>,
    loads_producers: bool,
}

impl Table {
    /// A table that misses producers until they are put in.
    pub(crate) fn loading_producers() -> Self {
        Self { loads_producers: true, ..Self::default() }
    }

    /// Puts in a document, or what is known of a producer's absence.
    pub(crate) fn put(&mut self, key: Key, document: Option<Document>) {
        match (&key, document) {
            (Key::Producer(..), document) => {
                if document.is_none() && !self.loads_producers {
                    self.producers.remove(&key);
                } else {
                    self.producers.insert(key, document);
                }
            }
            (_, Some(document)) => {
                match &key {
                    Key::Topic(name) => drop(self.topics.insert(Arc::clone(name))),
                    Key::Group(name) => drop(self.groups.insert(Arc::clone(name))),
                    Key::ClientMetrics(name) => drop(self.client_metrics.insert(Arc::clone(name))),
                    _ => {}
                }
                self.documents.insert(key, document);
            }
            (_, None) => {
                match &key {
                    Key::Topic(name) => drop(self.topics.remove(name)),
                    Key::Group(name) => drop(self.groups.remove(name)),
                    Key::ClientMetrics(name) => drop(self.client_metrics.remove(name)),
                    _ => {}
                }
                self.documents.remove(&key);
            }
        }
    }

    /// Takes in the changes of a group of commands.
    pub(crate) fn apply(&mut self, changes: HashMap<Key, Option<Document>>) {
        if self.loads_producers && self.producers.len() > LOADED_PRODUCERS_MAX {
            self.producers.clear();
        }
        for (key, document) in changes {
            self.put(key, document);
        }
    }

    /// Forgets what is known of the producers of a partition that is gone.
    pub(crate) fn drop_producers(&mut self, partition: TopicPartition) {
        self.producers.retain(|key, _| !matches!(key, Key::Producer(at, _) if *at == partition));
    }

    /// A partition's log.
    pub(crate) fn partition(&self, at: TopicPartition) -> Option<&PartitionDocument> {
        self.documents.get(&Key::Partition(at))?.as_partition()
    }

    /// All topics, in the order of names.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<TopicDocument>> {
        let named = |name: &Arc<str>| self.documents.get(&Key::Topic(Arc::clone(name)));
        self.topics.iter().filter_map(move |name| named(name)?.as_topic())
    }

    /// Producers whose last batch is this old.
    pub(crate) fn idle_producers(&self, unused_since_ms: i64) -> Vec<Key> {
        let idle = |document: &Option<Document>| matches!(document, Some(Document::Producer(producer)) if producer.last_ms <= unused_since_ms);
        self.producers.iter().filter(|(_, document)| idle(document)).map(|(key, _)| key.clone()).collect()
    }

    /// Copies documents out.
    pub(crate) fn load(&self, load: &Load) -> Vec<(Key, Document)> {
        match load {
            Load::Keys(keys) => {
                let found = |key: &Key| match self.lookup(key) {
                    Lookup::Known(Some(document)) => Some((key.clone(), document.clone())),
                    _ => None,
                };
                keys.iter().filter_map(found).collect()
            }
            Load::Group(group) => self.group(group),
            Load::Groups => {
                let keys = self.groups.iter().map(|name| Key::Group(Arc::clone(name))).collect();
                self.load(&Load::Keys(keys))
            }
            Load::ClientMetrics => {
                let keys =
                    self.client_metrics.iter().map(|name| Key::ClientMetrics(Arc::clone(name))).collect();
                self.load(&Load::Keys(keys))
            }
            Load::Producers(partition) => {
                let of_partition = |(key, document): (&Key, &Option<Document>)| match key {
                    Key::Producer(at, _) if at == partition => Some((key.clone(), document.clone()?)),
                    _ => None,
                };
                let mut producers: Vec<_> = self.producers.iter().filter_map(of_partition).collect();
                producers.sort_by(|(one, _), (other, _)| one.cmp(other));
                producers
            }
            Load::Topics => self
                .topics()
                .map(|topic| (Key::Topic(Arc::clone(&topic.name)), Document::Topic(Arc::clone(topic))))
                .collect(),
        }
    }

    /// A group and its members.
    fn group(&self, group: &Arc<str>) -> Vec<(Key, Document)> {
        let key = Key::Group(Arc::clone(group));
        let Some(document) = self.documents.get(&key) else { return Vec::new() };
        let members = document.as_group().into_iter().flat_map(|group| &group.members);
        let members = members.map(|member| Key::Member(Arc::clone(group), Arc::clone(member)));
        let mut loaded = self.load(&Load::Keys(members.collect()));
        loaded.insert(0, (key, document.clone()));
        loaded
    }

    /// All groups, in the order of ids.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<GroupDocument>)> {
        let document = |name: &Arc<str>| self.documents.get(&Key::Group(Arc::clone(name)))?.as_group();
        self.groups.iter().filter_map(move |name| Some((name, document(name)?)))
    }

    /// How many offsets each group has yet to come to in each partition that it has committed for.
    pub(crate) fn lags(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, i32, i64)> {
        self.groups.iter().flat_map(move |group| {
            let index = match self.documents.get(&Key::OffsetIndex(Arc::clone(group))) {
                Some(Document::OffsetIndex(index)) => Some(index),
                _ => None,
            };
            let topics = index.into_iter().flat_map(|index| index.iter());
            topics.flat_map(move |(topic, partitions)| {
                partitions
                    .iter()
                    .filter_map(move |at| Some((group, topic, *at, self.lag(group, topic, *at)?)))
            })
        })
    }

    fn lag(&self, group: &Arc<str>, topic: &Arc<str>, partition: i32) -> Option<i64> {
        let key = Key::Offset(Arc::clone(group), Arc::clone(topic), partition);
        let Document::Offset(offset) = self.documents.get(&key)? else { return None };
        let log = self.partition(TopicPartition { topic: offset.topic_id, partition })?;
        Some((log.end - offset.offset).max(0))
    }

    /// What a read at `offset` comes to without looking at the log; `None` when the log must be read.
    pub(crate) fn outcome_without_log(&self, at: TopicPartition, offset: i64) -> Option<ReadOutcome> {
        let Some(log) = self.partition(at) else { return Some(ReadOutcome::UnknownPartition) };
        let (log_start, high_watermark) = (log.log_start, log.end);
        if offset < log_start || offset > high_watermark {
            return Some(ReadOutcome::OutOfRange { log_start, high_watermark });
        }
        (offset == high_watermark).then(|| empty(log))
    }
}

/// A read that found no batch.
pub(crate) fn empty(log: &PartitionDocument) -> ReadOutcome {
    ReadOutcome::Read { log_start: log.log_start, high_watermark: log.end, batches: Vec::new() }
}

impl Documents for Table {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        match key {
            Key::Producer(..) => match self.producers.get(key) {
                Some(known) => Lookup::Known(known.as_ref()),
                None if self.loads_producers => Lookup::Unknown,
                None => Lookup::Known(None),
            },
            _ => Lookup::Known(self.documents.get(key)),
        }
    }
}
