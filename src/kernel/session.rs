//! The state of one client connection.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::drain::Drain;

/// A host and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// The client library, as sent in ApiVersions 3+ (KIP-511).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSoftware {
    /// Such as `apache-kafka-java`.
    pub name: String,
    /// Such as `4.1.1`.
    pub version: String,
}

/// One connection. Stacks are shared by connections, sessions are not.
#[derive(Debug)]
pub struct Session {
    /// A number that increases over the life of the process.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The name of the listener in the config.
    pub listener: Arc<str>,
    /// The address advertised to this client.
    pub advertised: HostPort,
    /// The drain signal.
    pub drain: Drain,
    principal: RwLock<Arc<str>>,
    software: OnceLock<ClientSoftware>,
    request_bytes_max: OnceLock<usize>,
    has_ended: Arc<watch::Sender<bool>>,
    state: Mutex<Vec<(Owner, Arc<dyn Any + Send + Sync>)>>,
}

/// Identifies a layer or service that keeps state in sessions. Two of the same kind have separate state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(u64);

impl Owner {
    /// A unique owner.
    #[allow(clippy::new_without_default)] // A default is expected to equal itself.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Kafka's principal for an unauthenticated client.
pub const ANONYMOUS: &str = "User:ANONYMOUS";

impl Session {
    /// A session without a principal.
    pub fn new(
        id: u64,
        peer: SocketAddr,
        local: SocketAddr,
        listener: Arc<str>,
        advertised: HostPort,
        drain: Drain,
    ) -> Self {
        Self {
            id,
            peer,
            local,
            listener,
            advertised,
            drain,
            principal: RwLock::new(Arc::from(ANONYMOUS)),
            software: OnceLock::new(),
            request_bytes_max: OnceLock::new(),
            has_ended: Arc::new(watch::Sender::new(false)),
            state: Mutex::new(Vec::new()),
        }
    }

    /// The same connection without the state that layers and services keep for it, for calls that outlive the call
    /// they are part of: this session may hold them without a circle.
    pub fn without_state(&self) -> Session {
        Self {
            id: self.id,
            peer: self.peer,
            local: self.local,
            listener: Arc::clone(&self.listener),
            advertised: self.advertised.clone(),
            drain: self.drain.clone(),
            principal: RwLock::new(self.principal()),
            software: self.software.clone(),
            request_bytes_max: self.request_bytes_max.clone(),
            has_ended: Arc::clone(&self.has_ended),
            state: Mutex::new(Vec::new()),
        }
    }

    /// The client's principal, in Kafka's form `Type:name`.
    pub fn principal(&self) -> Arc<str> {
        Arc::clone(&self.principal.read())
    }

    /// Sets the principal; for the layer that authenticated the client.
    pub fn set_principal(&self, principal: Arc<str>) {
        *self.principal.write() = principal;
    }

    /// Declares that the client will send no more.
    pub fn end(&self) {
        self.has_ended.send_replace(true);
    }

    /// Whether the client will send no more.
    pub fn has_ended(&self) -> bool {
        *self.has_ended.borrow()
    }

    /// Waits until the client will send no more: what it asked for is answered then without waiting for others.
    pub async fn ended(&self) {
        // The sender lives as long as the session, so that waiting does not fail.
        let _ = self.has_ended.subscribe().wait_for(|has_ended| *has_ended).await;
    }

    /// The client library, once announced.
    pub fn software(&self) -> Option<&ClientSoftware> {
        self.software.get()
    }

    /// Keeps the first announcement of the client library; a later one changes nothing, as in Kafka.
    pub fn set_software(&self, software: ClientSoftware) {
        let _ = self.software.set(software);
    }

    /// The longest request that is read from the client, in bytes, once framing has said it.
    pub fn request_bytes_max(&self) -> Option<usize> {
        self.request_bytes_max.get().copied()
    }

    /// Sets the longest request, once; for framing.
    pub fn set_request_bytes_max(&self, bytes: usize) {
        let _ = self.request_bytes_max.set(bytes);
    }

    /// The state that a layer or service keeps for this connection, made at first use.
    ///
    /// States are keyed by owner and type, so that layers need not know each other's.
    pub fn state<T: Any + Send + Sync + Default>(&self, owner: Owner) -> Arc<T> {
        let mut states = self.state.lock();
        let of_owner = states.iter().filter(|(other, _)| *other == owner);
        let found = of_owner.map(|(_, state)| Arc::clone(state)).find_map(|state| state.downcast::<T>().ok());
        found.unwrap_or_else(|| {
            let fresh = Arc::new(T::default());
            states.push((owner, fresh.clone()));
            fresh
        })
    }

    /// A session on loopback for tests of layers and services.
    pub fn for_tests() -> Arc<Session> {
        let address = SocketAddr::from(([127, 0, 0, 1], 9092));
        let advertised = HostPort { host: "localhost".to_owned(), port: 9092 };
        // The sender is leaked, because a dropped one counts as started.
        let (signal, drain) = crate::drain::drain();
        std::mem::forget(signal);
        Arc::new(Session::new(0, address, address, Arc::from("test"), advertised, drain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_do_not_see_each_others_state() {
        let session = Session::for_tests();
        let (one, other) = (Owner::new(), Owner::new());
        *session.state::<Mutex<i32>>(one).lock() = 1;
        *session.state::<Mutex<i32>>(other).lock() = 2;
        assert_eq!(*session.state::<Mutex<i32>>(one).lock(), 1);
        assert_eq!(*session.state::<Mutex<i32>>(other).lock(), 2);
    }

    #[test]
    fn the_same_connection_without_its_state_has_one_of_its_own() {
        let session = Session::for_tests();
        session.set_principal(Arc::from("User:ann"));
        session.set_request_bytes_max(1 << 20);
        let owner = Owner::new();
        *session.state::<Mutex<i32>>(owner).lock() = 1;
        let below = session.without_state();
        assert_eq!((&*below.principal(), below.id), ("User:ann", session.id));
        assert_eq!(below.request_bytes_max(), Some(1 << 20));
        assert_eq!(*below.state::<Mutex<i32>>(owner).lock(), 0);
    }
}
