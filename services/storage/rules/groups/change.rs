//! What clients, and time, ask of a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::ErrorCode;

use super::consumer::Beat;
use super::documents::{MemberProtocol, OffsetDocument};

/// A change to one group.
#[derive(Debug, Clone)]
pub enum GroupChange {
    /// A member comes, or comes again.
    Join(Box<Join>),
    /// A member wants its assignment; the leader brings those of all.
    Sync(Box<Sync>),
    /// A member of the consumer protocol joins, or goes on.
    Beat(Box<Beat>),
    /// Such a member goes: for good, or, with generation -2, for a while.
    EndBeat {
        /// Who.
        member: Member,
        /// When, in ms.
        now_ms: i64,
    },
    /// Members go.
    Leave {
        /// Who.
        members: Vec<Member>,
        /// When, in ms.
        now_ms: i64,
    },
    /// Time has passed: leases are renewed or lapse, and what has waited long enough goes on.
    Tick {
        /// The time, in ms.
        now_ms: i64,
        /// Members that have been heard from, and until when that lets them live, in ms.
        heard: BTreeMap<Arc<str>, i64>,
    },
    /// Remembers how far the group has come.
    CommitOffsets {
        /// Who says so.
        member: Member,
        /// How far in which partition.
        offsets: Vec<CommittedOffset>,
        /// Whether the request can be told of epochs (OffsetCommit 9, KIP-848).
        knows_epochs: bool,
        /// When, in ms.
        now_ms: i64,
    },
    /// Forgets offsets; those that are not there are no error.
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
    },
    /// Ends a group that has no members.
    Delete,
}

impl GroupChange {
    /// Bytes that the change holds until it is durable.
    pub fn bytes(&self) -> usize {
        match self {
            GroupChange::Join(join) => {
                256 + join.protocols.iter().map(|own| own.metadata.0.len()).sum::<usize>()
            }
            GroupChange::Sync(sync) => {
                256 + sync.assignments.iter().map(|(_, assignment)| assignment.len()).sum::<usize>()
            }
            GroupChange::CommitOffsets { offsets, .. } => 256 * (1 + offsets.len()),
            GroupChange::Beat(beat) => {
                let topics =
                    beat.topics.iter().flatten().chain(beat.matches.iter().flat_map(|own| &own.topics));
                512 + topics.map(|topic| 32 + topic.len()).sum::<usize>()
            }
            _ => 256,
        }
    }

    pub(super) fn touches_offsets(&self) -> bool {
        matches!(
            self,
            GroupChange::CommitOffsets { .. }
                | GroupChange::DeleteOffsets { .. }
                | GroupChange::ExpireOffsets { .. }
                | GroupChange::Delete
        )
    }
}

/// A member as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// The id that the group gave it; empty for none.
    pub id: Arc<str>,
    /// A static member's own id.
    pub instance_id: Option<Arc<str>>,
    /// The generation that it believes in; negative for none.
    pub generation: i32,
}

/// JoinGroup.
#[derive(Debug, Clone)]
pub struct Join {
    /// Who; the generation does not matter.
    pub member: Member,
    /// The id for a newcomer, which nobody has.
    pub fresh_id: Arc<str>,
    /// Whether a newcomer is given its id before it is let in (KIP-394).
    pub requires_known_id: bool,
    /// Whether a leader can be told that nothing has changed (KIP-814).
    pub can_skip_assignment: bool,
    /// What the client calls itself.
    pub client_id: Arc<str>,
    /// Where it is.
    pub client_host: Arc<str>,
    /// It is gone if nothing is heard of it for so long.
    pub session_timeout_ms: i32,
    /// How long it may take to join again.
    pub rebalance_timeout_ms: i32,
    /// What it is, such as `consumer`.
    pub protocol_type: Arc<str>,
    /// Its assignors, the best first.
    pub protocols: Vec<MemberProtocol>,
    /// How long a new group's first rebalance waits for more members, in ms.
    pub initial_delay_ms: i64,
    /// How many members a group may have.
    pub members_max: usize,
    /// The time, in ms.
    pub now_ms: i64,
}

/// What comes of a join.
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
#[derive(Debug, Clone)]
pub struct Sync {
    /// Who.
    pub member: Member,
    /// What the member takes the group for, if it says so.
    pub protocol_type: Option<Arc<str>>,
    /// The assignor that it takes for agreed on, if it says so.
    pub protocol: Option<Arc<str>>,
    /// The leader's assignments.
    pub assignments: Vec<(Arc<str>, Bytes)>,
    /// The time, in ms.
    pub now_ms: i64,
}

/// What comes of a sync.
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
#[derive(Debug, Clone)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// How far.
    pub document: OffsetDocument,
}

/// What became of one member that was to leave.
pub type LeftMember = Result<(), ErrorCode>;
