//! Topic metadata that travels in a command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::ports::TopicFacts;
use serde::{Deserialize, Serialize};

use crate::documents::SubscribedTopic;

/// Topic metadata, looked up before the command was made. A group's topics may belong to another service, so
/// the group rules read no topic documents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KnownTopics(BTreeMap<Arc<str>, Option<SubscribedTopic>>);

impl KnownTopics {
    /// Adds the topics that were looked up, and those of them that were found.
    pub fn add(&mut self, asked: &BTreeSet<Arc<str>>, found: Vec<TopicFacts>) {
        self.0.extend(asked.iter().map(|name| (Arc::clone(name), None)));
        let topic = |facts: TopicFacts| {
            (facts.name, Some(SubscribedTopic { id: facts.id, partitions: facts.partitions }))
        };
        self.0.extend(found.into_iter().map(topic));
    }

    /// A topic, if it exists.
    pub fn get(&self, name: &str) -> Option<SubscribedTopic> {
        self.0.get(name).copied().flatten()
    }

    /// Whether the topic was looked up; it may not exist.
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
