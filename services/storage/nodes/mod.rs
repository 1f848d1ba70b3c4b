//! The brokers of a store: this one, or several that share it.
//!
//! A broker of a shared store has its id by a lease, which it renews every [`RENEW_EVERY`]; with the same command it reads who
//! else is there. Where clients are sent, and who does what anybody may do, follows from that by rendezvous hashing
//! ([`hash`]). Nothing else does: any broker serves any call.

mod cluster;
mod hash;
mod keeper;
mod operate;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::NodeId;
use kernel::clock::SharedStoreClock;
use kernel::session::{HostPort, Session};
use parking_lot::Mutex;
use rules::documents::{NodeAddress, NodeFacts};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use cluster::{Cluster, Coordinates, Listed};
use hash::Given;
#[cfg(test)]
pub(crate) use keeper::renew_once;
pub(crate) use keeper::{join, leave, run};
pub use operate::{Node, drain, list};
pub(crate) use view::View;

/// The id of a broker that has a store alone, and whose config names none.
const ALONE: NodeId = NodeId(1);

/// Work that one of the brokers does for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// What is due, compaction, and what was deleted.
    Maintenance,
    /// Transactions that have timed out.
    Transactions,
    /// The messages that other programs leave in the store.
    Outbox,
}

/// The brokers of a store.
pub(crate) struct Nodes {
    /// The id in the config.
    fixed: Option<NodeId>,
    view: watch::Sender<Arc<View>>,
    facts: Mutex<NodeFacts>,
    time: SharedStoreClock,
}

impl Nodes {
    /// This broker alone, until the store says more.
    pub(crate) fn new(
        fixed: Option<NodeId>,
        rack: Option<Arc<str>>,
        incarnation: Uuid,
        time: SharedStoreClock,
    ) -> Self {
        let facts = NodeFacts {
            incarnation,
            addresses: BTreeMap::new(),
            rack,
            release: Arc::from(env!("CARGO_PKG_VERSION")),
        };
        let view = watch::Sender::new(Arc::new(View::alone(fixed.unwrap_or(ALONE))));
        Self { fixed, view, facts: Mutex::new(facts), time }
    }

    /// Sets what clients of each listener connect to, as far as others can be told.
    pub(crate) fn set_addresses(&self, addresses: BTreeMap<Arc<str>, HostPort>) {
        let address = |HostPort { host, port }: HostPort| NodeAddress { host: host.into(), port };
        let addresses = addresses.into_iter().map(|(listener, at)| (listener, address(at)));
        self.facts.lock().addresses = addresses.collect();
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Follows the brokers that are there.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// This broker's id.
    pub(crate) fn id(&self) -> NodeId {
        self.view.borrow().own
    }

    /// Whether no other broker has the store.
    pub(crate) fn is_alone(&self) -> bool {
        self.view.borrow().is_alone()
    }

    /// Whether a broker is there.
    pub(crate) fn has(&self, id: NodeId) -> bool {
        let view = self.view();
        view.own == id || view.live.iter().any(|(other, _)| *other == id)
    }

    /// The brokers as a client sees them.
    pub(crate) fn cluster(&self, session: &Session) -> Cluster {
        Cluster::of(&self.view(), session)
    }

    /// Whether this broker does some work for all.
    pub(crate) fn does(&self, work: Work) -> bool {
        let name = match work {
            Work::Maintenance => "maintenance",
            Work::Transactions => "transactions",
            Work::Outbox => "outbox",
        };
        self.view.borrow().is_given(Given::named("work", name), self.time.now_ms())
    }

    /// Whether this broker looks after the timeouts of a group.
    pub(crate) fn looks_after(&self, group: &str) -> bool {
        self.view.borrow().is_given(Given::named("timeouts", group), self.time.now_ms())
    }
}
