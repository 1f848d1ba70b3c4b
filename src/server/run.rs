//! The life of the process: bind, open, serve, reload, drain.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use config::{Config, ServiceSettings};
use storage::Service;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::admin::{self, Shown};
use super::allocator;
use super::assembly::{self, Memories, Services, Unopened};
use super::banner::banner;
use super::listener::{Listener, Swap, Winding};
use super::logging::{self, LogLevel};

/// Where the config came from, which is where a reload looks.
pub(super) enum Source {
    /// The shipped config and flags: there is nothing to read again.
    Flags,
    /// A file.
    File(PathBuf),
}

/// Runs a config until it is told to stop.
pub(super) fn serve(config: Config, source: Source) -> ExitCode {
    let log_level = logging::start(&config.log);
    raise_open_files_limit();
    allocator::set_up();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure(&format!("the runtime cannot start: {error}")),
    };
    match runtime.block_on(Server::start(config, source, log_level)) {
        Ok(server) => {
            runtime.block_on(server.live());
            ExitCode::SUCCESS
        }
        Err(message) => failure(&message),
    }
}

fn failure(message: &str) -> ExitCode {
    eprintln!("yagura: {message}");
    ExitCode::FAILURE
}

/// Each connection is a file; the usual soft limit of 1024 is far below what the machine allows.
fn raise_open_files_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(rlimit::INFINITY) {
        warn!(%error, "the limit on open files could not be raised; `ulimit -n` bounds the connections");
    }
}

/// A listener that accepts, and how to change or end it.
struct Port {
    address: SocketAddr,
    swap: Swap,
    winding: Winding,
    accepting: JoinHandle<()>,
}

struct Server {
    config: Config,
    source: Source,
    log_level: LogLevel,
    memories: Memories,
    services: Services,
    ports: BTreeMap<String, Port>,
    shown: Arc<RwLock<Shown>>,
    signals: Signals,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        // A write past RLIMIT_FSIZE raises SIGXFSZ, which kills. Caught, it becomes an error of that write, and so a
        // KAFKA_STORAGE_ERROR.
        // The handler stays when the stream of signals is dropped.
        drop(signal(SignalKind::from_raw(25))?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

impl Server {
    /// Binds, then opens: a client that connects while the store opens waits for a moment instead of being refused.
    async fn start(config: Config, source: Source, log_level: LogLevel) -> Result<Self, String> {
        let signals = Signals::catch().map_err(|error| format!("signals cannot be caught: {error}"))?;
        let memories = Memories::of(&config);
        let (services, unopened) = Services::build(&config, &memories);
        let (towers, collectors) = assembly::towers(&config, &services, &memories)?;
        let mut ports = BTreeMap::new();
        let mut explained = BTreeMap::new();
        for (name, tower) in towers {
            explained.insert(name.clone(), assembly::chains(&tower.stack));
            let (listener, winding) = Listener::bind(&name, &config.listeners[&name], tower)?;
            ports.insert(name, accept(listener, winding));
        }
        let shown = Arc::new(RwLock::new(Shown::new(&config, collectors, services.clone(), explained)));
        let admin = start_admin(&config, &shown).await?;
        open_all(unopened).await?;
        for (name, ServiceSettings::Storage(settings)) in &config.services {
            if let Some((_, service)) = services.iter().find(|(other, _)| *other == name) {
                tokio::spawn(maintain(Arc::clone(service), settings.retention_interval.0));
                tokio::spawn(storage::coordinator::keeper::keep(Arc::clone(service)));
            }
        }
        let addresses: Vec<_> = ports.iter().map(|(name, port)| (name.clone(), port.address)).collect();
        eprint!("{}", banner(&config, &addresses, admin));
        Ok(Self { config, source, log_level, memories, services, ports, shown, signals })
    }

    async fn live(mut self) {
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
                _ = self.signals.reload.recv() => self.reload().await,
            }
        }
        self.shut_down().await;
    }

    /// Lets calls end within the grace, then closes the stores.
    async fn shut_down(self) {
        info!("shutting down: no new requests; those under way may end");
        let grace = self.config.node.shutdown_grace.0;
        let ports = self.ports.into_values().map(|port| async move {
            port.accepting.abort();
            port.winding.wind_down(grace).await;
        });
        futures_util::future::join_all(ports).await;
        for (name, service) in self.services.iter() {
            if let Some(engine) = service.store().engine_if_open()
                && let Err(error) = engine.close().await
            {
                error!(service = %name, %error, "the store was not closed cleanly; nothing acknowledged is lost");
            }
        }
        info!("stopped");
    }

