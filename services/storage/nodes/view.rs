//! The brokers of a store, as this one has last seen them.

use std::sync::Arc;

use kernel::NodeId;
use rules::documents::NodeDocument;

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
}

impl View {
    /// The only broker of a store.
    pub(super) fn alone(own: NodeId) -> Self {
        Self { own, live: Vec::new(), until_ms: i64::MAX }
    }

    /// Whether nobody else is there.
    pub(crate) fn is_alone(&self) -> bool {
        self.live.len() <= 1
    }

    /// Whether it still holds.
    pub(super) fn holds(&self, now_ms: i64) -> bool {
        now_ms < self.until_ms
    }

    /// Whether this broker is to do some work that any could do.
    pub(super) fn is_given(&self, given: Given, now_ms: i64) -> bool {
        if !self.holds(now_ms) {
            return false;
        }
        self.live.is_empty() || given.among(self.live.iter().map(|(id, _)| *id)) == Some(self.own)
    }

    /// Whether the same brokers are there, and say the same of themselves; their leases differ each time.
    pub(super) fn is_like(&self, other: &View) -> bool {
        let facts = |view: &View| {
            let facts = view.live.iter().map(|(id, node)| (*id, node.facts.clone(), node.is_drained));
            facts.collect::<Vec<_>>()
        };
        self.own == other.own && facts(self) == facts(other)
    }

    /// Brokers that were there before and have gone.
    pub(super) fn gone_since<'a>(&self, before: &'a View) -> Vec<&'a (NodeId, Arc<NodeDocument>)> {
        let is_here = |node: &NodeDocument| {
            self.live.iter().any(|(_, other)| other.facts.incarnation == node.facts.incarnation)
        };
        before.live.iter().filter(|(_, node)| !is_here(node)).collect()
    }
}
