//! Commands on the brokers of a store that several share.

use std::sync::Arc;

use kernel::NodeId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::documents::NodeFacts;

/// A change of the list of brokers. Its times are store time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeCommand {
    /// A broker joins, or renews its lease.
    Renew(Box<RenewNode>),
    /// A broker leaves.
    Leave {
        /// The process: another that has the id by now stays.
        incarnation: Uuid,
    },
    /// Sends the clients of a broker elsewhere, or no longer.
    Drain {
        /// The broker.
        node: NodeId,
        /// Whether they are.
        is_drained: bool,
        /// The time, in ms.
        now_ms: i64,
    },
    /// Raises the level of the store: no broker of an earlier release can have it any more.
    Finalize {
        /// The new level.
        level: u32,
        /// The time, in ms.
        now_ms: i64,
    },
}

/// A broker joins, or renews its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewNode {
    /// The id that it must have; `None` for one that is free.
    pub node: Option<NodeId>,
    /// The id that it has had, to be had again if it is free; otherwise it is the lowest that is.
    pub had: Option<NodeId>,
    /// What it says of itself.
    pub facts: NodeFacts,
    /// Connections of others that were found to have ended: their brokers have gone, whatever their leases say.
    pub ended: Vec<Arc<str>>,
    /// How long its lease lasts, in ms.
    pub lease_ms: i64,
    /// The time, in ms.
    pub now_ms: i64,
}
