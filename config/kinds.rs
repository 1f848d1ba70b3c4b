//! Checks a value of a config file against the kind of its setting.

use std::ops::RangeInclusive;

use kernel::settings::ValueKind;
use kernel::units::{ByteSize, Span};
use toml::de::{DeInteger, DeValue};

use crate::nearest::instead;
use crate::values::{AdminBind, bind_address, host_port};

/// What is wrong with a value that should be of this kind, if anything.
///
/// The elements of arrays are not looked at.
pub(crate) fn type_error(kind: ValueKind, value: &DeValue<'_>) -> Option<String> {
    let fits = match (kind, value) {
        (ValueKind::Text, DeValue::String(text)) => !text.trim().is_empty(),
        (ValueKind::OneOf(names), DeValue::String(text)) => {
            let is_known = names.contains(&&**text);
            return (!is_known).then(|| format!("found {text:?}{}", instead(text, names)));
        }
        (ValueKind::Flag, DeValue::Boolean(_)) => true,
        (ValueKind::Number { min, max }, DeValue::Integer(number)) => {
            integer(number).is_some_and(|number| (min..=max).contains(&number))
        }
        (ValueKind::Bytes { min, below }, DeValue::Integer(number)) => {
            let bytes = integer(number).and_then(|number| u64::try_from(number).ok());
            bytes.is_some_and(|bytes| sizes(min, below).contains(&bytes))
        }
        (ValueKind::Bytes { min, below }, DeValue::String(text)) => {
            text.parse::<ByteSize>().is_ok_and(|size| sizes(min, below).contains(&size.0))
        }
        (ValueKind::Span { min_ms }, DeValue::String(text)) => {
            text.parse::<Span>().is_ok_and(|span| span.0.as_millis() >= min_ms)
        }
        (ValueKind::Address, DeValue::String(text)) => return bind_address(text).err(),
        (ValueKind::AddressOrOff, DeValue::String(text)) => return text.parse::<AdminBind>().err(),
        (ValueKind::HostPort, DeValue::String(text)) => return host_port(text).err(),
        (ValueKind::Secret, DeValue::String(text)) => !text.trim().is_empty(),
        (ValueKind::Texts | ValueKind::Tables { .. }, DeValue::Array(_)) => true,
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

/// A value as an error names it. A value in the place of a secret may be one, and is not shown.
fn found(kind: ValueKind, value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.trim().is_empty() => "a blank text".to_owned(),
        _ if matches!(kind, ValueKind::Secret) => "something else".to_owned(),
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

    fn said(kind: ValueKind, toml: &str) -> Option<String> {
        type_error(kind, DeValue::parse(toml).unwrap().get_ref())
    }

    #[test]
    fn values_within_their_bounds_pass() {
        let below_4gib = ValueKind::Bytes { min: 1 << 10, below: 4 << 30 };
        let passing = [
            (ValueKind::Text, "'x'"),
            (ValueKind::Flag, "true"),
            (ValueKind::Number { min: 0, max: 255 }, "0xFF"),
            (below_4gib, "1024"),
            (below_4gib, "'4095MiB'"),
            (ValueKind::Span { min_ms: 1 }, "'1ms'"),
            (ValueKind::Address, "'[::]:9092'"),
            (ValueKind::Address, "'localhost:0'"),
            (ValueKind::AddressOrOff, "'off'"),
            (ValueKind::AddressOrOff, "'localhost:9464'"),
            (ValueKind::HostPort, "'localhost:9092'"),
            (ValueKind::Texts, "[]"),
        ];
        for (kind, toml) in passing {
            assert_eq!(said(kind, toml), None, "{toml}");
        }
    }

    #[test]
    fn a_type_error_says_what_was_expected() {
        let below_4gib = ValueKind::Bytes { min: 1 << 10, below: 4 << 30 };
        let cases = [
            (ValueKind::Text, "' '", "expected a text, found a blank text"),
            (ValueKind::OneOf(&["text", "json"]), "'jsn'", "found \"jsn\"; did you mean \"json\"?"),
            (ValueKind::OneOf(&["text", "json"]), "1", "expected one of \"text\", \"json\", found 1"),
            (
                ValueKind::Number { min: 0, max: 255 },
                "256",
                "expected a whole number from 0 to 255, found 256",
            ),
            (
                ValueKind::Number { min: 1, max: i64::MAX },
                "0.5",
                "expected a whole number of 1 or more, found 0.5",
            ),
            (
                below_4gib,
                "'4GiB'",
                "expected a size in bytes such as 65536 or \"64KiB\", at least 1KiB, below 4GiB, found \"4GiB\"",
            ),
            (
                ValueKind::Span { min_ms: 1 },
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
        let said = said(ValueKind::Secret, "4711").unwrap();
        assert!(said.ends_with("found something else"), "{said}");
    }
}
