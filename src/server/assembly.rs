//! Builds the towers that a config describes, from any registered kinds of layers and services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use config::{Config, LayerConfig, Listener};
use kernel::budget::{Budget, replies_within};
use kernel::clock::{SharedStoreClock, SteadyClock, SystemClock};
use kernel::ids::RandomIds;
use kernel::layer::{Framer, Layer, LayerParts, Shared};
use kernel::metrics::Collect;
use kernel::service::{Service, ServiceParts};
use kernel::stack::{Chain, Stack};
use kernel::stream::StreamLayer;
use kernel::{Door, NodeId, Served};
use layers::route::{Route, Settings as RouteSettings};

use super::listener::connected_to;

/// State shared by all towers of the process, across reloads.
pub(super) struct Common {
    /// Memory for the requests of all connections.
    requests: Budget,
    /// Memory for the replies of all connections.
    replies: Budget,
    /// Metrics shared by layers of one type.
    shared: Shared,
    /// Store time: one for the process, so that services of a reload go on where others are.
    time: SharedStoreClock,
}

impl Common {
    pub(super) fn of(config: &Config) -> Result<Self, String> {
        let time = SteadyClock::start(&SystemClock).map_err(|error| {
            format!("the thread of the clock cannot start: {error}; raise the limit on threads (`ulimit -u`)")
        })?;
        Ok(Self {
            requests: Budget::for_requests(config.node.request_memory.as_usize()),
            replies: Budget::for_replies(replies_within(config.node.reply_memory.as_usize())),
            shared: Shared::default(),
            time,
        })
    }
}

/// Services by name.
pub(super) type Services = BTreeMap<String, Arc<dyn Service>>;

/// Builds the services of a config, without opening them; those in `kept` are reused.
pub(super) fn services(config: &Config, common: &Common, kept: &Services) -> Result<Services, String> {
    let parts = service_parts(config, common);
    let mut services = Services::new();
    for (name, service) in &config.services {
        let built = match kept.get(name) {
            Some(kept) => Arc::clone(kept),
            None => (service.kind.build)(&service.settings, parts.clone())
                .map_err(|message| format!("service {name}: {message}"))?,
        };
        services.insert(name.clone(), built);
    }
    Ok(services)
}

fn service_parts(config: &Config, common: &Common) -> ServiceParts {
    let listeners = config.listeners.iter();
    let listeners = listeners.map(|(name, listener)| format!("{}://{}", name.to_uppercase(), listener.bind));
    ServiceParts {
        cluster_id: Arc::from(config.node.cluster_id.as_str()),
        node_id: config.node.node_id.map(NodeId),
        rack: config.node.rack.as_deref().map(Arc::from),
        listeners: listeners.collect::<Vec<_>>().join(","),
        replies: common.replies.clone(),
        clock: Arc::new(SystemClock),
        time: Arc::clone(&common.time),
        ids: Arc::new(RandomIds),
    }
}

/// A layer and its config: a reload that does not change the config keeps the layer.
#[derive(Clone)]
struct BuiltLayer {
    config: LayerConfig,
    layer: Layer,
    collectors: Vec<Arc<dyn Collect>>,
}

impl BuiltLayer {
    fn new(name: &str, config: &LayerConfig, common: &Common) -> Result<Self, String> {
        let mut parts = LayerParts::new(name, &common.requests, &common.replies, &common.shared);
        let layer = (config.kind.build)(&config.settings, &mut parts)
            .map_err(|message| format!("layer {name}: {message}"))?;
        Ok(Self { config: config.clone(), layer, collectors: parts.into_collectors() })
    }
}

/// The route, its settings and services.
#[derive(Clone)]
struct BuiltRoute {
    settings: RouteSettings,
    /// Its target services.
    services: Vec<(String, Arc<dyn Service>)>,
    route: Route,
}

