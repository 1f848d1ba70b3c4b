//! What a setting's value may be, in words that errors and the reference share.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use kernel::units::{ByteSize, Span};
use toml::de::{DeInteger, DeValue};

use crate::nearest::{instead, one_of};
use crate::reference::Section;
use crate::values::{AdminBind, host_port};

/// What a setting's value may be.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A text that is not blank.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number { min: i64, max: i64 },
    /// A [`ByteSize`] from `min`, less than `below`.
    Bytes { min: u64, below: u64 },
    /// A [`Span`].
    Span { min_ms: u128 },
    /// An address and port to listen on.
    Address,
    /// The same, or `off`.
    AddressOrOff,
    /// A host and port to connect to.
    HostPort,
    /// A [`crate::Secret`].
    Secret,
    /// An array of texts.
    Texts,
    /// An array of tables.
    Tables(&'static Section),
}

/// What was expected.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Text => f.write_str("a text"),
            Kind::OneOf(names) => f.write_str(&one_of(names)),
            Kind::Flag => f.write_str("true or false"),
            Kind::Number { min, max: i64::MAX } => write!(f, "a whole number of {min} or more"),
            Kind::Number { min, max } => write!(f, "a whole number from {min} to {max}"),
            Kind::Bytes { min, below } => {
                f.write_str("a size in bytes such as 65536 or \"64KiB\"")?;
                if min > 0 {
                    write!(f, ", at least {}", ByteSize(min))?;
                }
                if below < u64::MAX {
                    write!(f, ", below {}", ByteSize(below))?;
                }
                Ok(())
            }
            Kind::Span { min_ms: 0 } => f.write_str("a duration with its unit, such as \"30s\""),
            Kind::Span { min_ms } => {
                write!(f, "a duration with its unit, such as \"30s\", of at least {min_ms}ms")
            }
            Kind::Address => f.write_str("an address and port to listen on, such as \"127.0.0.1:9092\""),
            Kind::AddressOrOff => {
                f.write_str("an address and port to listen on, such as \"127.0.0.1:9464\", or \"off\"")
            }
            Kind::HostPort => f.write_str("a host and port such as \"broker-1:9092\""),
            Kind::Secret => f.write_str("a secret: \"${VARIABLE}\", \"file:/path\" or the text itself"),
            Kind::Texts => f.write_str("an array of texts"),
            Kind::Tables(section) => write!(f, "tables headed [[{}]]", section.path),
        }
    }
}

/// What is wrong with a value that should be of this kind, if anything.
///
/// The elements of arrays are not looked at.
pub(crate) fn complaint(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    let fits = match (kind, value) {
        (Kind::Text, DeValue::String(text)) => !text.trim().is_empty(),
        (Kind::OneOf(names), DeValue::String(text)) => {
            let is_known = names.contains(&&**text);
            return (!is_known).then(|| format!("found {text:?}{}", instead(text, names)));
        }
        (Kind::Flag, DeValue::Boolean(_)) => true,
        (Kind::Number { min, max }, DeValue::Integer(number)) => {
            integer(number).is_some_and(|number| (min..=max).contains(&number))
        }
        (Kind::Bytes { min, below }, DeValue::Integer(number)) => {
            let bytes = integer(number).and_then(|number| u64::try_from(number).ok());
            bytes.is_some_and(|bytes| sizes(min, below).contains(&bytes))
        }
        (Kind::Bytes { min, below }, DeValue::String(text)) => {
            text.parse::<ByteSize>().is_ok_and(|size| sizes(min, below).contains(&size.0))
        }
        (Kind::Span { min_ms }, DeValue::String(text)) => {
            text.parse::<Span>().is_ok_and(|span| span.0.as_millis() >= min_ms)
        }
        (Kind::Address, DeValue::String(text)) => text.parse::<SocketAddr>().is_ok(),
        (Kind::AddressOrOff, DeValue::String(text)) => text.parse::<AdminBind>().is_ok(),
        (Kind::HostPort, DeValue::String(text)) => return host_port(text).err(),
        (Kind::Secret, DeValue::String(text)) => !text.trim().is_empty(),
        (Kind::Texts, DeValue::Array(_)) | (Kind::Tables(_), DeValue::Array(_)) => true,
        _ => false,
    };
    (!fits).then(|| format!("expected {kind}, found {}", found(kind, value)))
}

fn sizes(min: u64, below: u64) -> RangeInclusive<u64> {
    min..=below.saturating_sub(1)
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A value as a sentence names it. What stands where a secret belongs may be one, and is not told.
fn found(kind: Kind, value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.trim().is_empty() => "a blank text".to_owned(),
        _ if matches!(kind, Kind::Secret) => "something else".to_owned(),
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: Kind, toml: &str) -> Option<String> {
        complaint(kind, DeValue::parse(toml).unwrap().get_ref())
    }

    #[test]
    fn values_within_their_bounds_pass() {
        let below_4gib = Kind::Bytes { min: 1 << 10, below: 4 << 30 };
        let passing = [
            (Kind::Text, "'x'"),
            (Kind::Flag, "true"),
            (Kind::Number { min: 0, max: 255 }, "0xFF"),
            (below_4gib, "1024"),
            (below_4gib, "'4095MiB'"),
            (Kind::Span { min_ms: 1 }, "'1ms'"),
            (Kind::Address, "'[::]:9092'"),
            (Kind::AddressOrOff, "'off'"),
            (Kind::HostPort, "'localhost:9092'"),
            (Kind::Texts, "[]"),
        ];
        for (kind, toml) in passing {
            assert_eq!(said(kind, toml), None, "{toml}");
        }
    }

    #[test]
    fn a_complaint_says_what_was_expected() {
        let below_4gib = Kind::Bytes { min: 1 << 10, below: 4 << 30 };
        let cases = [
            (Kind::Text, "' '", "expected a text, found a blank text"),
            (Kind::OneOf(&["text", "json"]), "'jsn'", "found \"jsn\"; did you mean \"json\"?"),
            (Kind::OneOf(&["text", "json"]), "1", "expected one of \"text\", \"json\", found 1"),
            (Kind::Number { min: 0, max: 255 }, "256", "expected a whole number from 0 to 255, found 256"),
            (
                Kind::Number { min: 1, max: i64::MAX },
                "0.5",
                "expected a whole number of 1 or more, found 0.5",
            ),
            (
                below_4gib,
                "'4GiB'",
                "expected a size in bytes such as 65536 or \"64KiB\", at least 1KiB, below 4GiB, found \"4GiB\"",
            ),
            (
                Kind::Span { min_ms: 1 },
                "30",
                "expected a duration with its unit, such as \"30s\", of at least 1ms, found 30",
            ),
        ];
        for (kind, toml, expected) in cases {
            assert_eq!(said(kind, toml).as_deref(), Some(expected), "{toml}");
        }
    }

    #[test]
    fn a_misplaced_secret_is_not_repeated() {
        let said = said(Kind::Secret, "4711").unwrap();
        assert!(said.ends_with("found something else"), "{said}");
    }
}
