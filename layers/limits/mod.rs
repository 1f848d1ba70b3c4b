//! Limits: how many connections a listener takes, and how long one may be idle.
//!
//! **Where it stands.** Above framing, among the layers that see a stream of bytes; first of them, so that a
//! refused connection costs nothing else (no TLS handshake).
//!
//! **What it reads and sets.** It reads the listener and the client's address from the session. It puts a
//! guard on the connection, which stops counting it however it ends, and wraps the stream in a timer that any
//! byte resets, in either direction. An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) counts as the IPv4
//! address.
//!
//! **How it refuses.** By closing, before a byte is read: Kafka's protocol has no other way. Refusals are
//! counted, and logged at most once a second with the setting that caused them. An idle connection is closed
//! like a broken one; a call in flight does not keep it open, as in Kafka, so `idle_timeout` should exceed
//! the longest wait of a client (a rebalance takes up to five minutes).
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
use std::sync::Arc;
use std::time::Duration;

use kernel::layer::{Layer, LayerParts, Plane, RegisterLayer};
use kernel::metrics::{Collect, Counter, MetricKind, Page};
use kernel::settings::{COUNT, SOME_TIME, Setting};
use kernel::stream::{Connection, StreamLayer};
use kernel::units::Span;
use kernel::{Hangup, Session};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::log_throttle::LogThrottle;
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

impl RegisterLayer for Limits {
    const NAME: &'static str = "limits";
    const ABOUT: &'static str =
        "How many connections there may be, and how long one may be silent. Stands above `framing`.";
    const PLANE: Plane = Plane::Bytes;
    const SETTINGS: &'static [Setting] = &[
        Setting::new(
            "connections_max",
            COUNT,
            "Connections of one listener; a further one is closed at once.",
        ),
        Setting::optional(
            "connections_per_address_max",
            COUNT,
            "no limit for one address",
            "Connections from one client address.",
        ),
        Setting::new("idle_timeout", SOME_TIME, "A connection that is silent for so long is closed."),
    ];
    type Settings = Settings;

    fn build(settings: &Settings, parts: &mut LayerParts<'_>) -> Result<Layer, String> {
        let limits = Arc::new(Self::new(parts.name, settings));
        parts.collect(limits.clone());
        Ok(Layer::Bytes(limits))
    }
}

/// The layer. Listeners that share it are counted separately.
pub struct Limits {
    /// Its name in the config, which labels its metrics.
    name: Arc<str>,
    settings: Settings,
    open: Arc<OpenConnections>,
    refused_by_listener: Counter,
    refused_by_address: Counter,
    closed_idle: Arc<Counter>,
    refusals: LogThrottle,
}

/// The connections that are open, by listener.
#[derive(Debug, Default)]
struct OpenConnections(Mutex<HashMap<Arc<str>, ListenerCount>>);

#[derive(Debug, Default)]
struct ListenerCount {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Counts a connection as open until dropped.
struct OpenGuard {
    open: Arc<OpenConnections>,
    listener: Arc<str>,
    address: IpAddr,
}

/// The limit that has been reached, and its value.
enum Exceeded {
    Listener(usize),
    Address(usize),
}

impl OpenConnections {
    /// Counts another connection, unless a limit is reached.
    fn add(self: &Arc<Self>, session: &Session, settings: &Settings) -> Result<OpenGuard, Exceeded> {
        let address = session.peer.ip().to_canonical();
        let mut listeners = self.0.lock();
        let count = listeners.entry(Arc::clone(&session.listener)).or_default();
        if count.all >= settings.connections_max {
            return Err(Exceeded::Listener(settings.connections_max));
        }
        let of_address = count.by_address.get(&address).copied().unwrap_or(0);
        if let Some(most) = settings.connections_per_address_max
            && of_address >= most
        {
            return Err(Exceeded::Address(most));
        }
        count.all += 1;
        count.by_address.insert(address, of_address + 1);
        Ok(OpenGuard { open: Arc::clone(self), listener: Arc::clone(&session.listener), address })
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        let mut listeners = self.open.0.lock();
        let Some(count) = listeners.get_mut(&self.listener) else { return };
        count.all = count.all.saturating_sub(1);
        if let Some(of_address) = count.by_address.get_mut(&self.address) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                count.by_address.remove(&self.address);
            }
        }
    }
}

impl Limits {
    /// A layer of this name with these settings, without connections.
    pub fn new(name: &str, settings: &Settings) -> Self {
        Self {
            name: Arc::from(name),
            settings: settings.clone(),
            open: Arc::default(),
            refused_by_listener: Counter::default(),
            refused_by_address: Counter::default(),
            closed_idle: Arc::default(),
            refusals: LogThrottle::default(),
        }
    }

    fn try_admit(&self, mut connection: Connection) -> Result<Connection, Hangup> {
        let guard: Box<dyn Any + Send> = match self.open.add(&connection.session, &self.settings) {
            Ok(guard) => Box::new(guard),
            Err(exceeded) => return Err(self.refuse(&connection.session, &exceeded)),
        };
        connection.guards.push(guard);
        let idle_timeout = self.settings.idle_timeout.0;
        connection.stream =
            Box::new(IdleTimeout::new(connection.stream, idle_timeout, Arc::clone(&self.closed_idle)));
        Ok(connection)
    }

    fn refuse(&self, session: &Session, exceeded: &Exceeded) -> Hangup {
        let (counter, setting, most, remedy) = match exceeded {
            Exceeded::Listener(most) => {
                let remedy = "raise it, or find the clients that hold them open";
                (&self.refused_by_listener, "connections_max", most, remedy)
            }
            Exceeded::Address(most) => {
                let remedy = "raise it, or find what opens so many there (a gateway counts as one address)";
                (&self.refused_by_address, "connections_per_address_max", most, remedy)
            }
        };
        counter.add(1);
        if let Some(held_back) = self.refusals.allow() {
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
        page.family("yagura_connections_refused_total", MetricKind::Counter, help);
        let layer = ("layer", &*self.name);
        page.sample(&[layer, ("limit", "connections_max")], self.refused_by_listener.get() as f64);
        page.sample(&[layer, ("limit", "connections_per_address_max")], self.refused_by_address.get() as f64);
        let help = "Connections that were closed because no byte passed for idle_timeout.";
        page.family("yagura_connections_idle_closed_total", MetricKind::Counter, help);
        page.sample(&[layer], self.closed_idle.get() as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kernel::session::HostPort;

    use super::*;

    /// A connection, and the client's end of it.
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
        let limits = Limits::new("limits", &Settings { connections_max: 2, ..Settings::default() });
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
        let limits = Limits::new("limits", &settings);
        let first = admit(&limits, "main", "10.0.0.1").await.unwrap();
        assert!(admit(&limits, "main", "10.0.0.1").await.is_err());
        assert!(admit(&limits, "main", "::ffff:10.0.0.1").await.is_err(), "the same address in IPv6");
        let second = admit(&limits, "main", "10.0.0.2").await.unwrap();
        drop((first, second));
        assert!(limits.open.0.lock()["main"].by_address.is_empty());
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
