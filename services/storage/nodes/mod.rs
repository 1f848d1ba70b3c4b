//! The brokers of a store: this one, or several that share it.
//!
//! A broker of a shared store has its id by a lease, which it renews every [`RENEW_EVERY`]; with the same command it reads who
//! else is there. Where clients are sent, and who does what anybody may do, follows from that by rendezvous hashing
//! ([`hash`]). Nothing else does: any broker serves any call.

mod cluster;
mod hash;
mod keeper;
mod metrics;
mod operate;
mod rest;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use kernel::NodeId;
use kernel::clock::SharedStoreClock;
use kernel::session::{HostPort, Session};
use parking_lot::Mutex;
use rules::documents::{LEVEL, NodeAddress, NodeFacts};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

pub(crate) use cluster::{Cluster, Coordinates, Listed};
use hash::Given;
#[cfg(test)]
pub(crate) use keeper::renew_once;
pub(crate) use keeper::{join, leave, run};
pub use operate::{Finalized, Node, drain, finalize, list};
use rest::Rest;
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
    /// The listeners whose clients see the brokers of this store, and nothing else; until that is told, they all do.
    listeners: Mutex<Option<BTreeSet<Arc<str>>>>,
    /// Whether some client sees this broker alone, whoever else is there.
    is_seen_alone: AtomicBool,
    /// Whether this broker has left. Held while it renews its lease.
    has_left: tokio::sync::Mutex<bool>,
    /// Other brokers have come or gone.
    changed: Notify,
    /// This broker was drained.
    drained: Notify,
    rest: Rest,
    /// Whether the last attempt to renew the lease has failed.
    is_failing: AtomicBool,
    /// When connections were last ended for that.
    sent_away_ms: AtomicI64,
    time: SharedStoreClock,
}

impl Nodes {
    /// This broker alone, until the store says more.
    pub(crate) fn new(
        cluster_id: Arc<str>,
        fixed: Option<NodeId>,
        rack: Option<Arc<str>>,
        time: SharedStoreClock,
    ) -> Self {
        let facts = NodeFacts {
            // It is made when this broker joins others.
            incarnation: Uuid::nil(),
            cluster_id: Some(cluster_id),
            addresses: BTreeMap::new(),
            rack,
            release: Arc::from(env!("CARGO_PKG_VERSION")),
            level: LEVEL,
            session: None,
        };
        let view = watch::Sender::new(Arc::new(View::alone(fixed.unwrap_or(ALONE))));
        let (facts, listeners) = (Mutex::new(facts), Mutex::default());
        let (is_seen_alone, has_left) = (AtomicBool::default(), tokio::sync::Mutex::default());
        let (changed, drained, sent_away_ms) = (Notify::new(), Notify::new(), AtomicI64::new(i64::MIN / 2));
        Self {
            fixed,
            view,
            facts,
            listeners,
            is_seen_alone,
            has_left,
            changed,
            drained,
            rest: Rest::default(),
            is_failing: AtomicBool::default(),
            sent_away_ms,
            time,
        }
    }

    /// Sets the listeners whose clients see this store alone, and what they connect to, as far as others can be told.
    pub(crate) fn set_addresses(&self, addresses: BTreeMap<Arc<str>, Option<HostPort>>) {
        *self.listeners.lock() = Some(addresses.keys().cloned().collect());
        let address = |HostPort { host, port }: HostPort| NodeAddress { host: host.into(), port };
        let addresses = addresses.into_iter().filter_map(|(listener, at)| Some((listener, address(at?))));
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

    /// Its id for clients who see it alone.
    fn id_alone(&self) -> NodeId {
        self.fixed.unwrap_or(ALONE)
    }

    /// How many brokers are there.
    pub(crate) fn count(&self) -> usize {
        self.view.borrow().live.len().max(1)
    }

    /// Somebody calls.
    pub(crate) fn called(&self) {
        if self.rest.call() {
            self.changed.notify_one();
        }
    }

    /// Whether this broker is alone, and nobody has called it for a while, so that what need not be looked for at once can wait.
    pub(crate) fn rests(&self) -> bool {
        self.rest.rests()
    }

    /// Others may have come or gone: it is looked at once.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// Returns each time that this broker is drained, if its clients have somewhere to go.
    pub(crate) async fn drained(&self) {
        self.drained.notified().await;
    }

    /// Whether no other broker has the store.
    pub(crate) fn is_alone(&self) -> bool {
        self.view.borrow().is_alone()
    }

    /// Listeners whose clients cannot be sent here by other brokers.
    fn listeners_unknown(&self) -> Vec<Arc<str>> {
        let facts = self.facts.lock();
        let all = self.listeners.lock();
        let unknown = |listener: &&Arc<str>| !facts.addresses.contains_key(*listener);
        all.iter().flatten().filter(unknown).cloned().collect()
    }

    /// Whether a broker is there, as far as clients know.
    pub(crate) fn has(&self, id: NodeId) -> bool {
        let view = self.view();
        let is_id_alone = self.is_seen_alone.load(Ordering::Relaxed) && id == self.id_alone();
        is_id_alone || view.own == id || view.live.iter().any(|(other, _)| *other == id)
    }

    /// The brokers as a client sees them. Topics of other stores are not at other brokers: whoever sees them, too, sees this
    /// broker alone.
    pub(crate) fn cluster(&self, session: &Session) -> Cluster {
        let listeners = self.listeners.lock();
        let sees_all = listeners.as_ref().is_none_or(|listeners| listeners.contains(&session.listener));
        drop(listeners);
        if sees_all {
            return Cluster::of(&self.view(), session);
        }
        self.is_seen_alone.store(true, Ordering::Relaxed);
        Cluster::of(&View::alone(self.id_alone()), session)
    }

    /// Whether this broker does some work for all.
    pub(crate) fn does(&self, work: Work) -> bool {
        let name = match work {
            Work::Maintenance => "maintenance",
            Work::Transactions => "transactions",
            Work::Outbox => "outbox",
        };
        self.holds_lease() && self.view.borrow().is_given(Given::named("work", name))
    }

    /// Whether this broker looks after the timeouts of a group. While its lease does not last, it does nothing about them.
    pub(crate) fn looks_after(&self, group: &str) -> bool {
        self.view.borrow().is_given(Given::named("timeouts", group))
    }

    /// Whether this broker's lease lasts: otherwise others may have taken over what it does.
    pub(crate) fn holds_lease(&self) -> bool {
        self.view.borrow().holds(self.time.now_ms())
    }
}
