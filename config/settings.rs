//! The decoded config: plain values.
//!
//! `Node`, `Log`, `Admin` and `Listener` are the server's own. The settings of layers and services belong to them: here
//! they can be compared and shown, and only their kind can read them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kernel::layer::LayerKind;
use kernel::service::ServiceKind;
use kernel::session::HostPort;
use kernel::settings::{NodeLimits, Settings};
use kernel::units::{ByteSize, Span};
use layers::route;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::values::{Secret, admin_bind, bind, optional_host_port};

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
    pub layers: BTreeMap<String, LayerConfig>,
    /// `[services.NAME]`
    pub services: BTreeMap<String, ServiceConfig>,
    /// `[route]`, if a stack ends in it.
    pub route: Option<route::Settings>,
}

/// `[node]`: what this process is in its cluster, and how much it may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// The cluster's id, as clients see it.
    pub cluster_id: String,
    /// The broker's id, if it is not to be given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<i32>,
    /// The rack that the broker is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
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
            node_id: None,
            rack: None,
            request_memory: ByteSize(256 << 20),
            reply_memory: ByteSize(256 << 20),
            shutdown_grace: Span(std::time::Duration::from_secs(10)),
            reload_drain: Span(std::time::Duration::from_secs(30)),
        }
    }
}

impl Node {
    /// What the settings of layers and services are checked against.
    pub fn limits(&self) -> NodeLimits {
        NodeLimits { request_memory: self.request_memory, reply_memory: self.reply_memory }
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
    #[serde(deserialize_with = "bind::deserialize")]
    pub bind: SocketAddr,
    /// What clients are told to connect to; `None` for the address they connected to.
    #[serde(default, with = "optional_host_port")]
    pub advertise: Option<HostPort>,
    /// Layers from the client's side down; the last is `route` or a service.
    pub stack: Vec<String>,
}

/// A layer of a config: its kind, and settings that only its kind can read.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerConfig {
    /// Its kind.
    pub kind: &'static LayerKind,
    /// Its settings.
    pub settings: Settings,
}

/// A service of a config: its kind, and settings that only its kind can read.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// Its kind.
    pub kind: &'static ServiceKind,
    /// Its settings.
    pub settings: Settings,
}

impl Serialize for LayerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_with_kind(self.kind.name, &self.settings, serializer)
    }
}

impl Serialize for ServiceConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_with_kind(self.kind.name, &self.settings, serializer)
    }
}

/// `kind` first, then the settings, as a file has them in one table.
fn serialize_with_kind<S: Serializer>(
    kind: &str,
    settings: &Settings,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let settings = settings.to_json();
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("kind", kind)?;
    for (name, value) in settings.as_object().into_iter().flatten() {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

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
