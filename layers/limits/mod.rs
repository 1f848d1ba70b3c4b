//! Limits: how many connections a listener takes, and how long one may be idle.
//!
//! **Where it stands.** Above framing, among the layers that see a stream of bytes; first of them, so that a
//! refused connection has cost nothing else (no TLS handshake).
//!
//! **What it reads and sets.** It reads the listener and the client's address from the session. It leaves a
//! guard on the connection, which gives its place back however it ends, and wraps the stream in a clock that
//! any byte sets back, in either direction. An IPv4 address is the same address whether it comes in IPv6
//! clothes or not.
//!
//! **How it refuses.** By closing, before a byte is read: Kafka has no other word for it. Refusals are
//! counted, and the log says once a second what was refused and which setting did it. An idle connection is
//! closed like one that broke; a call under way does not keep it, as in Kafka, so `idle_timeout` should
//! exceed the longest wait of a client (a rebalance takes up to five minutes).
//!
//! ```toml
//! [layers.limits]
//! connections_max = 10000
//! idle_timeout = "10m"
//! # connections_per_address_max = 100     # left out: no limit
//! ```

mod idle;

use std::any::Any;
use std::collections::HashMap;
use std::future::{Future, ready};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::metrics::{Collect, Counter, Kind, Page};
use kernel::stream::{Connection, StreamLayer};
use kernel::units::Span;
use kernel::{Hangup, Session};
use serde::{Deserialize, Serialize};

use crate::pace::Pace;
use idle::IdleTimeout;

/// The settings of limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Most connections of a listener.
    pub connections_max: usize,
    /// Most connections of a listener from one address; `None` for no limit.
    pub connections_per_address_max: Option<usize>,
    /// How long a connection may neither send nor receive a byte.
    pub idle_timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: None,
            idle_timeout: Span(Duration::from_secs(600)),
        }
    }
}

/// The layer. Listeners that share it are counted apart.
pub struct Limits {
    name: Arc<str>,
    settings: Settings,
    places: Arc<Places>,
    refused_by_listener: Counter,
    refused_by_address: Counter,
    closed_idle: Arc<Counter>,
    pace: Pace,
}

