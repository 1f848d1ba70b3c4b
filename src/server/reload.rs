//! Applies another config while the process runs.
//!
//! First come the steps that can fail safely: the new config is built completely, its new listeners are bound
//! and its new services opened. If any of these fails, nothing has changed. Only then are towers swapped.
//!
//! A store can be open only once, so a service whose settings changed cannot be opened beside the one that it
//! replaces. Its calls wait in it while the connections of the old tower are drained and the old service is
//! closed; then it is opened. If that fails, the previous config is applied again by the same steps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use config::{Changes, Config};
use kernel::drain::Drain;
use tracing::{error, info, warn};

use super::admin::AdminState;
use super::assembly::{self, Assembly, Tower};
use super::listener::{DrainHandle, Listener, Port};
use super::process::{Process, all_ended};
use super::running::Running;
use super::watchdog::Watchdog;

/// What is told if it panics.
const DRAIN: &str = "the drain of connections of a config before";

/// A config that is built but not applied yet.
struct Prepared {
    config: Config,
    assembly: Assembly,
    admin: AdminState,
    /// The towers of listeners that keep their ports.
    towers: BTreeMap<String, Tower>,
    /// Listeners on newly bound ports: new ones, and those whose address changed.
    bound: Vec<(String, Listener, DrainHandle)>,
    /// New services.
    opened: BTreeMap<String, Running>,
    /// Services that can be opened only after those that they replace are closed.
    to_open: BTreeSet<String>,
}

/// Why a config was not applied.
enum Failure {
    /// It could not be prepared.
    NothingChanged(String),
    /// It was applied, but a service that replaces another could not be opened.
    NotOpened(String),
}

impl Process {
    /// Replaces the current config by `config`, and logs the result. Once `stop` has started, it stops
    /// waiting.
    pub(super) async fn reload(&mut self, config: Config, stop: &Drain) {
        if config == self.config && config.services.keys().all(|name| self.running.contains_key(name)) {
            info!("SIGHUP: the config is the same as before, nothing changed");
            return;
        }
        let before = self.config.clone();
        let changes = self.changes_to(&config);
        if !changes.needs_restart.is_empty() {
            let settings = changes.needs_restart.join(", ");
            error!(
                "SIGHUP: the new config was not taken, nothing changed: {settings} can change only with a restart"
            );
            return;
        }
        match self.change_to(config, &changes, stop).await {
            Ok(()) if stop.has_started() => {}
            Ok(()) => info!(
                added = ?changes.added, removed = ?changes.removed, changed = ?changes.changed, kept = ?changes.kept,
                services_added = ?changes.services_added, services_removed = ?changes.services_removed,
                services_changed = ?changes.services_changed,
                "SIGHUP: the new config is in force"
            ),
            Err(Failure::NothingChanged(message)) => {
                error!("SIGHUP: the new config was not taken, nothing changed: {message}");
            }
            Err(Failure::NotOpened(message)) => {
                error!("SIGHUP: {message}; going back to the config that was in force");
                self.restore(before, stop).await;
            }
        }
    }

    async fn restore(&mut self, before: Config, stop: &Drain) {
        let changes = self.changes_to(&before);
        match self.change_to(before, &changes, stop).await {
            Ok(()) => warn!("SIGHUP: the config before it serves again"),
            Err(Failure::NothingChanged(message) | Failure::NotOpened(message)) => error!(
                "SIGHUP: the config before it cannot serve again either: {message}; calls of services that are not \
                 open wait. Once the cause is mended, send SIGHUP again"
            ),
        }
    }

    /// What `config` would change. A service that could not be opened counts as absent, so that it is tried
    /// again.
    fn changes_to(&self, config: &Config) -> Changes {
        let mut in_force = self.config.clone();
        in_force.services.retain(|name, _| self.running.contains_key(name));
        config::compare(&in_force, config)
    }

    async fn change_to(&mut self, config: Config, changes: &Changes, stop: &Drain) -> Result<(), Failure> {
        let prepared = self.prepare(config, changes).await.map_err(Failure::NothingChanged)?;
        let to_open = prepared.to_open.clone();
        self.put_in_force(prepared, changes).await;
        self.replace_services(&to_open, stop).await.map_err(Failure::NotOpened)
    }

    /// The steps that can fail safely.
    async fn prepare(&self, config: Config, changes: &Changes) -> Result<Prepared, String> {
        let mut kept = self.assembly.services().clone();
        kept.retain(|name, _| self.running.contains_key(name) && !changes.services_changed.contains(name));
        let services = assembly::services(&config, &self.common, &kept)?;
        let assembly = Assembly::build(&config, services, &self.common, &self.assembly)?;
        let mut towers = assembly.towers(&config)?;
        let chains = assembly::chains(&towers);
        let collectors = assembly.collectors(&self.common);
        let mut bound = Vec::new();
        let mut addresses = BTreeMap::new();
        for (name, listener) in &config.listeners {
            let before = self.config.listeners.get(name);
            let needs_port = before.is_none_or(|before| before.bind != listener.bind);
            if needs_port && let Some(tower) = towers.remove(name) {
                self.check_free(name, listener.bind)?;
                let (listener, drain_handle) = Listener::bind(name, listener, tower)?;
                addresses.insert(name.clone(), listener.address());
                bound.push((name.clone(), listener, drain_handle));
            } else if let Some(port) = self.ports.get(name) {
                addresses.insert(name.clone(), port.address());
            }
        }
        let services = assembly.services().clone();
        let admin = AdminState::new(&config, collectors, services, chains, &addresses, self.watchdog.clone());
        let to_open = self.to_open_late(&config, changes);
        let opened = open_early(&assembly, &changes.services_added, &to_open, &self.watchdog).await?;
        Ok(Prepared { config, assembly, admin, towers, bound, opened, to_open })
    }

