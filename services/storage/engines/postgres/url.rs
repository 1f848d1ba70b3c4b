//! The URL of a Postgres store: libpq's, with a few parameters of its own.
//!
//! `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?PARAMETER=VALUE&...`

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use kernel::units::Span;
use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use super::layout::Layout;

/// Where a store is.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Everything but TLS.
    pub(super) config: Config,
    /// The schema that holds the store.
    pub(super) schema: String,
    /// Connections at most.
    pub(super) connections: usize,
    /// The layout of topics that do not say.
    pub(super) layout: Layout,
    pub(super) tls: TlsTarget,
    /// How often the outbox is looked at, if nobody notifies.
    pub(super) outbox_poll: Duration,
    /// A file that has the password. It is read for each connection, so that it can change.
    pub(super) password_file: Option<PathBuf>,
}

/// How the connection is encrypted.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsTarget {
    pub(super) check: Check,
    pub(super) root_certificates: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// What is checked of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Check {
    #[default]
    Nothing,
    /// That an authority has signed it that is trusted.
    Authority,
    /// That, and that it is for this host.
    Host,
}

const CONNECTIONS: usize = 10;
/// One for each writer, two for reads, one for look-ups, one that holds the store, one for the outbox.
const CONNECTIONS_MIN: usize = 7;
const CONNECTIONS_MAX: usize = 200;
const OUTBOX_POLL: Duration = Duration::from_secs(30);
const OUTBOX_POLL_MIN: Duration = Duration::from_millis(10);
const OUTBOX_POLL_MAX: Duration = Duration::from_secs(3_600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long sent bytes may go without an acknowledgement before the connection counts as lost.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// The parameters that are not libpq's, or that the client library does not know.
const OWN: [&str; 10] = [
    "schema",
    "layout",
    "connections",
    "outbox_poll",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "password",
    "application_name",
];
/// The others that are passed on.
const PASSED_ON: [&str; 6] = ["connect_timeout", "target_session_attrs", "host", "port", "user", "dbname"];

impl Target {
    /// Reads the part after `://`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub(super) fn parse(place: &str) -> Result<Self, String> {
        let (base, query) = place.split_once('?').unwrap_or((place, ""));
        let mut own: Vec<(&str, String)> = Vec::new();
        let mut passed_on = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or_else(|| no_value(parameter))?;
            if OWN.contains(&name) {
                own.push((name, decoded(value)?));
            } else if PASSED_ON.contains(&name) {
                passed_on.push(parameter);
            } else {
                let known = [OWN.as_slice(), PASSED_ON.as_slice()].concat().join(", ");
                return Err(format!("there is no parameter {name:?}; those are {known}"));
            }
        }
        let url = format!("postgres://{base}?{}", passed_on.join("&"));
        let config = Config::from_str(&url).map_err(|error| why(&error))?;
        let mut target = Self {
            config,
            schema: "yagura".to_owned(),
            connections: CONNECTIONS,
            layout: Layout::Rows,
            outbox_poll: OUTBOX_POLL,
            tls: TlsTarget::default(),
            password_file: None,
        };
        target.set_defaults();
        own.into_iter().try_for_each(|(name, value)| target.set(name, value))?;
        target.complete()
    }

    fn set_defaults(&mut self) {
        self.config.application_name("yagura");
        self.config.keepalives_idle(Duration::from_secs(10));
        self.config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
        self.config.tcp_user_timeout(SEND_TIMEOUT);
        if self.config.get_connect_timeout().is_none() {
            self.config.connect_timeout(CONNECT_TIMEOUT);
        }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "schema" => self.schema = schema(value)?,
            "layout" => {
                let wrong = || format!("layout is {value:?}; write rows or batches");
                self.layout = Layout::parse(&value).ok_or_else(wrong)?;
            }
            "connections" => self.connections = connections(&value)?,
            "outbox_poll" => self.outbox_poll = outbox_poll(&value)?,
            "sslmode" => self.set_sslmode(&value)?,
            "sslrootcert" => self.tls.root_certificates = Some(value.into()),
            "sslcert" => self.tls.certificate = Some(value.into()),
            "sslkey" => self.tls.key = Some(value.into()),
            "application_name" => drop(self.config.application_name(value)),
            _ => drop(self.config.password(value)),
        }
        Ok(())
    }

    fn set_sslmode(&mut self, value: &str) -> Result<(), String> {
        let (mode, check) = match value {
            "disable" => (SslMode::Disable, Check::Nothing),
            "prefer" => (SslMode::Prefer, Check::Nothing),
            "require" => (SslMode::Require, Check::Nothing),
            "verify-ca" => (SslMode::Require, Check::Authority),
            "verify-full" => (SslMode::Require, Check::Host),
            _ => {
                let modes = "disable, prefer, require, verify-ca or verify-full";
                return Err(format!("sslmode is {value:?}; write {modes}"));
            }
        };
        self.config.ssl_mode(mode);
        self.tls.check = check;
        Ok(())
    }

    /// Checks what depends on several parameters.
    fn complete(mut self) -> Result<Self, String> {
        if self.config.get_hosts().is_empty() {
            return Err("it names no host; write postgres://USER@HOST/DATABASE".to_owned());
        }
        if self.config.get_hosts().len() > 1
            && self.config.get_target_session_attrs() == TargetSessionAttrs::Any
        {
            // A standby is of no use.
            self.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err("sslcert and sslkey go together; write both, or none".to_owned());
        }
        if self.tls.check != Check::Nothing && self.tls.root_certificates.is_none() {
            return Err("sslmode verifies the server's certificate, but sslrootcert is missing; name the file of the authority that has signed it".to_owned());
        }
        // As libpq does: whoever names an authority wants it checked.
        if self.tls.check == Check::Nothing
            && self.tls.root_certificates.is_some()
            && self.config.get_ssl_mode() == SslMode::Require
        {
            self.tls.check = Check::Authority;
        }
        let password = self.config.get_password().and_then(|password| str::from_utf8(password).ok());
        self.password_file = password.and_then(|password| password.strip_prefix("file:")).map(PathBuf::from);
        Ok(self)
    }

    /// What tells the store from others: its servers, database and schema.
    pub(super) fn identity(&self) -> String {
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("postgres://{}/{database}?schema={}", self.place().replace(", ", ","), self.schema)
    }

    /// The hosts, for messages.
    pub(super) fn place(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate().map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                tokio_postgres::config::Host::Tcp(name) => format!("{name}:{port}"),
                tokio_postgres::config::Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        hosts.collect::<Vec<_>>().join(", ")
    }
}