    /// Reads the file again and swaps what it changed. A bad file changes nothing.
    async fn reload(&mut self) {
        let Source::File(path) = &self.source else {
            warn!("SIGHUP: this broker runs on flags, there is no file to read again; use `yagura run FILE`");
            return;
        };
        match config::load(path) {
            Err(faults) => error!("SIGHUP: {} was not taken, nothing changed:\n{faults}", path.display()),
            Ok(config) => {
                if let Err(message) = self.swap(config) {
                    error!("SIGHUP: the new config was not taken, nothing changed: {message}");
                }
            }
        }
    }

    fn swap(&mut self, config: Config) -> Result<(), String> {
        let changes = config::compare(&self.config, &config);
        if !changes.needs_restart.is_empty() {
            return Err(format!("{} can change only with a restart", changes.needs_restart.join(", ")));
        }
        // Everything that can fail comes first: build all towers, bind all new ports.
        let (towers, collectors) = assembly::towers(&config, &self.services, &self.memories)?;
        let explained =
            towers.iter().map(|(name, tower)| (name.clone(), assembly::chains(&tower.stack))).collect();
        let mut fresh = Vec::new();
        let mut swapped = Vec::new();
        for (name, tower) in towers {
            let settings = &config.listeners[&name];
            if changes.added.contains(&name) {
                fresh.push((name.clone(), Listener::bind(&name, settings, tower)?));
            } else if changes.changed.contains(&name) {
                swapped.push((name, tower));
            }
        }
        let grace = config.node.reload_drain.0;
        for (name, tower) in swapped {
            if let Some(port) = self.ports.get_mut(&name) {
                let winding = port.swap.install(tower, &config.listeners[&name]);
                tokio::spawn(std::mem::replace(&mut port.winding, winding).wind_down(grace));
            }
        }
        for name in &changes.removed {
            if let Some(port) = self.ports.remove(name) {
                port.accepting.abort();
                tokio::spawn(port.winding.wind_down(grace));
            }
        }
        for (name, (listener, winding)) in fresh {
            self.ports.insert(name, accept(listener, winding));
        }
        let shown = Shown::new(&config, collectors, self.services.clone(), explained);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
        info!(
            added = ?changes.added, removed = ?changes.removed, changed = ?changes.changed, kept = ?changes.kept,
            "SIGHUP: the new config is in force"
        );
        self.log_level.set(&config.log.level);
        self.config = config;
        Ok(())
    }
}

fn accept(listener: Listener, winding: Winding) -> Port {
    let (address, swap) = (listener.address(), listener.swap());
    Port { address, swap, winding, accepting: tokio::spawn(listener.accept()) }
}

async fn start_admin(config: &Config, shown: &Arc<RwLock<Shown>>) -> Result<Option<SocketAddr>, String> {
    let Some(bind) = config.admin.bind else { return Ok(None) };
    let cannot = |error: std::io::Error| {
        format!(
            "the admin server cannot bind {bind}: {error}; choose another address with --admin or [admin] bind, or \"off\""
        )
    };
    let socket = TcpListener::bind(bind).await.map_err(cannot)?;
    let address = socket.local_addr().map_err(cannot)?;
    tokio::spawn(admin::serve(socket, Arc::clone(shown)));
    Ok(Some(address))
}

async fn open_all(unopened: Vec<Unopened>) -> Result<(), String> {
    for service in unopened {
        let name = service.name.clone();
        let opened = tokio::task::spawn_blocking(move || service.open()).await;
        let opened = opened.map_err(|error| format!("opening service {name} failed: {error}"))?;
        opened.map_err(|error| format!("service {name}: {error}"))?;
    }
    Ok(())
}

/// Applies retention now and then, for as long as the process lives, and gives back the memory of a load that is over.
async fn maintain(service: Arc<Service>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        allocator::give_back();
        let Some(engine) = service.store().engine_if_open() else { continue };
        match engine.maintain(service.upkeep()).await {
            Ok(done) if done == storage::engines::Maintained::default() => {}
            Ok(done) => info!(
                partitions_trimmed = done.partitions_trimmed,
                producers_forgotten = done.producers_forgotten,
                bytes_freed = done.bytes_freed,
                "retention was applied"
            ),
            Err(error) => warn!(%error, "retention could not be applied; it is tried again in {every:?}"),
        }
    }
}
