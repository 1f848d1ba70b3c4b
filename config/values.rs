//! The few kinds of values that only configs have: secrets, an admin address that may be off, a host with its port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use kernel::session::HostPort;
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
            address => address.parse().map(|address| Self(Some(address))).map_err(|_| {
                format!("{text:?} is not an address and port, such as \"127.0.0.1:9464\", nor \"off\"")
            }),
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
        assert!("localhost:9464".parse::<AdminBind>().is_err());
    }
}
