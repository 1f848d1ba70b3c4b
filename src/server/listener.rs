//! Accepts connections and passes each to its listener's current tower.
//!
//! A listener outlives its towers: a reload installs a new tower, new connections use it, and those of the
//! old tower are drained.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::Listener as Settings;
use kernel::Session;
use kernel::drain::{Drain, DrainSignal, drain};
use kernel::panics;
use kernel::session::HostPort;
use kernel::stream::Connection;
use parking_lot::{Mutex, RwLock};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};

use super::assembly::Tower;
use super::watchdog::Watchdog;

/// Connections that may wait to be accepted, such as while the store opens.
const BACKLOG: u32 = 1024;

/// A bound port.
pub(super) struct Listener {
    name: Arc<str>,
    address: SocketAddr,
    socket: TcpListener,
    generation: Arc<RwLock<Arc<TowerGeneration>>>,
    sessions: Arc<AtomicU64>,
}

/// A tower and its connections.
struct TowerGeneration {
    tower: Tower,
    advertise: Option<HostPort>,
    drain: Drain,
    /// Signals that connections still open after the grace period must be dropped.
    cut: Drain,
    /// Each connection holds a clone; once all are dropped, the channel of [`DrainHandle`] closes.
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

/// Drains the connections of one generation.
pub(super) struct DrainHandle {
    generation: Arc<TowerGeneration>,
    drain: DrainSignal,
    cut: DrainSignal,
    ended: mpsc::Receiver<()>,
}

impl DrainHandle {
    /// Stops reading, lets calls finish within `grace`, then drops the remaining connections.
    pub(super) async fn wind_down(mut self, grace: Duration) {
        self.drain.start();
        drop(self.generation.alive.lock().take());
        if tokio::time::timeout(grace, self.ended.recv()).await.is_err() {
            warn!(?grace, "connections with calls under way were dropped, because they did not end in time");
            self.cut.start();
            self.ended.recv().await;
        }
    }
}

fn generation(tower: Tower, advertise: Option<HostPort>) -> (Arc<TowerGeneration>, DrainHandle) {
    let (drain_signal, drain_sign) = drain();
    let (cut_signal, cut) = drain();
    let (alive, ended) = mpsc::channel(1);
    let alive = Mutex::new(Some(alive));
    let generation = Arc::new(TowerGeneration { tower, advertise, drain: drain_sign, cut, alive });
    (Arc::clone(&generation), DrainHandle { generation, drain: drain_signal, cut: cut_signal, ended })
}

/// An accepting listener, and how to change or close it.
pub(super) struct Port {
    address: SocketAddr,
    generation: Arc<RwLock<Arc<TowerGeneration>>>,
    drain_handle: DrainHandle,
    accepting: JoinHandle<()>,
}

impl Port {
    /// Accepts connections from now on. The process cannot go on without that.
    pub(super) fn open(listener: Listener, drain_handle: DrainHandle, watchdog: &Watchdog) -> Self {
        let (address, generation) = (listener.address, Arc::clone(&listener.generation));
        let what = format!("the accept loop of listener {}", listener.name);
        let accepting = watchdog.spawn(&what, listener.accept());
        Self { address, generation, drain_handle, accepting }
    }

    /// The address that was bound, with the port that the system chose if the config said 0.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends new connections to `tower` from now on. The caller must drain those of the previous tower.
    pub(super) fn install(&mut self, tower: Tower, settings: &Settings) -> DrainHandle {
        let (next, drain_handle) = generation(tower, settings.advertise.clone());
        *self.generation.write() = next;
        std::mem::replace(&mut self.drain_handle, drain_handle)
    }

    /// Serves the connections to come as before. The caller must drain those that are there.
    pub(super) fn renew(&mut self) -> DrainHandle {
        let mut current = self.generation.write();
        let (next, drain_handle) = generation(current.tower.clone(), current.advertise.clone());
        *current = next;
        drop(current);
        std::mem::replace(&mut self.drain_handle, drain_handle)
    }