impl BuiltRoute {
    /// Builds the route, or keeps the previous one if neither settings nor services changed.
    fn over(services: &Services, settings: &RouteSettings, before: Option<&Self>) -> Result<Self, String> {
        let to = settings.rules.iter().map(|rule| rule.to.as_str());
        let names: BTreeSet<&str> = to.chain([settings.default.as_str()]).collect();
        let reached = services.iter().filter(|(name, _)| names.contains(name.as_str()));
        let reached: Vec<(String, Arc<dyn Service>)> =
            reached.map(|(name, service)| (name.clone(), Arc::clone(service))).collect();
        let is_same = |before: &&Self| before.settings == *settings && are_same(&before.services, &reached);
        if let Some(before) = before.filter(is_same) {
            return Ok(before.clone());
        }
        let route = Route::new(settings, reached.clone())?;
        Ok(Self { settings: settings.clone(), services: reached, route })
    }

    fn leads_to(&self, service: &str) -> bool {
        self.services.iter().any(|(name, _)| name == service)
    }
}

fn are_same(before: &[(String, Arc<dyn Service>)], after: &[(String, Arc<dyn Service>)]) -> bool {
    before.len() == after.len()
        && before.iter().zip(after).all(|(one, other)| one.0 == other.0 && Arc::ptr_eq(&one.1, &other.1))
}

/// The tower of one listener.
#[derive(Clone)]
pub(super) struct Tower {
    pub(super) stream_layers: Vec<Arc<dyn StreamLayer>>,
    pub(super) framer: Arc<dyn Framer>,
    pub(super) stack: Arc<Stack>,
}

/// Returns what is served at this moment.
type ServedNow = Box<dyn Fn() -> Served + Send + Sync>;

/// The parts of a config's towers. A layer that several stacks name is one layer: they share its limits and
/// its metrics.
#[derive(Clone, Default)]
pub(super) struct Assembly {
    layers: BTreeMap<String, BuiltLayer>,
    route: Option<BuiltRoute>,
    services: Services,
}

impl Assembly {
    /// Builds the layers and the route of a config. Those that are unchanged from `before` are kept, so that
    /// limits keep counting across a reload.
    pub(super) fn build(
        config: &Config,
        services: Services,
        common: &Common,
        before: &Assembly,
    ) -> Result<Self, String> {
        let mut layers = BTreeMap::new();
        for (name, layer) in &config.layers {
            let built = match before.layers.get(name).filter(|built| built.config == *layer) {
                Some(kept) => kept.clone(),
                None => BuiltLayer::new(name, layer, common)?,
            };
            layers.insert(name.clone(), built);
        }
        let route = match &config.route {
            Some(settings) => Some(BuiltRoute::over(&services, settings, before.route.as_ref())?),
            None => None,
        };
        Ok(Self { layers, route, services })
    }

    /// The services below the towers.
    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    /// Sets every service's topic directory: the route's if the route leads to it, else its own.
    pub(super) fn tell_directories(&self) {
        for (name, service) in &self.services {
            let route = self.route.as_ref().filter(|route| route.leads_to(name));
            let directory = match route {
                Some(route) => route.route.directory(),
                None => service.topics(),
            };
            service.set_directory(directory);
        }
    }

    /// Tells every service what its clients connect to, as far as that is known without one: the address of a listener that is
    /// bound to all, and advertises none, depends on where a client is. Clients of a route to several services see none of
    /// them alone.
    pub(super) fn tell_addresses(&self, config: &Config, bound: &BTreeMap<String, SocketAddr>) {
        let address = |(name, listener): (&String, &Listener)| {
            let bound = bound.get(name).filter(|bound| !bound.ip().is_unspecified());
            let address = listener.advertise.clone().or_else(|| bound.map(|bound| connected_to(*bound)));
            (Arc::from(name.as_str()), address)
        };
        for (name, service) in &self.services {
            let own =
                config.listeners.iter().filter(|(_, listener)| self.only_service(listener) == Some(name));
            service.set_addresses(own.map(address).collect());
        }
    }

