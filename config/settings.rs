//! A config after it was read: plain values, gathered from every room.
//!
//! `Node`, `Log`, `Admin` and `Listener` are the trunk's own; a layer's or service's `Settings` stand beside it. To add a
//! layer: a variant in each enum here, an arm in `decode`, a section in `reference`; the compiler asks for each.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kernel::session::HostPort;
use kernel::units::{ByteSize, Span};
use layers::{framing, limits, metrics, route, trace};
use serde::{Deserialize, Serialize};

use crate::values::{Secret, admin_bind, optional_host_port};

/// The step of a stack that `[route]` sets up.
pub const ROUTE: &str = "route";

/// A whole config.
///
/// Serialized, it is what it was read from with every default filled in and every secret masked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[log]`
    pub log: Log,
    /// `[admin]`
    pub admin: Admin,
    /// `[listeners.NAME]`, at least one.
    pub listeners: BTreeMap<String, Listener>,
    /// Every layer that a stack names, whether the file has a `[layers.NAME]` for it or not.
    pub layers: BTreeMap<String, LayerSettings>,
    /// `[services.NAME]`
    pub services: BTreeMap<String, ServiceSettings>,
    /// `[route]`, if a stack ends in it.
    pub route: Option<route::Settings>,
}

/// `[node]`: what this process is in its cluster, and how much it may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// The cluster's id, as clients see it.
    pub cluster_id: String,
    /// The broker's id.
    pub node_id: i32,
    /// Bytes that requests of all connections may hold at once.
    pub request_memory: ByteSize,
    /// Bytes that replies of all connections may hold at once.
    pub reply_memory: ByteSize,
    /// How long calls under way may take after SIGTERM.
    pub shutdown_grace: Span,
    /// How long connections of a listener that a reload changed may go on.
    pub reload_drain: Span,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            cluster_id: "yagura".to_owned(),
            node_id: 1,
            request_memory: ByteSize(256 << 20),
            reply_memory: ByteSize(256 << 20),
            shutdown_grace: Span(std::time::Duration::from_secs(10)),
            reload_drain: Span(std::time::Duration::from_secs(30)),
        }
    }
}

/// `[log]`: what is written to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object per line.
    Json,
}

/// `[admin]`: the HTTP server for metrics and health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Where it listens; `None` when it is off.
    #[serde(with = "admin_bind")]
    pub bind: Option<SocketAddr>,
    /// What a caller has to show; required where other machines can connect.
    pub token: Option<Secret>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { bind: Some(SocketAddr::from(([127, 0, 0, 1], 9464))), token: None }
    }
}

/// `[listeners.NAME]`: a port and the tower behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Where it listens.
    pub bind: SocketAddr,
    /// What clients are told to connect to; `None` for the address they connected to.
    #[serde(default, with = "optional_host_port")]
    pub advertise: Option<HostPort>,
    /// Layers from the client's side down; the last is `route` or a service.
    pub stack: Vec<String>,
}

/// Which part of a connection a layer works on; a stack has them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plane {
    /// The byte stream, above framing.
    Bytes,
    /// From bytes to calls.
    Framing,
    /// Calls, below framing.
    Calls,
}

/// The kinds of layers that `[layers.NAME]` sets up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Each is the layer of that name.
pub enum LayerKind {
    Limits,
    Framing,
    Metrics,
    Trace,
}

impl LayerKind {
    /// All kinds, in the order in which they usually stand.
    pub const ALL: [LayerKind; 4] =
        [LayerKind::Limits, LayerKind::Framing, LayerKind::Metrics, LayerKind::Trace];

    /// The kind's name in a config.
    pub fn name(self) -> &'static str {
        match self {
            LayerKind::Limits => "limits",
            LayerKind::Framing => "framing",
            LayerKind::Metrics => "metrics",
            LayerKind::Trace => "trace",
        }
    }

    /// The kind with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Where in a stack it may stand.
    pub fn plane(self) -> Plane {
        match self {
            LayerKind::Limits => Plane::Bytes,
            LayerKind::Framing => Plane::Framing,
            LayerKind::Metrics | LayerKind::Trace => Plane::Calls,
        }
    }
}

/// A layer's settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[allow(missing_docs)] // Each is the layer of that name.
pub enum LayerSettings {
    Limits(limits::Settings),
    Framing(framing::Settings),
    Metrics(metrics::Settings),
    Trace(trace::Settings),
}

impl LayerSettings {
    /// The layer's kind.
    pub fn kind(&self) -> LayerKind {
        match self {
            LayerSettings::Limits(_) => LayerKind::Limits,
            LayerSettings::Framing(_) => LayerKind::Framing,
            LayerSettings::Metrics(_) => LayerKind::Metrics,
            LayerSettings::Trace(_) => LayerKind::Trace,
        }
    }
}

/// A service's settings.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ServiceSettings {
    /// The broker.
    Storage(storage::Settings),
}

/// The names that a service's `kind` may have.
pub(crate) const SERVICE_KINDS: [&str; 1] = ["storage"];

impl Config {
    /// The services that a listener's calls may reach, each once, by name.
    pub fn services_of(&self, listener: &Listener) -> Vec<&str> {
        let Some(last) = listener.stack.last() else { return Vec::new() };
        let mut names: Vec<&str> = match &self.route {
            Some(route) if last == ROUTE => {
                let to = route.rules.iter().map(|rule| rule.to.as_str());
                to.chain([route.default.as_str()]).collect()
            }
            _ => Vec::new(),
        };
        if last != ROUTE {
            names.extend(self.services.get_key_value(last).map(|(name, _)| name.as_str()));
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}
