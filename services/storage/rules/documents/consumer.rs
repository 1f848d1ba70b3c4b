//! State of groups and members of the consumer protocol (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;
use serde::{Deserialize, Serialize};

/// The assignors that members may vote for; the first is the default.
pub const ASSIGNORS: [&str; 2] = ["uniform", "range"];

/// Partitions by topic.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// A group of the consumer protocol (KIP-848). Its group epoch is the `generation` of its document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsumerGroup {
    /// Assignment epoch: the group epoch of the target assignment.
    pub assignment_epoch: i32,
    /// What is in [`GroupTopics`](super::GroupTopics) now, as version 1 of the group's document had it here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub topics: BTreeMap<Arc<str>, SubscribedTopic>,
    /// The same of regular expressions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub regexes: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl ConsumerGroup {
    /// The epoch that a new group begins in, with an empty target assignment; the first that is computed is of the next one.
    /// A member that joins can be told this epoch until then: member epoch 0 would mean that it has not joined
    /// (KAFKA-20268).
    pub const FIRST_EPOCH: i32 = 1;

    /// A group whose target assignment is that of an epoch.
    pub fn with_target_of(assignment_epoch: i32) -> Self {
        Self { assignment_epoch, ..Self::default() }
    }
}

/// A topic as of the target assignment. A new id or more partitions require a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribedTopic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// A member of such a group: its target assignment and its current assignment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConsumerMember {
    /// Its member epoch.
    pub epoch: i32,
    /// Its previous member epoch.
    pub previous_epoch: i32,
    /// Its state.
    pub state: MemberState,
    /// The topics that it subscribes to by name. A classic member has them in its metadata.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub topics: BTreeSet<Arc<str>>,
    /// The regular expression that it subscribes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<Arc<str>>,
    /// Rack id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<Arc<str>>,
    /// The assignor that it votes for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignor: Option<Arc<str>>,
    /// Its current assignment. Shared, as those below: a member may have ten thousand partitions, and each of its
    /// heartbeats is decided on copies.
    #[serde(default, skip_serializing_if = "are_none")]
    pub assigned: Arc<Partitions>,
    /// The partitions that it must revoke and has not revoked yet.
    #[serde(default, skip_serializing_if = "are_none")]
    pub revoking: Arc<Partitions>,
    /// The partitions that it has, by the member epoch in which each was assigned (KIP-1251). There may be some that it no
    /// longer has.
    #[serde(default, skip_serializing_if = "has_no_epochs")]
    pub since: Arc<BTreeMap<i32, Partitions>>,
    /// Its target assignment.
    #[serde(default, skip_serializing_if = "are_none")]
    pub target: Arc<Partitions>,
    /// By when it must have revoked partitions, rejoined or synced, in ms of store time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<i64>,
}

impl ConsumerMember {
    /// Since which of its member epochs the member has had a partition, which is assigned to it or which it has yet to
    /// revoke; `None` if it is neither. What an earlier release assigned counts as assigned in the current epoch.
    pub fn assigned_since(&self, topic: TopicId, partition: i32) -> Option<i32> {
        let is_own = holds(&self.assigned, topic, partition) || holds(&self.revoking, topic, partition);
        let since = self.since.iter().find(|(_, partitions)| holds(partitions, topic, partition));
        is_own.then(|| since.map_or(self.epoch, |(epoch, _)| *epoch))
    }
}

/// The state of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MemberState {
    /// Its assignment for its member epoch is complete.
    #[default]
    Stable,
    /// It must revoke partitions before it advances. Kafka calls this UNREVOKED_PARTITIONS.
    Revoking,
    /// Other members have not released all of its target partitions. Kafka calls this UNRELEASED_PARTITIONS.
    Waiting,
}

fn has_no_epochs(since: &Arc<BTreeMap<i32, Partitions>>) -> bool {
    since.is_empty()
}

fn are_none(partitions: &Arc<Partitions>) -> bool {
    partitions.is_empty()
}

/// Whether a partition is among these.
pub fn holds(partitions: &Partitions, topic: TopicId, partition: i32) -> bool {
    partitions.get(&topic).is_some_and(|of_topic| of_topic.contains(&partition))
}

/// Iterates over all partitions.
pub fn each(partitions: &Partitions) -> impl Iterator<Item = (TopicId, i32)> {
    partitions.iter().flat_map(|(topic, of_topic)| of_topic.iter().map(|partition| (*topic, *partition)))
}
