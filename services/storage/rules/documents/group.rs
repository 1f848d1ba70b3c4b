//! Consumer groups and their members.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::consumer::{ConsumerGroup, ConsumerMember};
use super::key::{MemberKey, Prefix};
use super::kind::{DocumentKind, LockRoot};
use super::tally::Tally;

/// The state of a group. Kafka's `Dead` is a group that has no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// It has no members. It may have committed offsets.
    Empty,
    /// Its members must join; those that have joined wait for the others.
    PreparingRebalance,
    /// All members have joined and wait for the leader's assignment.
    CompletingRebalance,
    /// All assignments are available.
    Stable,
    /// Consumer protocol: the group epoch is later than that of the target assignment.
    Assigning,
    /// Consumer protocol: not every member has reached its target assignment.
    Reconciling,
}

impl GroupState {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
        }
    }
}

/// A consumer group, without its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDocument {
    /// Its state.
    pub state: GroupState,
    /// Generation id. In a group of the consumer protocol, the group epoch.
    pub generation: i32,
    /// Protocol type, such as `consumer`; `None` if the group never had members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_type: Option<Arc<str>>,
    /// The assignor that was selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Arc<str>>,
    /// Member id of the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Arc<str>>,
    /// How many members it has. Each has a document of its own.
    #[serde(default)]
    pub members: u32,
    /// What it knows of them without reading them. `None` after an upgrade from version 1, until the first command that
    /// needs it has read all members, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<Arc<Tally>>,
    /// A rebalance has started before the leader had assigned: the assignments in the members' documents are void. The
    /// next generation clears them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_void_assignments: bool,
    /// Its pending member ids, which have documents of their own; `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_ids: Option<PendingIds>,
    /// When the current state times out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// When it became empty, in ms of the wall clock: its offsets are kept for a time after that.
    pub since_ms: i64,
    /// State of the consumer protocol; `None` in a classic group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Arc<ConsumerGroup>>,
}

/// What a group knows of its pending member ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingIds {
    /// How many there are.
    pub count: u32,
    /// No id expires before this time, in ms of store time.
    pub next_ms: i64,
}

/// When a group's current state times out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// In ms of store time.
    pub at_ms: i64,
    /// The rest of a new group's initial delay, which is extended while members join
    /// (`group.initial.rebalance.delay.ms`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<InitialDelay>,
}

/// The initial rebalance delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialDelay {
    /// One step of waiting, in ms.
    pub step_ms: i64,
    /// How much longer it may be extended after this step, in ms.
    pub left_ms: i64,
    /// Whether a member has joined during this step.
    pub has_newcomer: bool,
}

impl GroupDocument {
    /// A group without members.
    pub fn empty(now_ms: i64) -> Self {
        Self {
            state: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: 0,
            tally: Some(Arc::default()),
            has_void_assignments: false,
            pending_ids: None,
            deadline: None,
            since_ms: now_ms,
            consumer: None,
        }
    }

    /// Kafka's name of its type (KIP-848).
    pub fn type_name(&self) -> &'static str {
        if self.consumer.is_some() { "consumer" } else { "classic" }
    }

    /// Whether anything of it can time out. If not, it is empty.
    pub fn has_timeouts(&self) -> bool {
        self.members > 0 || self.pending_ids.is_some() || self.deadline.is_some()
    }

    /// Whether the group epoch is later than that of the target assignment. Never in a classic group.
    pub fn has_due_target(&self) -> bool {
        self.consumer.as_ref().is_some_and(|own| own.assignment_epoch < self.generation)
    }

    /// What it knows of its members; nothing if that is not known yet.
    pub fn tally(&self) -> &Tally {
        static UNKNOWN: Tally = Tally::EMPTY;
        self.tally.as_deref().unwrap_or(&UNKNOWN)
    }
}

/// By group id.
impl DocumentKind for GroupDocument {
    const PREFIX: &'static str = "group";
    /// Version 1 had a list of the members.
    const VERSION: u32 = 2;
    type Key = Arc<str>;

