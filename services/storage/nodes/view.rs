//! The brokers of a store, as this one has last seen them.

use std::sync::Arc;

use kernel::NodeId;
use rules::documents::{LEVEL, NodeDocument, NodeFacts};

use super::hash::Given;

/// The brokers of a store, as this one has last seen them.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// This broker.
    pub(super) own: NodeId,
    /// All, in the order of ids, this one among them; none if the store is not shared.
    pub(super) live: Vec<(NodeId, Arc<NodeDocument>)>,
    /// Until when it holds, in ms of store time: after that, the others believe that this broker has gone.
    pub(super) until_ms: i64,
    /// When it was seen, in ms of store time.
    pub(super) seen_ms: i64,
    /// The level of the store.
    pub(super) level: u32,
}

impl View {
    /// The only broker of a store.
    pub(super) fn alone(own: NodeId) -> Self {
        Self { own, live: Vec::new(), until_ms: i64::MAX, seen_ms: i64::MAX, level: LEVEL }
    }

    /// The same once this broker has left: it has no share of anything any more.
    pub(super) fn after_leaving(&self) -> Self {
        let others = self.live.iter().filter(|(id, _)| *id != self.own);
        Self { live: others.cloned().collect(), until_ms: i64::MIN, ..*self }
    }

    /// Whether nobody else is there.
    pub(crate) fn is_alone(&self) -> bool {
        self.live.iter().all(|(id, _)| *id == self.own)
    }

    /// Whether this broker's clients are to go elsewhere.
    pub(super) fn is_drained(&self) -> bool {
        self.live.iter().any(|(id, node)| *id == self.own && node.is_drained)
    }

    /// Whether another broker is there to which clients are sent.
    pub(super) fn others_take_clients(&self) -> bool {
        self.live.iter().any(|(id, node)| *id != self.own && !node.is_drained)
    }

    /// The connections that other brokers keep to the store.
    pub(super) fn sessions_of_others(&self) -> Vec<Arc<str>> {
        let others = self.live.iter().filter(|(id, _)| *id != self.own);
        others.filter_map(|(_, node)| node.facts.session.clone()).collect()
    }

    /// Whether it still holds.
    pub(super) fn holds(&self, now_ms: i64) -> bool {
        now_ms < self.until_ms
    }

    /// Whether something is this broker's share, as long as the view holds.
    pub(super) fn is_given(&self, given: Given) -> bool {
        self.live.is_empty() || given.among(self.live.iter().map(|(id, _)| *id)) == Some(self.own)
    }

    /// Whether the same brokers are there, and say the same of themselves; their leases differ each time.
    pub(super) fn is_like(&self, other: &View) -> bool {
        let facts = |view: &View| {
            let of = |node: &NodeDocument| NodeFacts { session: None, ..node.facts.clone() };
            let facts = view.live.iter().map(|(id, node)| (*id, of(node), node.is_drained));
            facts.collect::<Vec<_>>()
        };
        self.own == other.own && facts(self) == facts(other)
    }

    /// Whether no more than this is left of another broker's lease, in ms, as of the moment of the view.
    pub(super) fn has_late(&self, left_ms: i64) -> bool {
        self.live.iter().any(|(_, node)| node.lease_ms.saturating_sub(self.seen_ms) < left_ms)
    }

    /// Whether it lasts for as long as a lease at rest.
    pub(super) fn is_long(&self, lease_ms: i64) -> bool {
        self.until_ms.saturating_sub(self.seen_ms) > lease_ms
    }

    /// Brokers that were there before and have gone.
    pub(super) fn gone_since<'a>(&self, before: &'a View) -> Vec<&'a (NodeId, Arc<NodeDocument>)> {
        let is_here = |node: &NodeDocument| {
            self.live.iter().any(|(_, other)| other.facts.incarnation == node.facts.incarnation)
        };
        before.live.iter().filter(|(_, node)| !is_here(node)).collect()
    }
}
