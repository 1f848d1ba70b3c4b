//! The options shared by all client commands: bootstrap brokers and timeout.

use std::sync::Arc;

use clap::Args;
use kernel::units::Span;

use crate::client::Cluster;
use crate::client::cluster::Settings;

use super::output::Failure;

const DEFAULT: &str = "localhost:9092";
const VARIABLE: &str = "YAGURA_BOOTSTRAP";
const DEFAULT_PORT: &str = "9092";

#[derive(Debug, Clone, Args)]
pub(crate) struct Connect {
    /// Brokers to connect to [default: $YAGURA_BOOTSTRAP, or else localhost:9092].
    #[arg(long, value_name = "HOST:PORT[,..]", value_parser = bootstrap)]
    bootstrap: Option<Bootstrap>,
    /// How long to wait for the broker before giving up.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    timeout: Span,
}

/// A bootstrap list, each with its port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bootstrap(Vec<String>);

impl Connect {
    /// Connects to the cluster.
    pub(crate) async fn cluster(&self) -> Result<Arc<Cluster>, Failure> {
        let Bootstrap(bootstrap) = match &self.bootstrap {
            Some(bootstrap) => bootstrap.clone(),
            None => from_environment()?,
        };
        let settings = Settings { bootstrap, client_id: "yagura-cli".to_owned(), timeout: self.timeout.0 };
        Ok(Arc::new(Cluster::connect(settings).await?))
    }

    /// The timeout.
    pub(crate) fn timeout(&self) -> std::time::Duration {
        self.timeout.0
    }
}

fn from_environment() -> Result<Bootstrap, Failure> {
    let text = std::env::var_os(VARIABLE).map(|text| text.to_string_lossy().into_owned());
    bootstrap(text.as_deref().unwrap_or(DEFAULT))
        .map_err(|error| Failure::Usage(format!("${VARIABLE}: {error}")))
}

fn bootstrap(text: &str) -> Result<Bootstrap, String> {
    text.split(',').map(|address| host_port(address.trim())).collect::<Result<_, _>>().map(Bootstrap)
}

fn host_port(address: &str) -> Result<String, String> {
    // Colons inside the brackets of an IPv6 address do not start a port.
    let after_host = address.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match address[after_host..].rfind(':') {
        Some(colon) => (&address[..after_host + colon], &address[after_host + colon + 1..]),
        None => (address, DEFAULT_PORT),
    };
    match port.parse::<u16>() {
        Ok(1..) if !host.is_empty() => Ok(format!("{host}:{port}")),
        _ => Err(format!("{address:?} is no broker's address; write it as HOST:PORT, such as {DEFAULT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_list_gets_the_ports_that_it_leaves_out() {
        let list = |addresses: &[&str]| Ok(Bootstrap(addresses.iter().map(|a| (*a).to_owned()).collect()));
        assert_eq!(bootstrap("a:1, b,[::1]:7,[::2]"), list(&["a:1", "b:9092", "[::1]:7", "[::2]:9092"]));
        for wrong in ["", "a:", "a:x", "a:0", "a:65536", ":9092", "a:1,,b:2"] {
            assert!(bootstrap(wrong).is_err(), "{wrong:?}");
        }
    }
}
