//! Accepts connections and hands each to the tower of the day.
//!
//! A listener outlives its towers: a reload gives it another one, new connections go there, and those of the old one
//! are wound down.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use config::Listener as Settings;
use kernel::Session;
use kernel::drain::{Drain, DrainSignal, drain};
use kernel::session::HostPort;
use kernel::stream::Connection;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::assembly::Tower;

/// Connections that may wait to be accepted, such as while the store opens.
const BACKLOG: u32 = 1024;

/// A bound port.
pub(super) struct Listener {
    name: Arc<str>,
    address: SocketAddr,
    socket: TcpListener,
    floor: Arc<RwLock<Arc<Floor>>>,
    sessions: Arc<AtomicU64>,
}

/// A tower in use, and the connections on it.
struct Floor {
    tower: Tower,
    advertise: Option<HostPort>,
    drain: Drain,
    /// Given when connections that have not ended in time are to be dropped.
    cut: Drain,
    /// Each connection holds a clone; once all are dropped, the receiver in [`Winding`] hears of it.
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

/// The means to wind a floor down.
pub(super) struct Winding {
    floor: Arc<Floor>,
    drain: DrainSignal,
    cut: DrainSignal,
    ended: mpsc::Receiver<()>,
}

impl Winding {
    /// Stops reading, lets calls end within `grace`, then drops what is left. Says how many connections that were.
    pub(super) async fn wind_down(mut self, grace: Duration) {
        self.drain.start();
        drop(self.floor.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
        if tokio::time::timeout(grace, self.ended.recv()).await.is_err() {
            warn!(?grace, "connections with calls under way were dropped, because they did not end in time");
            self.cut.start();
            self.ended.recv().await;
        }
    }
}

fn floor(tower: Tower, settings: &Settings) -> (Arc<Floor>, Winding) {
    let (drain_signal, drain_sign) = drain();
    let (cut_signal, cut) = drain();
    let (alive, ended) = mpsc::channel(1);
    let alive = Mutex::new(Some(alive));
    let floor =
        Arc::new(Floor { tower, advertise: settings.advertise.clone(), drain: drain_sign, cut, alive });
    (Arc::clone(&floor), Winding { floor, drain: drain_signal, cut: cut_signal, ended })
}

/// Where to put another tower under a listener.
#[derive(Clone)]
pub(super) struct Swap(Arc<RwLock<Arc<Floor>>>);

impl Swap {
    /// New connections go to `tower` from now on.
    pub(super) fn install(&self, tower: Tower, settings: &Settings) -> Winding {
        let (floor, winding) = floor(tower, settings);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = floor;
        winding
    }
}

impl Listener {
    /// Binds the port.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy.
    pub(super) fn bind(name: &str, settings: &Settings, tower: Tower) -> Result<(Self, Winding), String> {
        let socket = bind(settings.bind).map_err(|error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another process listens there; stop it, or choose another port with --listen or `bind`"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "choose a port above 1023, or run with the right to bind it"
                }
                std::io::ErrorKind::AddrNotAvailable => "this machine has no such address",
                _ => "check the address",
            };
            format!("listener {name} cannot bind {}: {error}; {remedy}", settings.bind)
        })?;
        let address =
            socket.local_addr().map_err(|error| format!("listener {name} has no address: {error}"))?;
        let (floor, winding) = floor(tower, settings);
        let floor = Arc::new(RwLock::new(floor));
        Ok((Self { name: Arc::from(name), address, socket, floor, sessions: Arc::default() }, winding))
    }

    /// The address that was bound, with the port that the system chose if the config said 0.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The means to give it another tower.
    pub(super) fn swap(&self) -> Swap {
        Swap(Arc::clone(&self.floor))
    }

    /// Accepts until it is dropped.
    pub(super) async fn accept(self) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => self.welcome(stream, peer),
                Err(error) => {
                    // Usually "too many open files". Waiting is better than a loop that burns a core.
                    warn!(listener = %self.name, %error, "a connection could not be accepted; raise the limit on open files if this goes on");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        let floor = Arc::clone(&self.floor.read().unwrap_or_else(PoisonError::into_inner));
        let alive = floor.alive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(alive) = alive else { return };
        let Ok(local) = stream.local_addr() else { return }; // It has hung up already.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        let advertised = floor.advertise.clone().unwrap_or_else(|| connected_to(local));
        let id = self.sessions.fetch_add(1, Ordering::Relaxed);
        let session = Session::new(id, peer, local, Arc::clone(&self.name), advertised, floor.drain.clone());
        tokio::spawn(async move {
            let connection = Connection { stream: Box::new(stream), session, guards: Vec::new() };
            tokio::select! {
                () = climb(&floor, connection) => {}
                () = floor.cut.started() => {}
            }
            drop(alive);
        });
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A broker that was restarted takes its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What a client is told when the config names nothing: the address that it has reached us at.
fn connected_to(local: SocketAddr) -> HostPort {
    let host = match local.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        IpAddr::V4(v4) => v4.to_string(),
    };
    HostPort { host, port: local.port() }
}

async fn climb(floor: &Floor, mut connection: Connection) {
    let peer = connection.session.peer;
    for layer in &floor.tower.stream_layers {
        connection = match layer.admit(connection).await {
            Ok(connection) => connection,
            Err(reason) => {
                debug!(%peer, %reason, "a connection was closed before its first call");
                return;
            }
        };
    }
    let end = floor.tower.framing.serve(connection).await;
    debug!(%peer, %end, "a connection ended");
}
