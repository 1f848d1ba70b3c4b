//! Builds the tower that a config describes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use config::{Config, LayerSettings, ServiceSettings};
use kernel::budget::Budget;
use kernel::clock::SystemClock;
use kernel::metrics::Collect;
use kernel::stack::{Chain, Stack, Tier};
use kernel::stream::StreamLayer;
use kernel::{Api, Door, NodeId};
use layers::framing::{Framing, Traffic};
use layers::limits::Limits;
use layers::metrics::Metrics;
use layers::route::Route;
use layers::trace::Trace;
use storage::engines::memory::Memory;
use storage::engines::sqlite::Sqlite;
use storage::engines::{Engine, StoreError};
use storage::store::StoreOpener;
use storage::{Location, NodeFacts, Service, Settings};

/// Memory that all connections of the process share.
#[derive(Clone)]
pub(super) struct Memories {
    pub(super) requests: Budget,
    pub(super) replies: Budget,
}

impl Memories {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            requests: Budget::new(config.node.request_memory.as_usize()),
            replies: Budget::new(config.node.reply_memory.as_usize()),
        }
    }
}

/// The services of a process; a reload keeps them.
#[derive(Clone, Default)]
pub(super) struct Services(BTreeMap<String, Arc<Service>>);

/// A service whose store has yet to be opened.
pub(super) struct Unopened {
    pub(super) name: String,
    settings: Settings,
    opener: StoreOpener,
}

impl Services {
    pub(super) fn build(config: &Config, memories: &Memories) -> (Self, Vec<Unopened>) {
        let mut services = BTreeMap::new();
        let mut unopened = Vec::new();
        for (name, ServiceSettings::Storage(settings)) in &config.services {
            let facts = node_facts(config);
            let clock = Arc::new(SystemClock);
            let (opener, service) = Service::new(settings.clone(), facts, clock, memories.replies.clone());
            unopened.push(Unopened { name: name.clone(), settings: settings.clone(), opener });
            services.insert(name.clone(), service);
        }
        (Self(services), unopened)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Arc<Service>)> {
        self.0.iter()
    }

    fn doors(&self) -> HashMap<String, Door> {
        self.0.iter().map(|(name, service)| (name.clone(), service.door())).collect()
    }
}

fn node_facts(config: &Config) -> NodeFacts {
    let listeners = config.listeners.iter();
    let listeners = listeners.map(|(name, listener)| format!("{}://{}", name.to_uppercase(), listener.bind));
    NodeFacts {
        cluster_id: Arc::from(config.node.cluster_id.as_str()),
        node_id: NodeId(config.node.node_id),
        request_bytes_max: config.node.request_memory.as_usize(),
        listeners: listeners.collect::<Vec<_>>().join(","),
    }
}

impl Unopened {
    /// Opens the store, which blocks on the disk, and lets its calls in.
    pub(super) fn open(self) -> Result<(), StoreError> {
        let engine: Arc<dyn Engine> = match self.settings.location().map_err(StoreError)? {
            Location::Memory => Arc::new(Memory::new()),
            Location::Sqlite(path) => open_sqlite(&path, &self.settings)?,
        };
        self.opener.opened(engine);
        Ok(())
    }
}

fn open_sqlite(path: &Path, settings: &Settings) -> Result<Arc<dyn Engine>, StoreError> {
    Ok(Arc::new(Sqlite::open(path, settings.commit_bytes_max.as_usize())?))
}

/// What stands behind one listener.
pub(super) struct Tower {
    pub(super) stream_layers: Vec<Arc<dyn StreamLayer>>,
    pub(super) framing: Framing,
    pub(super) stack: Arc<Stack>,
}

/// Everything that has numbers to show.
#[derive(Clone, Default)]
pub(super) struct Collectors(pub(super) Vec<Arc<dyn Collect>>);

/// Builds the towers of all listeners. A layer that several stacks name is one layer: its limits and its numbers are
/// for all of them.
pub(super) fn towers(
    config: &Config,
    services: &Services,
    memories: &Memories,
) -> Result<(BTreeMap<String, Tower>, Collectors), String> {
    let mut parts = Parts::build(config, services, memories)?;
    let towers = config.listeners.keys().map(|name| Ok((name.clone(), parts.tower(config, name)?)));
    let towers = towers.collect::<Result<_, String>>()?;
    parts.collectors.0.extend(services.iter().map(|(_, service)| Arc::clone(service) as Arc<dyn Collect>));
    Ok((towers, parts.collectors))
}