    /// All present listeners hold their ports until the new config is in force, so that nothing is lost if it cannot be. A
    /// listener cannot move to a port that another leaves, or to a wildcard that covers its own.
    fn check_free(&self, name: &str, bind: SocketAddr) -> Result<(), String> {
        let holder = self.ports.iter().find(|(_, port)| config::clash(port.address(), bind));
        holder.map_or(Ok(()), |(holder, port)| {
            let address = port.address();
            Err(format!(
                "listener {name} cannot bind {bind} while listener {holder} is on {address}; free that port with one \
                 reload and take it with the next, or restart"
            ))
        })
    }

    /// The changed services, and new ones that need the exclusive resource of a changed or removed one, such
    /// as a store under another name.
    fn to_open_late(&self, config: &Config, changes: &Changes) -> BTreeSet<String> {
        let retiring = changes.services_changed.iter().chain(&changes.services_removed);
        let freed: BTreeSet<String> = retiring.filter_map(|name| held(&self.config, name)).collect();
        let late = changes.services_added.iter();
        let late = late.filter(|name| held(config, name).is_some_and(|held| freed.contains(&held)));
        late.chain(&changes.services_changed).cloned().collect()
    }

    /// Swaps in what was prepared. Services that are replaced or removed retire: connections of old towers
    /// still use them.
    async fn put_in_force(&mut self, prepared: Prepared, changes: &Changes) {
        let Prepared { config, assembly, admin, mut towers, bound, opened, to_open: _ } = prepared;
        let grace = config.node.reload_drain.0;
        while self.draining.try_join_next().is_some() {} // Discards those that have ended.
        for name in &changes.changed {
            if let (Some(port), Some(tower)) = (self.ports.get_mut(name), towers.remove(name)) {
                let before = port.install(tower, &config.listeners[name]);
                self.draining.spawn(self.watchdog.guard(DRAIN, before.wind_down(grace)));
            }
        }
        let moved = bound.iter().map(|(name, ..)| name).filter(|name| changes.changed.contains(name));
        for name in changes.removed.iter().chain(moved) {
            if let Some(port) = self.ports.remove(name) {
                let drain_handle = port.close().await;
                self.draining.spawn(self.watchdog.guard(DRAIN, drain_handle.wind_down(grace)));
            }
        }
        for (name, listener, drain_handle) in bound {
            self.ports.insert(name, Port::open(listener, drain_handle, &self.watchdog));
        }
        for name in changes.services_changed.iter().chain(&changes.services_removed) {
            self.retired.extend(self.running.remove_entry(name));
        }
        self.running.extend(opened);
        assembly.tell_directories();
        let addresses = self.ports.iter().map(|(name, port)| (name.clone(), port.address())).collect();
        assembly.tell_addresses(&config, &addresses);
        self.assembly = assembly;
        *self.admin.write() = admin;
        self.config = config;
    }

    /// Closes the retired services, and opens those that waited for them.
    async fn replace_services(&mut self, to_open: &BTreeSet<String>, stop: &Drain) -> Result<(), String> {
        if self.retired.is_empty() && to_open.is_empty() {
            return Ok(());
        }
        // Connections of earlier reloads may use them too, so it waits for all. Each ends within
        // `reload_drain`.
        tokio::select! {
            () = all_ended(&mut self.draining) => {}
            // The shutdown closes retired services with all others.
            () = stop.started() => return Ok(()),
        }
        for (name, service) in self.retired.drain(..) {
            service.close(&name).await;
        }
        let mut failures = Vec::new();
        for name in to_open {
            let Some(service) = self.assembly.services().get(name) else { continue };
            match Running::open(name, service, &self.watchdog).await {
                Ok(running) => drop(self.running.insert(name.clone(), running)),
                Err(message) => failures.push(message),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }
}

/// The exclusive resource of this service.
fn held(config: &Config, service: &str) -> Option<String> {
    let service = config.services.get(service)?;
    (service.kind.holds)(&service.settings).map(|(_, held)| held)
}

/// Opens new services, except those that have to wait. If one cannot be opened, those that were are closed
/// again.
async fn open_early(
    assembly: &Assembly,
    added: &[String],
    to_open_late: &BTreeSet<String>,
    watchdog: &Watchdog,
) -> Result<BTreeMap<String, Running>, String> {
    let mut opened = BTreeMap::new();
    for name in added.iter().filter(|name| !to_open_late.contains(*name)) {
        let Some(service) = assembly.services().get(name) else { continue };
        match Running::open(name, service, watchdog).await {
            Ok(running) => drop(opened.insert(name.clone(), running)),
            Err(message) => {
                for (name, running) in opened {
                    running.close(&name).await;
                }
                return Err(message);
            }
        }
    }
    Ok(opened)
}
