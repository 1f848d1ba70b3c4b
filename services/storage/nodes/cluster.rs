//! The brokers as the clients of one listener see them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::session::{HostPort, Session};
use kernel::{NodeId, TopicPartition};

use super::hash::Given;
use super::view::View;

/// A kind of coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinates {
    /// Of a group.
    Group,
    /// Of a transactional id.
    Transaction,
}

impl Coordinates {
    fn given(self, name: &str) -> Given {
        let kind = match self {
            Coordinates::Group => "group",
            Coordinates::Transaction => "transaction",
        };
        Given::named(kind, name)
    }
}

/// A broker as clients are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its id.
    pub(crate) id: NodeId,
    /// Where clients of the listener connect to.
    pub(crate) address: HostPort,
    /// Its rack.
    pub(crate) rack: Option<Arc<str>>,
}

/// The brokers as the clients of a listener see them. Several behind one address are one for them, because nobody can tell
/// whom they reach there; a broker whose address is not known here is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    own: NodeId,
    brokers: Vec<Listed>,
    /// Those that partitions, groups and transactions are given to.
    given_to: Vec<NodeId>,
}

impl Cluster {
    pub(super) fn of(view: &View, session: &Session) -> Self {
        let mut brokers = Vec::with_capacity(view.live.len());
        let (mut own, mut drained) = (view.own, BTreeSet::new());
        for (id, node) in &view.live {
            let known = node.facts.addresses.get(&session.listener);
            let address = match known {
                _ if *id == view.own => session.advertised.clone(),
                Some(known) => HostPort { host: known.host.to_string(), port: known.port },
                None => continue,
            };
            // In the order of ids: the first of an address stands for all.
            match brokers.iter().find(|other: &&Listed| other.address == address) {
                Some(first) if *id == view.own => own = first.id,
                Some(_) => {}
                None => {
                    drained.extend(node.is_drained.then_some(*id));
                    brokers.push(Listed { id: *id, address, rack: node.facts.rack.clone() });
                }
            }
        }
        if brokers.is_empty() {
            brokers.push(Listed { id: own, address: session.advertised.clone(), rack: None });
        }
        let mut given_to: Vec<NodeId> = brokers.iter().map(|broker| broker.id).collect();
        if drained.len() < given_to.len() {
            given_to.retain(|id| !drained.contains(id));
        }
        Self { own, brokers, given_to }
    }

    /// All brokers, in the order of ids.
    pub(crate) fn brokers(&self) -> &[Listed] {
        &self.brokers
    }

    /// This broker.
    pub(crate) fn own(&self) -> NodeId {
        self.own
    }

    /// The only one has everything, without a look at what it is.
    fn among(&self, given: impl FnOnce() -> Given) -> NodeId {
        match self.given_to[..] {
            [only] => only,
            _ => given().among(self.given_to.iter().copied()).unwrap_or(self.own),
        }
    }

    /// Where producers and consumers of a partition go.
    pub(crate) fn leader(&self, at: TopicPartition) -> NodeId {
        self.among(|| Given::partition(at))
    }

    /// Where members of a group, or the producer of a transactional id, go.
    pub(crate) fn coordinator(&self, of: Coordinates, name: &str) -> NodeId {
        self.among(|| of.given(name))
    }

    /// Whether this broker is the coordinator.
    pub(crate) fn coordinates(&self, of: Coordinates, name: &str) -> bool {
        self.coordinator(of, name) == self.own
    }

    /// Where changes of topics go.
    pub(crate) fn controller(&self) -> NodeId {
        self.given_to.first().copied().unwrap_or(self.own)
    }

    /// A broker.
    pub(crate) fn broker(&self, id: NodeId) -> Option<&Listed> {
        self.brokers.iter().find(|broker| broker.id == id)
    }
}
