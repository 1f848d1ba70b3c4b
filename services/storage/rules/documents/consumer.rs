//! What groups and members of the consumer protocol have besides (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;
use serde::{Deserialize, Serialize};

/// The assignors that members may vote for; the first is the default.
pub const ASSIGNORS: [&str; 2] = ["uniform", "range"];

/// Partitions by topic.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// A group whose broker assigns (KIP-848). Its epoch is the document's `generation`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsumerGroup {
    /// The group's epoch for which the members' targets were worked out.
    pub assignment_epoch: i32,
    /// The topics that its members subscribe to, as far as they are there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<Arc<str>, SubscribedTopic>,
    /// The regular expressions that its members subscribe to, and the topics that fit each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regexes: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl ConsumerGroup {
    /// The name of a topic that is subscribed to.
    pub fn topic_name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name)
    }
}

/// A topic when the targets were worked out: another id, or more partitions, and it is done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribedTopic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// What a member of such a group is to read, and what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsumerMember {
    /// Member epoch: the last one that it has reached.
    pub epoch: i32,
    /// The member epoch before that.
    pub previous_epoch: i32,
    /// Its state.
    pub state: MemberState,
    /// The topics that it subscribes to by name. A member of the classic protocol says them in its metadata.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub topics: BTreeSet<Arc<str>>,
    /// The regular expression that it subscribes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Arc<str>>,
    /// The rack that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<Arc<str>>,
    /// The assignor that it votes for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignor: Option<Arc<str>>,
    /// What it may read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub assigned: Partitions,
    /// What it may read no longer, and has not let go yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub revoking: Partitions,
    /// What it is to read in the end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub target: Partitions,
    /// When it must have done what it was told, in ms: let partitions go, joined again, synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<i64>,
}

/// The state of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MemberState {
    /// It has what it was to have in its epoch.
    #[default]
    Stable,
    /// It must let partitions go before it moves on. Kafka's name: UNREVOKED_PARTITIONS.
    Revoking,
    /// Others have not let go yet of what it is to have. Kafka's name: UNRELEASED_PARTITIONS.
    Waiting,
}

/// Whether a partition is among these.
pub fn holds(partitions: &Partitions, topic: TopicId, partition: i32) -> bool {
    partitions.get(&topic).is_some_and(|of_topic| of_topic.contains(&partition))
}

/// Each partition by itself.
pub fn each(partitions: &Partitions) -> impl Iterator<Item = (TopicId, i32)> {
    partitions.iter().flat_map(|(topic, of_topic)| of_topic.iter().map(|partition| (*topic, *partition)))
}
