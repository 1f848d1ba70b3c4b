//! The broker's state: what every API works with.

use std::sync::Arc;

use kernel::budget::Budget;
use kernel::clock::{Clock, LaterClock, SharedClock, SharedStoreClock, StoreClock};
use kernel::ports::{BoxFuture, TopicDirectory, TopicFacts};
use kernel::session::Owner;
use kernel::{IdSource, NodeId, TopicId, TopicPartition};
use parking_lot::RwLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cleaner::Cleaner;
use crate::coordinator::Coordinator;
use crate::nodes::Nodes;
use crate::regexes::Regexes;
use crate::settings::Settings;
use crate::store::{Store, StoreOpener};
use crate::targets::Targets;
use crate::telemetry::Telemetry;
use crate::transaction_metrics::TransactionMetrics;

/// What the broker tells clients about itself.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    /// The cluster's id.
    pub(crate) cluster_id: Arc<str>,
    /// This broker's id, if the config gives it one.
    pub(crate) node_id: Option<NodeId>,
    /// Its rack.
    pub(crate) rack: Option<Arc<str>>,
    /// The `listeners` in the form of the broker config.
    pub(crate) listeners: String,
}

/// What a broker is made of.
pub(crate) struct BrokerParts {
    pub(crate) settings: Settings,
    pub(crate) node: NodeFacts,
    pub(crate) clock: SharedClock,
    pub(crate) time: SharedStoreClock,
    pub(crate) ids: Arc<dyn IdSource>,
    /// Reply memory: a fetch draws on it before it reads.
    pub(crate) replies: Budget,
}

type LaterWall = Arc<LaterClock<dyn Clock>>;
type LaterTime = Arc<LaterClock<dyn StoreClock>>;

/// Calls that look at all topics, groups or members at the same time.
const SURVEYS_MAX: usize = 2;
/// Bytes of batches that searches have open at the same time.
const SEARCHED_BYTES_MAX: usize = 4 << 20;

/// The broker: a store, and state that is only in memory.
pub(crate) struct Broker {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) node: NodeFacts,
    pub(crate) nodes: Nodes,
    /// The wall clock. It dates what is stored: records, committed offsets, and when they expire.
    pub(crate) clock: SharedClock,
    /// Store time. Whatever waits goes by it: sessions, rebalances, and all other timeouts in ms.
    pub(crate) time: SharedStoreClock,
    /// The same two, to be set by the store.
    later: (LaterWall, LaterTime),
    ids: Arc<dyn IdSource>,
    pub(crate) replies: Budget,
    /// Batches that are opened to search in them.
    pub(crate) searches: Budget,
    surveys: Arc<Semaphore>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) telemetry: Telemetry,
    pub(crate) cleaner: Cleaner,
    pub(crate) transaction_metrics: TransactionMetrics,
    pub(crate) regexes: Regexes,
    pub(crate) targets: Targets,
    /// Owns the broker's state in sessions.
    pub(crate) owner: Owner,
    /// Finds topics, which may belong to another service; finds only its own until `set_directory`.
    directory: RwLock<Arc<NumberedDirectory>>,
}

impl Broker {
    /// A broker whose store is still to be opened.
    pub(crate) fn new(parts: BrokerParts) -> (StoreOpener, Self) {
        let BrokerParts { settings, node, clock, time, ids, replies } = parts;
        let (opener, store) = Store::opening(settings.queue_bytes_max.as_usize());
        let later = (Arc::new(LaterClock::new(clock)), Arc::new(LaterClock::new(time)));
        let clock: SharedClock = LaterWall::clone(&later.0);
        let time: SharedStoreClock = LaterTime::clone(&later.1);
        let coordinator = Arc::new(Coordinator::new(Arc::clone(&time)));
        let nodes =
            Nodes::new(Arc::clone(&node.cluster_id), node.node_id, node.rack.clone(), Arc::clone(&time));
        let directory: Arc<dyn TopicDirectory> = Arc::new(store.clone());
        let broker = Self {
            store,
            settings,
            node,
            nodes,
            clock,
            time,
            later,
            ids,
            replies,
            searches: Budget::new(SEARCHED_BYTES_MAX, 0),
            surveys: Arc::new(Semaphore::new(SURVEYS_MAX)),
            coordinator,
            telemetry: Telemetry::default(),
            cleaner: Cleaner::default(),
            transaction_metrics: TransactionMetrics::default(),
            regexes: Regexes::default(),
            targets: Targets::default(),
            owner: Owner::new(),
            directory: RwLock::new(Arc::new(NumberedDirectory { directory, replaced: 0 })),
        };
        (opener, broker)
    }

    /// Goes by the clock of a store that brokers share, from now on.
    pub(crate) fn follow_clock(&self, clock: &SharedStoreClock) {
        let (wall, time) = &self.later;
        wall.set(Arc::clone(clock));
        time.set(Arc::clone(clock));
    }

    /// A place among the calls that look at everything.
    pub(crate) async fn survey(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed; if it were, nobody would have to wait.
        Arc::clone(&self.surveys).acquire_owned().await.ok()
    }

    /// The directory of topics, which may belong to another service.
    pub(crate) fn directory(&self) -> Arc<dyn TopicDirectory> {
        let directory: Arc<NumberedDirectory> = Arc::clone(&self.directory.read());
        directory
    }

    /// Replaces the directory of topics.
    pub(crate) fn set_directory(&self, directory: Arc<dyn TopicDirectory>) {
        let mut current = self.directory.write();
        let replaced = current.replaced + 1;
        *current = Arc::new(NumberedDirectory { directory, replaced });
    }

    /// A new unique id.
    pub(crate) fn fresh_id(&self) -> uuid::Uuid {
        self.ids.fresh()
    }

    /// A new unique topic id that does not begin with `-`, which command-line tools would take for an option.
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

/// A directory whose versions are greater than those of the directories that it replaces: what was found in one of them
/// does not hold in this.
struct NumberedDirectory {
    directory: Arc<dyn TopicDirectory>,
    replaced: u64,
}

/// Far more changes of topics than one process will see.
const VERSIONS_OF_A_DIRECTORY: u64 = 1 << 44;

type Found<'a> = BoxFuture<'a, Result<Vec<TopicFacts>, String>>;

impl TopicDirectory for NumberedDirectory {
    fn by_name(&self, names: Vec<Arc<str>>) -> Found<'_> {
        self.directory.by_name(names)
    }

    fn by_id(&self, ids: Vec<TopicId>) -> Found<'_> {
        self.directory.by_id(ids)
    }

    fn all(&self) -> Found<'_> {
        self.directory.all()
    }

    fn ends(&self, partitions: Vec<TopicPartition>) -> BoxFuture<'_, Result<Vec<Option<i64>>, String>> {
        self.directory.ends(partitions)
    }

    fn version(&self) -> u64 {
        self.replaced * VERSIONS_OF_A_DIRECTORY + self.directory.version()
    }
}
