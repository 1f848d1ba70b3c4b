//! The brokers of a store that several share.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::NodeId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::{KeyPart, write_number};
use super::kind::{DocumentKind, LockRoot};
use super::level::FIRST_LEVEL;

/// A host and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeAddress {
    /// A name or an address, without brackets.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

/// What a broker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// A random id of the process: a broker that is started again is another one.
    pub incarnation: Uuid,
    /// The id of its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<Arc<str>>,
    /// What clients of each listener connect to, by the listener's name. One that is not known elsewhere is left out.
    pub addresses: BTreeMap<Arc<str>, NodeAddress>,
    /// Its rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<Arc<str>>,
    /// Its release.
    pub release: Arc<str>,
    /// The highest level of stores that it reads (see [`LEVEL`](super::LEVEL)).
    #[serde(default = "first_level")]
    pub level: u32,
    /// A connection that it keeps to the store: once that has ended, so has the broker, or it has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Arc<str>>,
}

fn first_level() -> u32 {
    FIRST_LEVEL
}

/// A broker, for as long as its lease lasts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDocument {
    /// What it says of itself.
    #[serde(flatten)]
    pub facts: NodeFacts,
    /// When it joined, in ms of store time.
    pub since_ms: i64,
    /// When its lease ends unless it is renewed, in ms of store time.
    pub lease_ms: i64,
    /// Whether clients are sent elsewhere, because it is about to be stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_drained: bool,
}

impl NodeDocument {
    /// The longest lease. A later end was set by a clock that has been set back since.
    pub const LEASE_MAX_MS: i64 = 120_000;

    /// Whether its lease lasts.
    pub fn is_live(&self, now_ms: i64) -> bool {
        (now_ms + 1..=now_ms + Self::LEASE_MAX_MS).contains(&self.lease_ms)
    }
}

/// By node id. There are few, and each broker's renewal reads all.
impl DocumentKind for NodeDocument {
    const PREFIX: &'static str = "node";
    type Key = NodeId;

    fn lock_root(_: &NodeId) -> LockRoot {
        LockRoot::Store
    }

    /// A broker that went long ago: if it lives, it has a lease again with its next renewal.
    fn in_place_of_damaged() -> Option<Self> {
        let (incarnation, addresses, release) = (Uuid::nil(), BTreeMap::new(), Arc::from("unknown"));
        let (cluster_id, rack, session, level) = (None, None, None, FIRST_LEVEL);
        let facts = NodeFacts { incarnation, cluster_id, addresses, rack, release, level, session };
        Some(Self { facts, since_ms: 0, lease_ms: 0, is_drained: false })
    }
}

impl KeyPart for NodeId {
    fn write(&self, key: &mut String) {
        write_number(key, self.0);
    }

    fn read(text: &str) -> Option<Self> {
        text.strip_prefix('/')?.parse().ok().map(NodeId)
    }
}
