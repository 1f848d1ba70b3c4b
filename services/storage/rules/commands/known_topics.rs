//! Topic metadata that travels in a command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::ports::TopicFacts;
use serde::{Deserialize, Serialize};

use crate::documents::SubscribedTopic;

/// Topic metadata, looked up before the command was made. A group's topics may belong to another service, so
/// the group rules read no topic documents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KnownTopics {
    topics: BTreeMap<Arc<str>, Option<SubscribedTopic>>,
    /// See [`KnownTopics::let_others_stand`].
    #[serde(default)]
    others_stand: bool,
}

impl KnownTopics {
    /// Adds the topics that were looked up, and those of them that were found.
    pub fn add(&mut self, asked: &BTreeSet<Arc<str>>, found: Vec<TopicFacts>) {
        self.topics.extend(asked.iter().map(|name| (Arc::clone(name), None)));
        let topic = |facts: TopicFacts| {
            (facts.name, Some(SubscribedTopic { id: facts.id, partitions: facts.partitions }))
        };
        self.topics.extend(found.into_iter().map(topic));
    }

    /// A topic, if it exists.
    pub fn get(&self, name: &str) -> Option<SubscribedTopic> {
        self.topics.get(name).copied().flatten()
    }

    /// Whether the topic was looked up; it may not exist.
    pub fn knows(&self, name: &str) -> bool {
        self.topics.contains_key(name)
    }

    /// Lets topics that were not looked up stand as the group has them: other members have brought them since. Otherwise one
    /// of many members that bring topics at the same time would go on, and the others would look up what it has brought.
    pub fn let_others_stand(&mut self) {
        self.others_stand = true;
    }

    /// Whether topics that were not looked up stand as the group has them.
    pub(crate) fn others_stand(&self) -> bool {
        self.others_stand
    }
}