    fn lock_root(group: &Arc<str>) -> LockRoot {
        LockRoot::Group(Arc::clone(group))
    }

    /// The members' documents were there before, and are found by their prefix now; so only their number is kept of the
    /// list.
    fn upgrade(_: u32, json: &str) -> Result<Self, serde_json::Error> {
        let mut value: serde_json::Value = serde_json::from_str(json)?;
        let listed = value.as_object_mut().and_then(|fields| fields.remove("members"));
        let members = listed.as_ref().and_then(|listed| listed.as_array()).map_or(0, Vec::len);
        let tally = (members == 0).then(Arc::default);
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        serde_json::from_value(value).map(|group: Self| Self { members, tally, ..group })
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDocument {
    /// Its place in the order in which members joined; members of version 1 of the group are the first ones.
    #[serde(default, skip_serializing_if = "is_first")]
    pub order: u64,
    /// Group instance id of a static member (KIP-345).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Arc<str>>,
    /// Client id.
    pub client_id: Arc<str>,
    /// The client's host, as Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// Session timeout.
    pub session_timeout_ms: i32,
    /// Rebalance timeout: how long it may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// Its assignors and their metadata, in order of preference; empty in the consumer protocol.
    pub protocols: Vec<MemberProtocol>,
    /// The assignment from the leader of a classic group.
    #[serde(default)]
    pub assignment: Blob,
    /// Whether it has joined and waits for the others.
    #[serde(default)]
    pub has_joined: bool,
    /// Whether it has sent SyncGroup since it joined.
    #[serde(default)]
    pub has_synced: bool,
    /// When its session times out unless it is heard from, in ms of store time.
    pub lease_ms: i64,
    /// State of the consumer protocol; `None` in a classic group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Box<ConsumerMember>>,
}

fn is_first(order: &u64) -> bool {
    *order == 0
}

impl MemberDocument {
    /// All members of a group.
    pub fn of_group(group: &str) -> Prefix {
        Prefix::of_group(Self::PREFIX, group)
    }

    /// Whether it uses the classic protocol.
    pub fn is_classic(&self) -> bool {
        !self.protocols.is_empty()
    }

    /// Its metadata for an assignor.
    pub fn metadata(&self, protocol: &str) -> Option<&Blob> {
        self.protocols.iter().find(|own| &*own.name == protocol).map(|own| &own.metadata)
    }
}

/// By group and member id.
impl DocumentKind for MemberDocument {
    const PREFIX: &'static str = "member";
    type Key = MemberKey;

    fn lock_root(key: &MemberKey) -> LockRoot {
        LockRoot::Group(Arc::clone(&key.group))
    }
}

/// A pending member id: its client has been given it, and has not joined yet (KIP-394).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDocument {
    /// When it expires, in ms of store time.
    pub until_ms: i64,
    /// The session timeout that its client has asked for. Earlier releases did not keep it: then it is the default of
    /// Kafka's consumers.
    #[serde(default = "consumers_session_timeout")]
    pub session_timeout_ms: i32,
}

fn consumers_session_timeout() -> i32 {
    45_000
}

impl PendingDocument {
    /// All pending member ids of a group.
    pub fn of_group(group: &str) -> Prefix {
        Prefix::of_group(Self::PREFIX, group)
    }
}

/// By group and member id.
impl DocumentKind for PendingDocument {
    const PREFIX: &'static str = "pending-member";
    type Key = MemberKey;

    fn lock_root(key: &MemberKey) -> LockRoot {
        LockRoot::Group(Arc::clone(&key.group))
    }
}

/// An assignor that a member supports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberProtocol {
    /// Its name.
    pub name: Arc<str>,
    /// The metadata for it, such as the subscription.
    pub metadata: Blob,
}

/// Bytes that the broker does not interpret; Base64 in a document.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(|bytes| Blob(bytes.into())).map_err(serde::de::Error::custom)
    }
}
