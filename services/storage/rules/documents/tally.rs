//! What a group knows of its members without reading their documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Counts over the members of a group, which every change of a member keeps up to date.
///
/// A thousand members may join, sync or heartbeat one after the other, and none of these may read all others. A map
/// grows with what members differ in, not with their number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// The place of the next new member in the order of joining.
    pub next_order: u64,
    /// Members that have joined the generation that is being prepared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub joined: u32,
    /// Members that have not sent SyncGroup since they joined.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsynced: u32,
    /// Members by rebalance timeout, in ms.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rebalance_timeouts: BTreeMap<i32, u32>,
    /// Members by session timeout, in ms.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub session_timeouts: BTreeMap<i32, u32>,
    /// Members of the classic protocol.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub classic: u32,
    /// Members of the classic protocol by each assignor that they support.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub protocols: BTreeMap<Arc<str>, u32>,
    /// Consumer protocol: members that have reached the target assignment.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reconciled: u32,
    /// Consumer protocol: members that must act by some time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub due: u32,
}

impl Tally {
    /// No members.
    pub const EMPTY: Self = Self {
        next_order: 0,
        joined: 0,
        unsynced: 0,
        rebalance_timeouts: BTreeMap::new(),
        session_timeouts: BTreeMap::new(),
        classic: 0,
        protocols: BTreeMap::new(),
        reconciled: 0,
        due: 0,
    };
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}
