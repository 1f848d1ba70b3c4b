//! Addresses: no two sockets on one port, and no admin server without a token where other machines can connect.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::decode::Draft;
use crate::settings::Admin;
use crate::sheet::Sheet;
use crate::values::{AdminBind, bind_address};

/// Something that listens.
#[derive(Debug, Clone)]
pub(crate) struct Socket {
    /// What a sentence calls it.
    pub(crate) owner: String,
    /// Its setting.
    pub(crate) path: String,
    pub(crate) address: SocketAddr,
    /// Where the address stands; `None` for a default.
    pub(crate) span: Option<Range<usize>>,
}

/// Checks the addresses of all listeners and of the admin server.
pub(super) fn check(sheet: &Sheet<'_>, draft: &Draft) {
    let mut sockets: Vec<Socket> = admin(sheet).into_iter().collect();
    for name in draft.listeners.keys() {
        let Some(bind) = sheet.word(&["listeners", name, "bind"]) else { continue };
        let Ok(address) = bind_address(bind.text) else { continue };
        sockets.push(Socket {
            owner: format!("listener \"{name}\""),
            path: format!("listeners.{name}.bind"),
            address,
            span: Some(bind.span),
        });
    }
    // In the file's order, so that the later one is at fault; a default stands before them all.
    sockets.sort_by_key(|socket| socket.span.as_ref().map(|span| span.start));
    for (index, socket) in sockets.iter().enumerate() {
        if let (Some(message), Some(span)) = (taken(socket, &sockets[..index]), &socket.span) {
            sheet.fault(span.clone(), message);
        }
    }
}

/// The admin server's socket, once it is known that it may stand there.
fn admin(sheet: &Sheet<'_>) -> Option<Socket> {
    let path = ["admin", "bind"];
    let bind = match (sheet.get(&path), sheet.word(&path)) {
        (None, _) => Admin::default().bind,
        (Some(_), Some(word)) => word.text.parse::<AdminBind>().ok().and_then(|bind| bind.0),
        (Some(_), None) => None,
    };
    let (address, span) = (bind?, sheet.span(&path));
    let has_token = sheet.get(&["admin", "token"]).is_some();
    let how = "[admin] needs a token, such as token = \"${ADMIN_TOKEN}\" or \"file:/path\"";
    if let (Some(message), Some(span)) = (needs_token(address, has_token, how), &span) {
        sheet.fault(span.clone(), format!("admin.bind: {message}"));
    }
    Some(Socket { owner: "the admin server".to_owned(), path: "admin.bind".to_owned(), address, span })
}

/// Why an admin server may not listen there, if it may not; `how` says how it gets a token.
pub(crate) fn needs_token(address: SocketAddr, has_token: bool, how: &str) -> Option<String> {
    (!address.ip().is_loopback() && !has_token)
        .then(|| format!("other machines can connect to {address}, so {how}; or listen on 127.0.0.1"))
}

/// The message for an address that is already in use.
pub(crate) fn taken(socket: &Socket, others: &[Socket]) -> Option<String> {
    let other = others.iter().find(|other| clash(socket.address, other.address))?;
    let Socket { owner, address, .. } = other;
    Some(format!(
        "{}: {} is taken by {owner} ({address}); give each a port of its own",
        socket.path, socket.address
    ))
}

/// Whether two addresses cannot be listened on at once. Port 0 is whichever is free.
pub fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |wide: IpAddr, other: IpAddr| match wide {
        IpAddr::V4(wide) => wide.is_unspecified() && other.is_ipv4(),
        // On Linux the IPv6 wildcard takes IPv4's port as well.
        IpAddr::V6(wide) => wide.is_unspecified(),
    };
    let is_same = a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip());
    a.port() != 0 && a.port() == b.port() && is_same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_takes_the_port_of_every_address() {
        let cases = [
            ("127.0.0.1:9092", "127.0.0.1:9092", true),
            ("127.0.0.1:9092", "127.0.0.2:9092", false),
            ("127.0.0.1:9092", "127.0.0.1:9093", false),
            ("0.0.0.0:9092", "127.0.0.1:9092", true),
            ("0.0.0.0:9092", "[::1]:9092", false),
            ("[::]:9092", "127.0.0.1:9092", true),
            ("0.0.0.0:9092", "[::]:9092", true),
            ("[::1]:9092", "127.0.0.1:9092", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ];
        for (a, b, expected) in cases {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(clash(a, b), expected, "{a} {b}");
            assert_eq!(clash(b, a), expected, "{b} {a}");
        }
    }
}