    /// Closes the port. The caller must drain the connections.
    pub(super) async fn close(self) -> DrainHandle {
        self.accepting.abort();
        // Once the task has ended, its socket is closed and the port can be bound again.
        let _ = self.accepting.await;
        self.drain_handle
    }
}

impl Listener {
    /// Binds the port.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy.
    pub(super) fn bind(name: &str, settings: &Settings, tower: Tower) -> Result<(Self, DrainHandle), String> {
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
        let (first, drain_handle) = generation(tower, settings.advertise.clone());
        let generation = Arc::new(RwLock::new(first));
        Ok((
            Self { name: Arc::from(name), address, socket, generation, sessions: Arc::default() },
            drain_handle,
        ))
    }

    /// The address that was bound, with the port that the system chose if the config said 0.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until dropped.
    async fn accept(self) -> String {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => self.start_serving(stream, peer),
                Err(error) => {
                    // Usually "too many open files". A pause avoids a busy loop.
                    warn!(listener = %self.name, %error, "a connection could not be accepted; raise the limit on open files if this goes on");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn start_serving(&self, stream: TcpStream, peer: SocketAddr) {
        let generation = Arc::clone(&self.generation.read());
        let alive = generation.alive.lock().clone();
        let Some(alive) = alive else { return };
        let Ok(local) = stream.local_addr() else { return }; // The client has disconnected already.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "TCP_NODELAY could not be set");
        }
        let advertised = generation.advertise.clone().unwrap_or_else(|| connected_to(local));
        let id = self.sessions.fetch_add(1, Ordering::Relaxed);
        let session =
            Session::new(id, peer, local, Arc::clone(&self.name), advertised, generation.drain.clone());
        tokio::spawn(async move {
            let connection = Connection { stream: Box::new(stream), session, guards: Vec::new() };
            let served = async {
                tokio::select! {
                    () = serve(&generation, connection) => {}
                    () = generation.cut.started() => {}
                }
            };
            // What it holds, such as memory of requests, is released in any case.
            if let Err(panic) = panics::catch(served).await {
                error!(
                    %peer,
                    message_of_panic = panic.as_str(),
                    "a connection panicked and is closed; this is a bug in Yagura, please report it"
                );
            }
            drop(alive);
        });
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted broker can bind its port again immediately.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The advertised address when the config has none: the address that the client connected to.
pub(super) fn connected_to(local: SocketAddr) -> HostPort {
    let host = match local.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string()),
        IpAddr::V4(v4) => v4.to_string(),
    };
    HostPort { host, port: local.port() }
}

async fn serve(generation: &TowerGeneration, mut connection: Connection) {
    let peer = connection.session.peer;
    for layer in &generation.tower.stream_layers {
        connection = match layer.admit(connection).await {
            Ok(connection) => connection,
            Err(reason) => {
                debug!(%peer, %reason, "a connection was closed before its first call");
                return;
            }
        };
    }
    let end = generation.tower.framer.serve(connection).await;
    debug!(%peer, %end, "a connection ended");
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::Pin;

    use kernel::layer::Framer;
    use kernel::{Door, Served, Stack};
    use tokio::io::AsyncReadExt;

    use super::*;

    /// Panics in every connection.
    struct PanickingFramer;

    impl Framer for PanickingFramer {
        fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
            Box::pin(panics_in(connection))
        }
    }

    async fn panics_in(mut connection: Connection) -> String {
        let mut byte = [0];
        let read = connection.stream.read(&mut byte).await;
        panic!("a bug in framing, after {read:?}")
    }

    #[tokio::test]
    async fn a_connection_that_panics_is_closed_and_nothing_else() {
        let (watchdog, bind) = (Watchdog::new(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let settings = Settings { bind, advertise: None, stack: Vec::new() };
        let door = Door::from_fn(|_| Box::pin(ready(Ok(None))));
        let stack = Arc::new(Stack::build(Vec::new(), door, Served::default));
        let tower = Tower { stream_layers: Vec::new(), framer: Arc::new(PanickingFramer), stack };
        let (listener, drain_handle) = Listener::bind("main", &settings, tower).unwrap();
        let port = Port::open(listener, drain_handle, &watchdog);
        for _ in 0..2 {
            let mut client = TcpStream::connect(port.address()).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut client, b"x").await.unwrap();
            assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0, "it is closed");
        }
        assert_eq!(watchdog.failure(), None);
        // No connection is left to wait for.
        let drained = port.close().await.wind_down(Duration::from_secs(3_600));
        tokio::time::timeout(Duration::from_secs(60), drained).await.unwrap();
    }
}