/// The reason why the client library does not take a URL.
fn why(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A password with a question mark in it is taken for a parameter, and not repeated.
fn no_value(parameter: &str) -> String {
    if parameter.contains('@') {
        return "there is a ? before its @; in a password write it as %3F".to_owned();
    }
    format!("the parameter {parameter:?} has no value; write {parameter}=VALUE")
}

fn decoded(value: &str) -> Result<String, String> {
    let text = percent_decode_str(value).decode_utf8();
    text.map(std::borrow::Cow::into_owned).map_err(|_| "the value of a parameter is not UTF-8".to_owned())
}

fn outbox_poll(value: &str) -> Result<Duration, String> {
    let found = value.parse::<Span>().ok().map(|span| span.0);
    found
        .filter(|poll| (OUTBOX_POLL_MIN..=OUTBOX_POLL_MAX).contains(poll))
        .ok_or_else(|| format!("outbox_poll is {value:?}; write a time from 10ms to 1h, such as 100ms"))
}

/// A name that needs no quotes, so that it is the same in every SQL text.
fn schema(name: String) -> Result<String, String> {
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_');
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if begins && bytes.all(is_plain) && name.len() < 64 && !name.starts_with("pg_") {
        return Ok(name);
    }
    Err(format!("schema is {name:?}; write a name of lower-case letters, digits and _, such as yagura"))
}

fn connections(value: &str) -> Result<usize, String> {
    let count = value.parse().ok().filter(|count| (CONNECTIONS_MIN..=CONNECTIONS_MAX).contains(count));
    count.ok_or_else(|| {
        format!("connections is {value:?}; write a number from {CONNECTIONS_MIN} to {CONNECTIONS_MAX}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(place: &str) -> String {
        Target::parse(place).unwrap_err()
    }

    #[test]
    fn a_url_is_libpqs_with_some_parameters_more() {
        let target =
            Target::parse("me:p%40ss@a:1,b:2/db?schema=other&sslmode=disable&connections=7").unwrap();
        assert_eq!(target.config.get_user(), Some("me"));
        assert_eq!(target.config.get_password(), Some("p@ss".as_bytes()));
        assert_eq!(target.config.get_dbname(), Some("db"));
        assert_eq!(target.place(), "a:1, b:2");
        assert_eq!((target.schema.as_str(), target.connections), ("other", 7));
        let polling = Target::parse("db/x?outbox_poll=100ms").unwrap();
        assert_eq!(polling.outbox_poll, Duration::from_millis(100));
        let plain = Target::parse("db/x").unwrap();
        assert_eq!((plain.schema.as_str(), plain.connections), ("yagura", CONNECTIONS));
        assert_eq!(plain.place(), "db:5432");
    }

    #[test]
    fn a_password_may_be_in_a_file() {
        let target = Target::parse("me@db/x?password=file:/run/secrets/db").unwrap();
        assert_eq!(target.password_file, Some(PathBuf::from("/run/secrets/db")));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_right() {
        assert!(fault("db/x?speed=9").contains("there is no parameter \"speed\"; those are schema"));
        assert!(fault("db/x?schema").contains("write schema=VALUE"));
        let secret = fault("me:abc?SECRET@db/x");
        assert!(secret.contains("%3F") && !secret.contains("SECRET"), "{secret}");
        assert!(fault("db/x?sslmode=maybe").contains("verify-full"));
        assert!(fault("db/x?sslmode=verify-full").contains("sslrootcert is missing"));
        assert!(fault("db/x?sslcert=a").contains("sslcert and sslkey go together"));
        assert!(fault("db/x?layout=columns").contains("write rows or batches"));
        assert!(fault("db/x?connections=2").contains("from 7 to 200"));
        assert!(fault("db/x?outbox_poll=9").contains("from 10ms to 1h"));
        assert!(fault("db/x?schema=Robert'); --").contains("lower-case"));
        assert!(fault("/x").contains("no host"), "{}", fault("/x"));
        assert!(fault("db:port/x").contains("port"), "{}", fault("db:port/x"));
    }
}
