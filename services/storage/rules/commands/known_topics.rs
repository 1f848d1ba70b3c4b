//! Facts about topics that travel in a command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::ports::TopicFacts;
use serde::{Deserialize, Serialize};

use crate::documents::SubscribedTopic;

/// What was found out about topics before a command was made. A group's topics may be another service's, so the rules
/// of groups read no documents of topics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KnownTopics(BTreeMap<Arc<str>, Option<SubscribedTopic>>);

impl KnownTopics {
    /// Adds topics that were looked for, with those of them that were found.
    pub fn add(&mut self, asked: &BTreeSet<Arc<str>>, found: Vec<TopicFacts>) {
        self.0.extend(asked.iter().map(|name| (Arc::clone(name), None)));
        let topic = |facts: TopicFacts| {
            (facts.name, Some(SubscribedTopic { id: facts.id, partitions: facts.partitions }))
        };
        self.0.extend(found.into_iter().map(topic));
    }

    /// A topic, if there is one.
    pub fn get(&self, name: &str) -> Option<SubscribedTopic> {
        self.0.get(name).copied().flatten()
    }

    /// Whether it is known if there is such a topic.
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
