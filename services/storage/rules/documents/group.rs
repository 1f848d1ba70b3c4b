//! Consumer groups and their members.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::consumer::{ConsumerGroup, ConsumerMember};
use super::key::MemberKey;
use super::kind::{DocumentKind, LockRoot};

/// The state of a group. Kafka's `Dead` is a group that has no document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// It has no members, and maybe offsets.
    Empty,
    /// Its members are asked to join, and those that have wait for the rest.
    PreparingRebalance,
    /// All members have joined and wait for the leader's assignment.
    CompletingRebalance,
    /// Every member may have its assignment.
    Stable,
    /// Of the consumer protocol: something has changed since the targets were worked out.
    Assigning,
    /// Of the consumer protocol: not every member has come to its target.
    Reconciling,
}

impl GroupState {
    /// Kafka's name of it.
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
    /// Generation id: counts rebalances. In a group of the consumer protocol it is the group epoch.
    pub generation: i32,
    /// What its members are, such as `consumer`; `None` if there has been none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_type: Option<Arc<str>>,
    /// The assignor that its members have agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Arc<str>>,
    /// The member that assigns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Arc<str>>,
    /// Its members' ids, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Arc<str>>,
    /// Ids that were given out and have not joined yet (KIP-394), with the time in ms until which they may.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<Arc<str>, i64>,
    /// When the present state ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// When it came into its present state, in ms.
    pub since_ms: i64,
    /// What a group of the consumer protocol has besides; `None` in a classic one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Arc<ConsumerGroup>>,
}

/// A time at which something happens to a group unless it has happened before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// In ms since the epoch.
    pub at_ms: i64,
    /// The rest of a new group's first rebalance, which waits for more members while some keep coming
    /// (`group.initial.rebalance.delay.ms`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<InitialDelay>,
}

/// How a first rebalance waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialDelay {
    /// One step of waiting, in ms.
    pub step_ms: i64,
    /// How much longer it may wait after this step, in ms.
    pub left_ms: i64,
    /// Whether somebody has come during this step.
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
            members: Vec::new(),
            pending: BTreeMap::new(),
            deadline: None,
            since_ms: now_ms,
            consumer: None,
        }
    }

    /// Kafka's name of its type (KIP-848).
    pub fn type_name(&self) -> &'static str {
        if self.consumer.is_some() { "consumer" } else { "classic" }
    }
}

/// By the group's id.
impl DocumentKind for GroupDocument {
    const PREFIX: &'static str = "group";
    type Key = Arc<str>;

    fn lock_root(group: &Arc<str>) -> LockRoot {
        LockRoot::Group(Arc::clone(group))
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDocument {
    /// Group instance id of a static member (KIP-345).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<Arc<str>>,
    /// Client id.
    pub client_id: Arc<str>,
    /// The client's host, as Kafka writes it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// Session timeout.
    pub session_timeout_ms: i32,
    /// Rebalance timeout: how long it may take to join again.
    pub rebalance_timeout_ms: i32,
    /// Its assignors and what it tells each, in the order of its preference; none if it speaks the consumer protocol.
    pub protocols: Vec<MemberProtocol>,
    /// What the leader of a classic group gave it.
    #[serde(default)]
    pub assignment: Blob,
    /// Whether it has joined and waits for the others.
    #[serde(default)]
    pub has_joined: bool,
    /// Whether it has asked for its assignment since it joined.
    #[serde(default)]
    pub has_synced: bool,
    /// When its session ends unless it is heard of before, in ms.
    pub lease_ms: i64,
    /// What a member of a group of the consumer protocol has besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Box<ConsumerMember>>,
}

impl MemberDocument {
    /// Whether it speaks the classic protocol.
    pub fn is_classic(&self) -> bool {
        !self.protocols.is_empty()
    }

    /// What it tells an assignor.
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

/// An assignor that a member knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberProtocol {
    /// Its name.
    pub name: Arc<str>,
    /// What the member tells it: its subscription, for instance.
    pub metadata: Blob,
}

/// Bytes that only clients understand; Base64 in a document.
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
