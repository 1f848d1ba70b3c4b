//! The start-up screen that a broker prints when it is ready.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use config::{Config, show_host_port};

use super::assembly::Services;

/// The screen: version, listeners, services, admin address, and an example command.
pub(super) fn banner(
    config: &Config,
    listeners: &BTreeMap<String, SocketAddr>,
    services: &Services,
    admin: Option<SocketAddr>,
) -> String {
    let mut screen = format!("yagura {} is ready\n", env!("CARGO_PKG_VERSION"));
    for (name, address) in listeners {
        let advertised = config.listeners.get(name).and_then(|listener| listener.advertise.as_ref());
        let advertised =
            advertised.map_or(String::new(), |to| format!(", advertised as {}", show_host_port(to)));
        let _ = writeln!(screen, "  {:<9} {address} ({name}{advertised})", "listens");
    }
    for (name, service) in services {
        let (verb, object) = service.summary();
        let _ = writeln!(screen, "  {verb:<9} {object} ({name})");
    }
    let admin = admin.map_or("off".to_owned(), |address| format!("http://{address}/metrics"));
    let _ = writeln!(screen, "  {:<9} {admin}", "admin");
    if let Some(address) = listeners.values().next() {
        let host =
            if address.ip().is_unspecified() { "localhost".to_owned() } else { address.ip().to_string() };
        let port = address.port();
        let _ = writeln!(screen, "  {:<9} echo hello | kcat -P -b {host}:{port} -t greetings", "try");
    }
    screen
}
