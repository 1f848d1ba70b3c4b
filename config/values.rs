//! The few kinds of values that only configs have: secrets, an admin address that may be off, a host with its port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use kernel::session::HostPort;
use kernel::settings::ValueKind;
use serde::{Deserialize, Serialize, Serializer};
use subtle::ConstantTimeEq;

/// A text that is never shown: however it is printed or serialized, it is `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A file's text, without the newline that editors put at its end.
    ///
    /// # Errors
    /// Why it cannot be read, or that it is empty.
    pub fn from_file(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the secret's file {path:?} cannot be read: {error}"))?;
        let secret =
            text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if secret.trim().is_empty() {
            return Err(format!("the secret's file {path:?} is empty"));
        }
        Ok(Self::new(secret))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is the secret, in a time that does not tell how much of it was right.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        bool::from(self.0.as_bytes().ct_eq(candidate))
    }
}

const MASK: &str = "***";

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Where the admin server listens, or `off`; as a config and the command line write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminBind(pub Option<SocketAddr>);

impl FromStr for AdminBind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ => resolve(text, ValueKind::AddressOrOff).map(|address| Self(Some(address))),
        }
    }
}

impl fmt::Display for AdminBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// An address and port to listen on. A host name is looked up; where it has several addresses the first of IPv4 is meant, as
/// for Kafka.
///
/// # Errors
/// What was expected, or why the name has no address.
pub fn bind_address(text: &str) -> Result<SocketAddr, String> {
    resolve(text, ValueKind::Address)
}

fn resolve(text: &str, expected: ValueKind) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = split_host(text).ok_or_else(|| format!("expected {expected}, found {text:?}"))?;
    let found = (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let found = found.map_err(|error| format!("the host {host:?} cannot be looked up: {error}"))?;
    let address = found.iter().find(|address| address.is_ipv4()).or(found.first());
    address.copied().ok_or_else(|| format!("the host {host:?} has no address"))
}

/// A host name and a port.
fn split_host(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_name = !host.is_empty() && !host.contains(|c: char| " \t/:[]@".contains(c));
    Some((host, port.parse().ok()?)).filter(|_| is_name)
}

/// Serde for a setting that is an address to listen on.
pub(crate) mod bind {
    use super::*;
    use serde::{Deserializer, de};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        let text = String::deserialize(deserializer)?;
        bind_address(&text).map_err(de::Error::custom)
    }
}

/// A host name or address with a port, as clients are told it: `broker-1:9092`, `[::1]:9092`.
///
/// # Errors
/// What was expected.
pub fn host_port(text: &str) -> Result<HostPort, String> {
    let wrong =
        || format!("expected a host and port such as \"broker-1:9092\" or \"[::1]:9092\", found {text:?}");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let is_plain = |host: &&str| !host.is_empty() && !host.contains(|c: char| " \t/:[]@".contains(c));
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        None => Some(host).filter(is_plain),
    };
    let host = host.ok_or_else(wrong)?;
    if host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
        return Err(format!(
            "clients cannot connect to the wildcard {host}; name a host they can reach, or leave the setting out: \
             then each client is told the address it connected to"
        ));
    }
    Ok(HostPort { host: host.to_owned(), port })
}

/// A host and port as [`host_port`] reads it.
pub fn show_host_port(address: &HostPort) -> String {
    let HostPort { host, port } = address;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Serde for a setting that is an [`AdminBind`].
pub(crate) mod admin_bind {
    use super::*;
    use serde::{Deserializer, de};

    pub(crate) fn serialize<S: Serializer>(
        bind: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&AdminBind(*bind))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<AdminBind>().map(|bind| bind.0).map_err(de::Error::custom)
    }
}

/// Serde for a setting that is a [`HostPort`] and may be left out.
pub(crate) mod optional_host_port {
    use super::*;
    use serde::{Deserializer, de};

    pub(crate) fn serialize<S: Serializer>(
        address: &Option<HostPort>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.serialize_some(&show_host_port(address)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<HostPort>, D::Error> {
        let text = String::deserialize(deserializer)?;
        host_port(&text).map(Some).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_to_listen_on_is_looked_up() {
        let localhost = bind_address("localhost:9092").unwrap();
        assert!(localhost.ip().is_loopback() && localhost.port() == 9092, "{localhost}");
        assert_eq!("localhost:9464".parse::<AdminBind>().map(|bind| bind.0.is_some()), Ok(true));
        assert_eq!("off".parse::<AdminBind>(), Ok(AdminBind(None)));
        assert_eq!(bind_address("[::1]:0").map(|address| address.port()), Ok(0));
        for wrong in ["", "localhost", "localhost:", ":9092", "localhost:65536", "a b:1", "u@h:1", "[h]:1"] {
            let error = bind_address(wrong).unwrap_err();
            assert!(error.starts_with("expected a host and port"), "{wrong}: {error}");
        }
        assert!(bind_address("a..b:1").unwrap_err().starts_with("the host \"a..b\" cannot be looked up: "));
        assert!("on".parse::<AdminBind>().unwrap_err().contains("or \"off\", found \"on\""));
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        let shown = toml::Value::try_from(&secret).unwrap();
        assert_eq!(shown.as_str(), Some("***"));
        assert!(secret.matches(b"hunter2"));
        assert!(!secret.matches(b"hunter3") && !secret.matches(b"hunter") && !secret.matches(b"hunter22"));
    }

    #[test]
    fn hosts_and_ports_go_there_and_back() {
        for text in ["localhost:9092", "10.1.2.3:1", "[::1]:9092", "broker-1.example.com:65535"] {
            assert_eq!(host_port(text).map(|address| show_host_port(&address)), Ok(text.to_owned()));
        }
        assert_eq!(host_port("[::1]:9092").map(|address| address.host), Ok("::1".to_owned()));
    }

    #[test]
    fn what_no_client_could_connect_to_is_refused() {
        for text in
            ["localhost", ":9092", "a:0", "a:65536", "::1:9092", "[::1:9092", "kafka://a:9092", "[a]:1"]
        {
            let error = host_port(text).unwrap_err();
            assert!(error.contains("expected a host and port"), "{text}: {error}");
        }
        for text in ["0.0.0.0:9092", "[::]:9092"] {
            assert!(host_port(text).unwrap_err().contains("wildcard"), "{text}");
        }
    }

    #[test]
    fn the_admin_server_can_be_off() {
        assert_eq!("off".parse(), Ok(AdminBind(None)));
        assert_eq!(AdminBind(None).to_string(), "off");
        let bind: AdminBind = "127.0.0.1:9464".parse().unwrap();
        assert_eq!(bind.to_string(), "127.0.0.1:9464");
        assert_eq!("localhost:9464".parse::<AdminBind>().unwrap().to_string(), "127.0.0.1:9464");
        assert!("localhost".parse::<AdminBind>().is_err());
    }
}