    /// The service that all calls of a listener go to.
    pub(super) fn only_service<'a>(&'a self, listener: &'a Listener) -> Option<&'a String> {
        let bottom = listener.stack.last()?;
        match &self.route {
            Some(route) if bottom == config::ROUTE => match &route.services[..] {
                [(only, _)] => Some(only),
                _ => None,
            },
            _ => Some(bottom),
        }
    }

    /// Everything that has metrics.
    pub(super) fn collectors(&self, common: &Common) -> Vec<Arc<dyn Collect>> {
        let mut collectors = common.shared.collectors();
        collectors.extend(self.layers.values().flat_map(|layer| layer.collectors.iter().cloned()));
        if let Some(built) = &self.route {
            collectors.push(Arc::new(built.route.clone()));
        }
        for service in self.services.values() {
            collectors.push(Arc::<dyn Service>::clone(service));
        }
        collectors
    }

    /// The towers of all listeners.
    pub(super) fn towers(&self, config: &Config) -> Result<BTreeMap<String, Tower>, String> {
        let mut towers = BTreeMap::new();
        for (name, listener) in &config.listeners {
            let tower = self.tower(&listener.stack);
            towers.insert(name.clone(), tower.map_err(|message| format!("listener {name}: {message}"))?);
        }
        Ok(towers)
    }

    fn tower(&self, names: &[String]) -> Result<Tower, String> {
        let (mut stream_layers, mut framing, mut tiers) = (Vec::new(), None, Vec::new());
        for built in names.iter().filter_map(|name| self.layers.get(name)) {
            match &built.layer {
                Layer::Bytes(layer) => stream_layers.push(Arc::clone(layer)),
                Layer::Framing(make) => framing = Some(make),
                Layer::Calls(tier) => tiers.push(tier.clone()),
            }
        }
        let make_framer = framing.ok_or("its stack has no framing")?;
        let (door, served) = self.bottom(names.last().map_or("", String::as_str))?;
        let stack = Arc::new(Stack::build(tiers, door, served));
        Ok(Tower { stream_layers, framer: make_framer(Arc::clone(&stack)), stack })
    }

    fn bottom(&self, name: &str) -> Result<(Door, ServedNow), String> {
        if let Some(service) = self.services.get(name) {
            let (door, service) = (service.door(), Arc::clone(service));
            let served: ServedNow = Box::new(move || service.served());
            return Ok((door, served));
        }
        match &self.route {
            Some(built) if name == config::ROUTE => {
                let route = built.route.clone();
                let door = Door::new(route.clone());
                let served: ServedNow = Box::new(move || route.served());
                Ok((door, served))
            }
            _ => Err(format!("its stack ends in {name:?}, which is neither \"route\" nor a service")),
        }
    }
}

/// The chains of each tower's served APIs, by listener.
pub(super) fn chains(towers: &BTreeMap<String, Tower>) -> BTreeMap<String, Vec<Chain>> {
    towers.iter().map(|(name, tower)| (name.clone(), chains_of(&tower.stack))).collect()
}

fn chains_of(stack: &Stack) -> Vec<Chain> {
    let served = stack.served();
    served.apis().iter().map(|served| stack.explain(served.api)).collect()
}

/// The chains of each listener, for `explain`.
pub(super) struct Explained(BTreeMap<String, Vec<Chain>>);

impl Explained {
    pub(super) fn chains(&self, listener: &str) -> Vec<Chain> {
        self.0.get(listener).cloned().unwrap_or_default()
    }
}

/// Builds a config's towers without opening or binding anything.
pub(super) fn explain(config: &Config) -> Result<Explained, String> {
    let common = Common::of(config)?;
    let services = services(config, &common, &Services::new())?;
    let assembly = Assembly::build(config, services, &common, &Assembly::default())?;
    Ok(Explained(chains(&assembly.towers(config)?)))
}
