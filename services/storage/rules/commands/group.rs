//! Commands on a consumer group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::{ErrorCode, TopicId};
use serde::{Deserialize, Serialize};

use super::heartbeat::{Advance, ConsumerHeartbeat, ConsumerLeave};
use super::known_topics::KnownTopics;
use super::target::InstallTarget;
use crate::documents::{MemberProtocol, OffsetDocument};

/// A change to one group. Its time is store time, except where it is about committed offsets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupCommand {
    /// JoinGroup.
    Join(Box<Join>),
    /// SyncGroup.
    Sync(Box<Sync>),
    /// ConsumerGroupHeartbeat of a member that joins or stays.
    ConsumerHeartbeat(Box<ConsumerHeartbeat>),
    /// ConsumerGroupHeartbeat of a member that leaves.
    ConsumerLeave(ConsumerLeave),
    /// Installs the target assignment of a group of the consumer protocol, which was computed aside.
    InstallTarget(InstallTarget),
    /// Continues a ConsumerGroupHeartbeat, or a JoinGroup, that had to wait for the target assignment.
    Advance(Box<Advance>),
    /// LeaveGroup.
    Leave {
        /// The members.
        members: Vec<MemberIdentity>,
        /// The store time, in ms.
        now_ms: i64,
        /// The wall clock's time, in ms: offsets are kept so long after their group became empty.
        wall_ms: i64,
    },
    /// Applies timeouts.
    Tick {
        /// The store time, in ms.
        now_ms: i64,
        /// The wall clock's time, in ms, as for `Leave`.
        wall_ms: i64,
        /// Members whose sessions have timed out, and the leases that they had, in ms: a member that has joined or
        /// synced since has another lease, and stays.
        timed_out: BTreeMap<Arc<str>, i64>,
    },
    /// Renews the leases of members that were heard from, for the brokers that they did not reach.
    RenewLeases {
        /// When each was last heard from, in ms of store time.
        heard: BTreeMap<Arc<str>, i64>,
    },
    /// Begins all that the group waits for anew: it was set in the store time of another run of a broker, or before its
    /// process stood still.
    Resume {
        /// The store time, in ms.
        now_ms: i64,
    },
    /// OffsetCommit.
    CommitOffsets {
        /// The committing member.
        member: MemberIdentity,
        /// An offset for each partition.
        offsets: Vec<CommittedOffset>,
        /// Whether the request version knows member epochs (OffsetCommit 9, KIP-848).
        knows_epochs: bool,
        /// The wall clock's time, in ms.
        now_ms: i64,
    },
    /// OffsetDelete; an offset that does not exist is no error.
    DeleteOffsets {
        /// Topics and partitions.
        offsets: Vec<(Arc<str>, i32)>,
    },
    /// Deletes expired offsets, and the group if it has neither members nor offsets left.
    ExpireOffsets {
        /// The wall clock's time, in ms.
        now_ms: i64,
        /// How long an offset is kept after its group was last in use, in ms.
        retention_ms: i64,
        /// Deleted topics, whose offsets are deleted too.
        deleted_topics: BTreeSet<TopicId>,
    },
    /// Deletes a group that has no members.
    Delete,
    /// Lists a group that an earlier release has stored: among the groups with timeouts, and in the due index.
    Index,
}

impl GroupCommand {
    /// Whether it may change when the group's next timeout is.
    pub fn changes_timeouts(&self) -> bool {
        !matches!(self, GroupCommand::CommitOffsets { .. } | GroupCommand::DeleteOffsets { .. })
    }

    /// The wall clock's time of a command that may empty its group, in ms.
    pub(crate) fn wall_ms(&self) -> Option<i64> {
        match self {
            GroupCommand::Leave { wall_ms, .. } | GroupCommand::Tick { wall_ms, .. } => Some(*wall_ms),
            _ => None,
        }
    }

