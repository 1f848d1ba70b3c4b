//! Documents as they are, under the changes that a group of commands makes to them.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::{ProducerId, TopicId, TopicPartition};

use super::client_metrics::Subscription;
use super::command::Effect;
use super::documents::{Counters, Document, Key, PartitionDocument, ProducerDocument, TopicDocument};
use super::groups::{GroupDocument, MemberDocument, OffsetDocument, OffsetIndex};

/// What an engine knows of a document without asking its store.
#[derive(Debug, Clone, Copy)]
pub enum Lookup<'a> {
    /// It would have to be loaded.
    Unknown,
    /// It is this, or there is none.
    Known(Option<&'a Document>),
}

/// The documents that an engine has at hand.
pub trait Documents {
    /// Looks one up.
    fn lookup(&self, key: &Key) -> Lookup<'_>;
}

/// Documents, with changes over them that are not durable yet.
pub struct WorkingSet<'a> {
    base: &'a dyn Documents,
    under: Option<&'a WorkingSet<'a>>,
    changes: HashMap<Key, Option<Document>>,
    effects: Vec<Effect>,
}

impl<'a> WorkingSet<'a> {
    /// No changes yet.
    pub fn new(base: &'a dyn Documents) -> Self {
        Self { base, under: None, changes: HashMap::new(), effects: Vec::new() }
    }

    /// A set over this one whose changes nobody will see.
    pub(super) fn trial(&self) -> WorkingSet<'_> {
        WorkingSet { base: self.base, under: Some(self), changes: HashMap::new(), effects: Vec::new() }
    }

    /// A document as it stands after the changes so far.
    pub fn lookup(&self, key: &Key) -> Lookup<'_> {
        match (self.changes.get(key), self.under) {
            (Some(changed), _) => Lookup::Known(changed.as_ref()),
            (None, Some(under)) => under.lookup(key),
            (None, None) => self.base.lookup(key),
        }
    }

    /// The changed documents (`None`: deleted) and what must happen to the logs.
    pub fn into_changes(self) -> (HashMap<Key, Option<Document>>, Vec<Effect>) {
        (self.changes, self.effects)
    }

    /// What must happen to the logs so far.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    fn get(&self, key: &Key) -> Option<&Document> {
        match self.lookup(key) {
            Lookup::Known(document) => document,
            Lookup::Unknown => None,
        }
    }

    /// A topic by name.
    pub fn topic(&self, name: &Arc<str>) -> Option<&Arc<TopicDocument>> {
        self.get(&Key::Topic(Arc::clone(name)))?.as_topic()
    }

    /// A topic's name by its id.
    pub fn topic_name(&self, id: TopicId) -> Option<&Arc<str>> {
        match self.get(&Key::TopicName(id))? {
            Document::TopicName(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn collisions(&self, name: &Arc<str>) -> &[Arc<str>] {
        match self.get(&Key::TopicCollision(Arc::clone(name))) {
            Some(Document::TopicCollision(names)) => names,
            _ => &[],
        }
    }

    /// A partition's log.
    pub fn partition(&self, at: TopicPartition) -> Option<PartitionDocument> {
        self.get(&Key::Partition(at))?.as_partition().copied()
    }

    pub(super) fn producer(&self, at: TopicPartition, producer: ProducerId) -> Option<&ProducerDocument> {
        match self.get(&Key::Producer(at, producer))? {
            Document::Producer(document) => Some(document),
            _ => None,
        }
    }

    pub(super) fn group(&self, group: &Arc<str>) -> Option<&Arc<GroupDocument>> {
        self.get(&Key::Group(Arc::clone(group)))?.as_group()
    }

    pub(super) fn member(&self, group: &Arc<str>, member: &Arc<str>) -> Option<&Arc<MemberDocument>> {
        match self.get(&Key::Member(Arc::clone(group), Arc::clone(member)))? {
            Document::Member(document) => Some(document),
            _ => None,
        }
    }

    pub(super) fn offset_index(&self, group: &Arc<str>) -> Option<&OffsetIndex> {
        match self.get(&Key::OffsetIndex(Arc::clone(group)))? {
            Document::OffsetIndex(index) => Some(index),
            _ => None,
        }
    }

    pub(super) fn offset(
        &self,
        group: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
    ) -> Option<&OffsetDocument> {
        match self.get(&Key::Offset(Arc::clone(group), Arc::clone(topic), partition))? {
            Document::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    pub(super) fn client_metrics(&self, name: &Arc<str>) -> Option<&Subscription> {
        match self.get(&Key::ClientMetrics(Arc::clone(name)))? {
            Document::ClientMetrics(configs) => Some(configs),
            _ => None,
        }
    }

    pub(super) fn counters(&self) -> Counters {
        match self.get(&Key::Counters) {
            Some(Document::Counters(counters)) => *counters,
            _ => Counters::default(),
        }
    }

    /// Puts a document in place; engines use it for bytes that only they can count.
    pub fn put(&mut self, key: Key, document: Document) {
        self.changes.insert(key, Some(document));
    }

    pub(super) fn delete(&mut self, key: Key) {
        self.changes.insert(key, None);
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}
