//! What clients, and time, ask of a consumer group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::{ErrorCode, TopicId};
use serde::{Deserialize, Serialize};

use super::heartbeat::{ConsumerHeartbeat, ConsumerLeave};
use super::known_topics::KnownTopics;
use crate::documents::{MemberProtocol, OffsetDocument};

/// A change to one group.
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
    /// LeaveGroup.
    Leave {
        /// The members.
        members: Vec<MemberIdentity>,
        /// The time, in ms.
        now_ms: i64,
    },
    /// Time has passed: leases are renewed or lapse, and what has waited long enough goes on.
    Tick {
        /// The time, in ms.
        now_ms: i64,
        /// Members that have been heard from, and until when that lets them live, in ms.
        heard: BTreeMap<Arc<str>, i64>,
    },
    /// OffsetCommit.
    CommitOffsets {
        /// The committing member.
        member: MemberIdentity,
        /// An offset for each partition.
        offsets: Vec<CommittedOffset>,
        /// Whether the request can be told of epochs (OffsetCommit 9, KIP-848).
        knows_epochs: bool,
        /// The time, in ms.
        now_ms: i64,
    },
    /// OffsetDelete; offsets that are not there are no error.
    DeleteOffsets {
        /// Topics and partitions.
        offsets: Vec<(Arc<str>, i32)>,
    },
    /// Forgets offsets that are too old, and the group if nothing is left of it.
    ExpireOffsets {
        /// The time, in ms.
        now_ms: i64,
        /// How long an offset is kept after its group was last in use, in ms.
        retention_ms: i64,
        /// Topics that were deleted; offsets do not outlive them.
        deleted_topics: BTreeSet<TopicId>,
    },
    /// Ends a group that has no members.
    Delete,
}

impl GroupCommand {
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
    /// The member; its generation does not matter.
    pub member: MemberIdentity,
    /// The id for a newcomer, which nobody has.
    pub fresh_id: Arc<str>,
    /// Whether a newcomer is given its id before it is let in (KIP-394).
    pub requires_known_id: bool,
    /// Whether a leader can be told that nothing has changed (KIP-814).
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
    /// Its assignors, the best first.
    pub protocols: Vec<MemberProtocol>,
    /// How long a new group's first rebalance waits for more members, in ms.
    pub initial_delay_ms: i64,
    /// How many members a group may have.
    pub members_max: usize,
    /// Facts about topics, which only a group of the consumer protocol needs.
    pub known_topics: KnownTopics,
    /// The time, in ms.
    pub now_ms: i64,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// It is to come again with this id.
    IdRequired(Arc<str>),
    /// It waits until the group has a later generation than this.
    Waits {
        /// Its id.
        member: Arc<str>,
        /// The generation that is ending.
        generation: i32,
    },
    /// It is in, and the present generation goes on.
    In {
        /// Its id.
        member: Arc<str>,
        /// Whether it is told who the members are.
        lists_members: bool,
        /// Whether the leader, though told so, need not assign.
        skips_assignment: bool,
        /// The leader's id.
        leader: Arc<str>,
    },
    /// It is in a group of the consumer protocol, whose broker assigns.
    ByBroker {
        /// Its id.
        member: Arc<str>,
        /// The epoch that it has come to.
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
    /// The protocol type that the member expects, if it says so.
    pub protocol_type: Option<Arc<str>>,
    /// The assignor that it expects, if it says so.
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
    /// The member's part.
    Assigned(Bytes),
    /// The member's part in a group of the consumer protocol.
    ByBroker {
        /// As a classic consumer reads it.
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