    /// Bytes that the change holds until it is durable.
    pub fn bytes(&self) -> usize {
        match self {
            GroupCommand::Join(join) => {
                256 + join.protocols.iter().map(|own| own.metadata.0.len()).sum::<usize>()
            }
            GroupCommand::Sync(sync) => {
                256 + sync.assignments.iter().map(|(_, assignment)| assignment.len()).sum::<usize>()
            }
            GroupCommand::CommitOffsets { offsets, .. } => 256 * (1 + offsets.len()),
            GroupCommand::ConsumerHeartbeat(heartbeat) => heartbeat.bytes(),
            GroupCommand::InstallTarget(target) => target.bytes(),
            GroupCommand::RenewLeases { heard } => 256 * (1 + heard.len()),
            GroupCommand::Tick { timed_out, .. } => 256 * (1 + timed_out.len()),
            _ => 256,
        }
    }
}

/// A member as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberIdentity {
    /// Member id; empty for none.
    pub id: Arc<str>,
    /// Group instance id of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Generation id, or member epoch in a group of the consumer protocol; negative for none.
    pub generation: i32,
}

/// JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The member; its generation id is ignored.
    pub member: MemberIdentity,
    /// A new unique id, for a member without one.
    pub fresh_id: Arc<str>,
    /// Whether a new member must rejoin with the id that it is given (KIP-394).
    pub requires_known_id: bool,
    /// Whether the client supports `SkipAssignment` (KIP-814).
    pub can_skip_assignment: bool,
    /// Client id.
    pub client_id: Arc<str>,
    /// Client host.
    pub client_host: Arc<str>,
    /// Session timeout.
    pub session_timeout_ms: i32,
    /// Rebalance timeout.
    pub rebalance_timeout_ms: i32,
    /// Protocol type, such as `consumer`.
    pub protocol_type: Arc<str>,
    /// Its assignors, in order of preference.
    pub protocols: Vec<MemberProtocol>,
    /// How long a new group's first rebalance waits for more members, in ms.
    pub initial_delay_ms: i64,
    /// How many members a group may have.
    pub members_max: usize,
    /// Topic metadata, which only a group of the consumer protocol needs.
    pub known_topics: KnownTopics,
    /// The time, in ms.
    pub now_ms: i64,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// The member must rejoin with this id (KIP-394).
    IdRequired(Arc<str>),
    /// The member waits for the generation after this one.
    Waits {
        /// Its id.
        member: Arc<str>,
        /// The generation id that is ending.
        generation: i32,
    },
    /// The member is in the current generation.
    In {
        /// Its id.
        member: Arc<str>,
        /// Whether the reply lists the members.
        lists_members: bool,
        /// Whether the leader, though it gets the list, need not assign.
        skips_assignment: bool,
        /// The leader's id.
        leader: Arc<str>,
    },
    /// The member is in a group of the consumer protocol, where the broker assigns.
    ByBroker {
        /// Its id.
        member: Arc<str>,
        /// Its member epoch.
        epoch: i32,
        /// The first of its assignors.
        protocol: Arc<str>,
    },
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// The member.
    pub member: MemberIdentity,
    /// The protocol type that the member expects, if sent.
    pub protocol_type: Option<Arc<str>>,
    /// The assignor that it expects, if sent.
    pub protocol: Option<Arc<str>>,
    /// The leader's assignments.
    pub assignments: Vec<(Arc<str>, Bytes)>,
    /// The time, in ms.
    pub now_ms: i64,
}

/// The answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synced {
    /// The leader has not assigned yet.
    Waits,
    /// The member's assignment.
    Assigned(Bytes),
    /// The member's assignment in a group of the consumer protocol.
    ByBroker {
        /// Encoded for a classic consumer.
        assignment: Bytes,
        /// The first of its assignors.
        protocol: Arc<str>,
    },
}

/// An offset to be committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub document: OffsetDocument,
}

/// The answer for one member of a LeaveGroup.
pub type LeftMember = Result<(), ErrorCode>;
