//! The topics that the members of a group of the consumer protocol subscribe to (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;
use serde::{Deserialize, Serialize};

use super::consumer::SubscribedTopic;
use super::group::GroupDocument;
use super::kind::{DocumentKind, LockRoot};

/// What a group subscribes to. Not in the group's document, which each step of each member of a rebalance writes: that
/// would cost as much as the group has topics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupTopics {
    /// The existing topics that its members subscribe to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<Arc<str>, SubscribedTopic>,
    /// The regular expressions that its members subscribe to, and the topics that match each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regexes: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Members by each topic that they subscribe to by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_name: BTreeMap<Arc<str>, u32>,
    /// Members by regular expression.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_regex: BTreeMap<Arc<str>, u32>,
}

impl GroupTopics {
    /// No topics.
    pub const NONE: Self = Self {
        topics: BTreeMap::new(),
        regexes: BTreeMap::new(),
        by_name: BTreeMap::new(),
        by_regex: BTreeMap::new(),
    };

    /// The topics of a group, as stored: until version 1 topics and expressions were in the group's document.
    pub fn of(group: &GroupDocument, stored: Option<Arc<Self>>) -> Arc<Self> {
        let earlier = || {
            let consumer = group.consumer.as_deref()?;
            let (topics, regexes) = (consumer.topics.clone(), consumer.regexes.clone());
            Some(Arc::new(Self { topics, regexes, ..Self::default() }))
        };
        stored.or_else(earlier).unwrap_or_default()
    }

    /// The name of a subscribed topic.
    pub fn topic_name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name)
    }
}

/// By group id. A group without any has no such document.
impl DocumentKind for GroupTopics {
    const PREFIX: &'static str = "group-topics";
    type Key = Arc<str>;

    fn lock_root(group: &Arc<str>) -> LockRoot {
        LockRoot::Group(Arc::clone(group))
    }
}
