//! The broker's state: what every API works with.

use std::sync::Arc;

use kernel::budget::Budget;
use kernel::clock::SharedClock;
use kernel::ports::TopicDirectory;
use kernel::session::Owner;
use kernel::{IdSource, NodeId, TopicId};
use parking_lot::RwLock;

use crate::coordinator::Coordinator;
use crate::settings::Settings;
use crate::store::{Store, StoreOpener};
use crate::telemetry::Telemetry;

/// What the broker tells clients of itself.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    /// The cluster's id.
    pub(crate) cluster_id: Arc<str>,
    /// This broker's id.
    pub(crate) node_id: NodeId,
    /// The largest request, in bytes.
    pub(crate) request_bytes_max: usize,
    /// The `listeners` as a broker config shows them.
    pub(crate) listeners: String,
}

/// What a broker is made of.
pub(crate) struct BrokerParts {
    pub(crate) settings: Settings,
    pub(crate) node: NodeFacts,
    pub(crate) clock: SharedClock,
    pub(crate) ids: Arc<dyn IdSource>,
    /// Reply memory: a fetch draws on it before it reads.
    pub(crate) replies: Budget,
}

/// The broker: a store, and what no store is told.
pub(crate) struct Broker {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) node: NodeFacts,
    pub(crate) clock: SharedClock,
    ids: Arc<dyn IdSource>,
    pub(crate) replies: Budget,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) telemetry: Telemetry,
    /// Owns the broker's state in sessions.
    pub(crate) owner: Owner,
    /// Topics that may be another service's; the store's own until there is word of others.
    directory: RwLock<Arc<dyn TopicDirectory>>,
}

impl Broker {
    /// A broker whose store is still to be opened.
    pub(crate) fn new(parts: BrokerParts) -> (StoreOpener, Self) {
        let BrokerParts { settings, node, clock, ids, replies } = parts;
        let (opener, store) = Store::opening(settings.queue_bytes_max.as_usize());
        let coordinator = Arc::new(Coordinator::new(Arc::clone(&clock)));
        let directory: Arc<dyn TopicDirectory> = Arc::new(store.clone());
        let broker = Self {
            store,
            settings,
            node,
            clock,
            ids,
            replies,
            coordinator,
            telemetry: Telemetry::default(),
            owner: Owner::new(),
            directory: RwLock::new(directory),
        };
        (opener, broker)
    }

    /// Where topics are found that may be another service's.
    pub(crate) fn directory(&self) -> Arc<dyn TopicDirectory> {
        Arc::clone(&self.directory.read())
    }

    /// Looks for topics in another place from now on.
    pub(crate) fn set_directory(&self, directory: Arc<dyn TopicDirectory>) {
        *self.directory.write() = directory;
    }

    /// An id that nobody has.
    pub(crate) fn fresh_id(&self) -> uuid::Uuid {
        self.ids.fresh()
    }

    /// A topic's id that nobody has, and that command-line tools would not take for an option.
    pub(crate) fn fresh_topic_id(&self) -> TopicId {
        loop {
            let id = TopicId(self.fresh_id());
            // Kafka's reserved ids, 0 to 99, are not among those of version 4.
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}