struct Parts<'a> {
    services: &'a Services,
    requests: Budget,
    traffic: Arc<Traffic>,
    limits: HashMap<String, Arc<Limits>>,
    tiers: HashMap<String, Tier>,
    metrics: Option<Arc<Metrics>>,
    route: Option<Route>,
    collectors: Collectors,
}

impl<'a> Parts<'a> {
    fn build(config: &Config, services: &'a Services, memories: &Memories) -> Result<Self, String> {
        let traffic = Arc::new(Traffic::new(memories.requests.clone()));
        let mut parts = Parts {
            services,
            requests: memories.requests.clone(),
            traffic: Arc::clone(&traffic),
            limits: HashMap::new(),
            tiers: HashMap::new(),
            metrics: None,
            route: None,
            collectors: Collectors(vec![traffic]),
        };
        for (name, settings) in &config.layers {
            parts.layer(name, settings);
        }
        if let Some(settings) = &config.route {
            let route = Route::new(settings, services.doors())?;
            parts.collectors.0.push(Arc::new(route.clone()));
            parts.route = Some(route);
        }
        Ok(parts)
    }

    fn layer(&mut self, name: &str, settings: &LayerSettings) {
        match settings {
            LayerSettings::Framing(_) => {} // One per listener; made with its stack.
            LayerSettings::Limits(settings) => {
                let limits = Arc::new(Limits::new(settings).named(name));
                self.collectors.0.push(Arc::clone(&limits) as Arc<dyn Collect>);
                self.limits.insert(name.to_owned(), limits);
            }
            LayerSettings::Metrics(_) => {
                // All metrics layers count into one: an API's calls are one family, whichever stack they took.
                let collectors = &mut self.collectors.0;
                let metrics = self.metrics.get_or_insert_with(|| {
                    let metrics = Metrics::new();
                    collectors.push(Arc::clone(&metrics) as Arc<dyn Collect>);
                    metrics
                });
                let layer = layers::metrics::Layer::new(Arc::clone(metrics));
                self.tiers.insert(name.to_owned(), Tier::new(name, layers::metrics::interest, layer));
            }
            LayerSettings::Trace(_) => {
                self.tiers.insert(name.to_owned(), Tier::new(name, layers::trace::interest, Trace));
            }
        }
    }

    fn tower(&self, config: &Config, listener: &str) -> Result<Tower, String> {
        let names = &config.listeners[listener].stack;
        let stream_layers = names.iter().filter_map(|name| self.limits.get(name));
        let stream_layers = stream_layers.map(|limits| Arc::clone(limits) as Arc<dyn StreamLayer>).collect();
        let tiers = names.iter().filter_map(|name| self.tiers.get(name).cloned()).collect();
        let stack = Arc::new(Stack::build(tiers, self.bottom(names)?, storage::served_apis));
        let settings = names.iter().find_map(|name| match config.layers.get(name) {
            Some(LayerSettings::Framing(settings)) => Some(settings),
            _ => None,
        });
        let settings = settings.ok_or_else(|| format!("the stack of listener {listener} has no framing"))?;
        let framing =
            Framing::new(settings, Arc::clone(&stack), self.requests.clone(), Arc::clone(&self.traffic));
        Ok(Tower { stream_layers, framing, stack })
    }

    fn bottom(&self, names: &[String]) -> Result<Door, String> {
        let last = names.last().map_or("", String::as_str);
        match (&self.route, self.services.0.get(last)) {
            (_, Some(service)) => Ok(service.door()),
            (Some(route), None) if last == config::ROUTE => Ok(Door::new(route.clone())),
            _ => Err(format!("the stack ends in {last:?}, which is neither \"route\" nor a service")),
        }
    }
}

/// The chains of each listener, for `explain`.
pub(super) struct Explained(BTreeMap<String, Vec<Chain>>);

impl Explained {
    pub(super) fn chains(&self, listener: &str) -> Vec<Chain> {
        self.0.get(listener).cloned().unwrap_or_default()
    }
}

/// The chains of a tower's served APIs.
pub(super) fn chains(stack: &Stack) -> Vec<Chain> {
    let mut served: Vec<Api> = stack.served().iter().map(|served| served.api).collect();
    served.sort_unstable();
    served.into_iter().map(|api| stack.explain(api)).collect()
}

/// Builds a config's towers without opening or binding anything.
pub(super) fn explain(config: &Config) -> Result<Explained, String> {
    let memories = Memories::of(config);
    let (services, _) = Services::build(config, &memories);
    let (towers, _) = towers(config, &services, &memories)?;
    Ok(Explained(towers.iter().map(|(name, tower)| (name.clone(), chains(&tower.stack))).collect()))
}
