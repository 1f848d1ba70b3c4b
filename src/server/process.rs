//! The running process: listeners, their towers and the services below, from the first bind to the last
//! close.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use config::Config;
use futures_util::future::{join_all, select_all};
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::admin::{self, AdminState};
use super::assembly::{self, Assembly, Common, Services};
use super::banner::banner;
use super::listener::{Listener, Port};
use super::running::Running;
use super::watchdog::Watchdog;

/// What is told if it panics.
const DRAIN: &str = "the end of connections of a broker that is drained";
/// How long calls under way may take once something has failed: what they need may be gone.
const FAILED_GRACE: Duration = Duration::from_secs(2);
/// How long connections and each service may take to close then. What hangs is left as after a kill.
const FAILED_CLOSE: Duration = Duration::from_secs(3);

/// The parts of the process that a config describes.
pub(super) struct Process {
    pub(super) config: Config,
    pub(super) common: Common,
    pub(super) assembly: Assembly,
    pub(super) ports: BTreeMap<String, Port>,
    /// The services of the config that are open.
    pub(super) running: BTreeMap<String, Running>,
    /// Services that a reload has replaced or removed, until their last connections have ended.
    pub(super) retired: Vec<(String, Running)>,
    /// Drains of towers that a reload has replaced.
    pub(super) draining: JoinSet<()>,
    pub(super) admin: Arc<RwLock<AdminState>>,
    pub(super) watchdog: Watchdog,
}

impl Process {
    /// Binds, then opens: a client that connects while a store opens waits instead of being refused.
    pub(super) async fn start(config: Config, watchdog: Watchdog) -> Result<Self, String> {
        let common = Common::of(&config)?;
        let services = assembly::services(&config, &common, &Services::new())?;
        let assembly = Assembly::build(&config, services, &common, &Assembly::default())?;
        assembly.tell_directories();
        let towers = assembly.towers(&config)?;
        let chains = assembly::chains(&towers);
        let mut ports = BTreeMap::new();
        for (name, tower) in towers {
            let (listener, drain_handle) = Listener::bind(&name, &config.listeners[&name], tower)?;
            ports.insert(name, Port::open(listener, drain_handle, &watchdog));
        }
        let addresses: BTreeMap<_, _> =
            ports.iter().map(|(name, port)| (name.clone(), port.address())).collect();
        let collectors = assembly.collectors(&common);
        let services = assembly.services().clone();
        let admin = AdminState::new(&config, collectors, services, chains, &addresses, watchdog.clone());
        let admin = Arc::new(RwLock::new(admin));
        let admin_address = start_admin(&config, &admin, &watchdog).await?;
        assembly.tell_addresses(&config, &addresses);
        let mut running = BTreeMap::new();
        for (name, service) in assembly.services() {
            running.insert(name.clone(), Running::open(name, service, &watchdog).await?);
        }
        eprint!("{}", banner(&config, &addresses, assembly.services(), admin_address));
        let (retired, draining) = (Vec::new(), JoinSet::new());
        Ok(Self { config, common, assembly, ports, running, retired, draining, admin, watchdog })
    }

    /// Returns each time that the clients of a service are to go elsewhere, with its name.
    pub(super) async fn drained(&self) -> String {
        let all = self.running.iter().map(|(name, running)| {
            Box::pin(async move {
                running.drained().await;
                name.clone()
            })
        });
        let all: Vec<_> = all.collect();
        if all.is_empty() {
            return std::future::pending().await;
        }
        select_all(all).await.0
    }

    /// Ends the connections whose clients see a service that is drained, once their calls are answered: then they ask again
    /// where to go. Those that come all the same are served.
    pub(super) fn send_away(&mut self, service: &str) {
        while self.draining.try_join_next().is_some() {} // Discards those that have ended.
        let grace = self.config.node.reload_drain.0;
        for (name, listener) in &self.config.listeners {
            let leads_there = self.assembly.only_service(listener).is_some_and(|only| only == service);
            if let Some(port) = self.ports.get_mut(name).filter(|_| leads_there) {
                self.draining.spawn(self.watchdog.guard(DRAIN, port.renew().wind_down(grace)));
            }
        }
    }

    /// Lets calls finish within the grace period, then closes the services.
    pub(super) async fn shut_down(self) {
        let Self { config, ports, running, retired, mut draining, watchdog, .. } = self;
        info!("shutting down: no new requests; those under way may end");
        let has_failed = watchdog.failure().is_some();
        let mut grace = config.node.shutdown_grace.0;
        if has_failed {
            grace = grace.min(FAILED_GRACE);
        }
        join_all(running.values().map(Running::leave)).await;
        let ports = ports.into_values().map(|port| async move {
            port.close().await.wind_down(grace).await;
        });
        let drained = tokio::time::timeout(grace, all_ended(&mut draining));
        let ended = async { drop(tokio::join!(join_all(ports), drained)) };
        within(has_failed.then_some(grace + FAILED_CLOSE), "connections", ended).await;
        for (name, service) in retired.into_iter().chain(running) {
            let what = format!("service {name}");
            within(has_failed.then_some(FAILED_CLOSE), &what, service.close(&name)).await;
        }
        info!("stopped");
    }
}

/// Returns once the connections of all replaced towers have ended.
pub(super) async fn all_ended(draining: &mut JoinSet<()>) {
    while draining.join_next().await.is_some() {}
}

/// Waits for a part of the shutdown, at most for a limit if there is one.
async fn within(limit: Option<Duration>, what: &str, work: impl Future<Output = ()>) {
    let Some(limit) = limit else { return work.await };
    if tokio::time::timeout(limit, work).await.is_err() {
        warn!("{what}: not closed within {limit:?}, and left as after a kill; nothing acknowledged is lost");
    }
}

async fn start_admin(
    config: &Config,
    state: &Arc<RwLock<AdminState>>,
    watchdog: &Watchdog,
) -> Result<Option<SocketAddr>, String> {
    let Some(bind) = config.admin.bind else { return Ok(None) };
    let cannot = |error: std::io::Error| {
        format!(
            "the admin server cannot bind {bind}: {error}; choose another address with --admin or [admin] bind, or \"off\""
        )
    };
    let socket = TcpListener::bind(bind).await.map_err(cannot)?;
    let address = socket.local_addr().map_err(cannot)?;
    watchdog.spawn("the admin server", admin::serve(socket, Arc::clone(state)));
    Ok(Some(address))
}
