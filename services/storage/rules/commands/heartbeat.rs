//! ConsumerGroupHeartbeat (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::known_topics::KnownTopics;
use crate::documents::Partitions;

/// The member epoch of a static member that leaves temporarily.
pub const LEAVE_STATIC_EPOCH: i32 = -2;
/// The member epoch of a member that joins.
pub const JOIN_EPOCH: i32 = 0;

/// A heartbeat of a member that joins or stays. Fields that are `None` have not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerHeartbeat {
    /// Member id.
    pub member_id: Arc<str>,
    /// Group instance id of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Its member epoch; 0 to join.
    pub member_epoch: i32,
    /// Client id.
    pub client_id: Arc<str>,
    /// Client host.
    pub client_host: Arc<str>,
    /// Rack id.
    pub rack: Option<Arc<str>>,
    /// Rebalance timeout: how long it may take to revoke partitions.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topics that it subscribes to by name.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// The regular expression that it subscribes to; empty for none.
    pub regex: Option<Arc<str>>,
    /// The topics that match regular expressions of the group's members: of this one, sent now or before, and of
    /// others, so that one heartbeat is enough to see a new topic for all.
    pub resolved_regexes: Vec<ResolvedRegex>,
    /// The assignor that it votes for.
    pub assignor: Option<Arc<str>>,
    /// The partitions that it owns.
    pub owned: Option<Partitions>,
    /// Session timeout.
    pub session_timeout_ms: i32,
    /// How many members a group may have.
    pub members_max: usize,
    /// Topic metadata.
    pub known_topics: KnownTopics,
    /// Whether the group has been held against the topics as they are now, in its epoch. Then the metadata of the topics
    /// that it has already is not needed: a step of a rebalance would cost as much as the group has topics.
    pub topics_are_current: bool,
    /// The time, in ms.
    pub now_ms: i64,
}

/// A regular expression, and the topics that match it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedRegex {
    /// The expression as the member sent it.
    pub regex: Arc<str>,
    /// The topics.
    pub topics: BTreeSet<Arc<str>>,
}

impl ConsumerHeartbeat {
    /// Whether the member joins.
    pub fn joins(&self) -> bool {
        self.member_epoch == JOIN_EPOCH
    }

    /// Whether it is a full heartbeat, so that the reply carries the assignment.
    pub fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.regex.is_some();
        self.joins() || (self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some())
    }

    /// Bytes that it holds until it is durable.
    pub(super) fn bytes(&self) -> usize {
        let resolved = self.resolved_regexes.iter().flat_map(|own| &own.topics);
        let topics = self.topics.iter().flatten().chain(resolved);
        512 + topics.map(|topic| 32 + topic.len()).sum::<usize>()
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The member's epoch.
    pub member_epoch: i32,
    /// The member's current assignment, if the reply carries it.
    pub assignment: Option<Arc<Partitions>>,
}

/// The rest of a heartbeat whose member waits for a target assignment that knows of it. The member has joined, and
/// what it subscribes to is stored; what is left is to advance it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advance {
    /// Member id.
    pub member_id: Arc<str>,
    /// The member epoch from which it advances. If it has another one now, another call of it was decided meanwhile.
    pub member_epoch: i32,
    /// The partitions that it owns, if it has said so.
    pub owned: Option<Partitions>,
    /// Whether the reply carries the assignment even if it has not changed.
    pub is_full: bool,
    /// The group epoch once its heartbeat was applied. The target assignments of this epoch and of later ones know of it.
    pub awaited_epoch: i32,
    /// Whether it waits for such a target assignment. A member that does not advances towards the one
    /// that is there, and towards the next one with a later heartbeat.
    pub waits_for_target: bool,
    /// The time, in ms.
    pub now_ms: i64,
}

/// A heartbeat of a member that leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerLeave {
    /// Member id.
    pub member_id: Arc<str>,
    /// Group instance id of a static member.
    pub instance_id: Option<Arc<str>>,
    /// -1 to leave, -2 for a static member that leaves temporarily.
    pub member_epoch: i32,
    /// The time, in ms.
    pub now_ms: i64,
}