/// The connections that are open, by listener.
#[derive(Debug, Default)]
struct Places(Mutex<HashMap<Arc<str>, Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; dropped, it is free again.
struct Place {
    places: Arc<Places>,
    listener: Arc<str>,
    address: IpAddr,
}

/// Which limit has been reached, and where it stands.
enum Full {
    Listener(usize),
    Address(usize),
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, session: &Session, settings: &Settings) -> Result<Place, Full> {
        let address = session.peer.ip().to_canonical();
        let mut places = self.lock();
        let taken = places.entry(Arc::clone(&session.listener)).or_default();
        if taken.all >= settings.connections_max {
            return Err(Full::Listener(settings.connections_max));
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if let Some(most) = settings.connections_per_address_max
            && of_address >= most
        {
            return Err(Full::Address(most));
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        Ok(Place { places: Arc::clone(self), listener: Arc::clone(&session.listener), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        let Some(taken) = places.get_mut(&self.listener) else { return };
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_address) = taken.by_address.get_mut(&self.address) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

impl Limits {
    /// The layer with these settings, and no connection yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            name: Arc::from("limits"),
            settings: settings.clone(),
            places: Arc::default(),
            refused_by_listener: Counter::default(),
            refused_by_address: Counter::default(),
            closed_idle: Arc::default(),
            pace: Pace::default(),
        }
    }

    /// The layer under its name in the config, which tells its numbers from those of another `limits`.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Arc::from(name), ..self }
    }

    fn try_admit(&self, mut connection: Connection) -> Result<Connection, Hangup> {
        let taken = self.places.take(&connection.session, &self.settings);
        let place: Box<dyn Any + Send> = match taken {
            Ok(place) => Box::new(place),
            Err(full) => return Err(self.refuse(&connection.session, &full)),
        };
        connection.guards.push(place);
        let idle_timeout = self.settings.idle_timeout.0;
        connection.stream =
            Box::new(IdleTimeout::new(connection.stream, idle_timeout, Arc::clone(&self.closed_idle)));
        Ok(connection)
    }

    fn refuse(&self, session: &Session, full: &Full) -> Hangup {
        let (counter, setting, most, remedy) = match full {
            Full::Listener(most) => {
                let remedy = "raise it, or find the clients that hold them open";
                (&self.refused_by_listener, "connections_max", most, remedy)
            }
            Full::Address(most) => {
                let remedy = "raise it, or find what opens so many there (a gateway counts as one address)";
                (&self.refused_by_address, "connections_per_address_max", most, remedy)
            }
        };
        counter.add(1);
        if let Some(held_back) = self.pace.allow() {
            let (listener, peer) = (&*session.listener, session.peer);
            tracing::warn!(
                listener,
                %peer,
                held_back,
                "a connection was closed because the {most} that {setting} allows are open: {remedy}"
            );
        }
        Hangup::because(format!("{setting} ({most}) is reached"))
    }
}

impl StreamLayer for Limits {
    fn admit(
        &self,
        connection: Connection,
    ) -> Pin<Box<dyn Future<Output = Result<Connection, Hangup>> + Send + '_>> {
        Box::pin(ready(self.try_admit(connection)))
    }
}

impl Collect for Limits {
    fn collect(&self, page: &mut Page) {
        let help = "Connections that were closed at once because a limit was reached.";
        page.family("yagura_connections_refused_total", Kind::Counter, help);
        let layer = ("layer", &*self.name);
        page.sample(&[layer, ("limit", "connections_max")], self.refused_by_listener.get() as f64);
        page.sample(&[layer, ("limit", "connections_per_address_max")], self.refused_by_address.get() as f64);
        let help = "Connections that were closed because no byte passed for idle_timeout.";
        page.family("yagura_connections_idle_closed_total", Kind::Counter, help);
        page.sample(&[layer], self.closed_idle.get() as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kernel::session::HostPort;

    use super::*;

    /// A connection, beside the client's end of it.
    fn connection(listener: &str, address: &str) -> (tokio::io::DuplexStream, Connection) {
        let (pipe, server) = tokio::io::duplex(100);
        let peer = SocketAddr::new(address.parse().unwrap(), 50_000);
        let advertised = HostPort { host: "localhost".to_owned(), port: 9092 };
        let (_, drain) = kernel::drain::drain();
        let session = Session::new(1, peer, peer, Arc::from(listener), advertised, drain);
        (pipe, Connection { stream: Box::new(server), session, guards: Vec::new() })
    }

    async fn admit(limits: &Limits, listener: &str, address: &str) -> Result<Connection, Hangup> {
        limits.admit(connection(listener, address).1).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_takes_so_many_and_each_that_ends_makes_room() {
        let limits = Limits::new(&Settings { connections_max: 2, ..Settings::default() });
        let first = admit(&limits, "main", "10.0.0.1").await.unwrap();
        let _second = admit(&limits, "main", "10.0.0.2").await.unwrap();
        assert!(admit(&limits, "main", "10.0.0.3").await.is_err());
        let _other = admit(&limits, "other", "10.0.0.3").await.unwrap();
        drop(first);
        let _third = admit(&limits, "main", "10.0.0.3").await.unwrap();
        assert!(admit(&limits, "main", "10.0.0.3").await.is_err());
        assert_eq!(limits.refused_by_listener.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_takes_so_many_and_is_forgotten_when_the_last_has_ended() {
        let settings = Settings { connections_per_address_max: Some(1), ..Settings::default() };
        let limits = Limits::new(&settings);
        let first = admit(&limits, "main", "10.0.0.1").await.unwrap();
        assert!(admit(&limits, "main", "10.0.0.1").await.is_err());
        assert!(admit(&limits, "main", "::ffff:10.0.0.1").await.is_err(), "the same address in IPv6");
        let second = admit(&limits, "main", "10.0.0.2").await.unwrap();
        drop((first, second));
        assert!(limits.places.lock()["main"].by_address.is_empty());
        assert!(admit(&limits, "main", "10.0.0.1").await.is_ok());
        let mut page = Page::default();
        limits.collect(&mut page);
        let refused = "{layer=\"limits\",limit=\"connections_per_address_max\"} 2\n";
        assert!(page.into_text().contains(&format!("yagura_connections_refused_total{refused}")));
    }

    #[test]
    fn the_documented_settings_are_the_defaults() {
        let documented: Settings = crate::doc_toml::layer(include_str!("mod.rs"), "limits");
        assert_eq!(documented, Settings::default());
        assert!(
            toml::from_str::<Settings>("connection_max = 1").is_err(),
            "a name that is not there is an error"
        );
        let some: Settings = toml::from_str("connections_per_address_max = 100").unwrap();
        assert_eq!(some.connections_per_address_max, Some(100));
    }
}
