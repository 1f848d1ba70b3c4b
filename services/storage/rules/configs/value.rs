//! Parses and validates one value.
//!
//! This follows Kafka's `ConfigDef` (4.4). The type is parsed first, from the trimmed text; its errors repeat
//! the text as sent. The validator is second; its errors show the parsed value.

use std::collections::BTreeSet;
use std::fmt;

use regex_lite::Regex;

use super::kind::ConfigKind;

/// The values a config may have, beyond what its type says: Kafka's validators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Legal {
    /// Any value of the type.
    Any,
    /// This number or a greater one.
    AtLeast(i64),
    /// From the first number to the second, both included.
    Between(i64, i64),
    /// From the first number to the second, or the third.
    BetweenOr(i64, i64, i64),
    /// A floating-point number from 0 to 1.
    Ratio,
    /// One of these texts; of a list, each element.
    OneOf(&'static [&'static str]),
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
    /// `earliest`, `latest`, or `by_duration:` and a duration of ISO 8601.
    AutoOffsetReset,
    /// A list of texts, each once.
    Tags,
}

/// A parsed value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Of a BOOLEAN.
    Bool(bool),
    /// Of a STRING, CLASS or PASSWORD.
    Text(&'a str),
    /// Of an INT, SHORT or LONG, within the type's range.
    Whole(i64),
    /// Of a DOUBLE.
    Real(f64),
    /// Of a LIST.
    List(Vec<&'a str>),
}

/// The message for a value that is not legal: Kafka's `ConfigException`.
pub(super) fn invalid(name: &str, shown: &str, reason: &str) -> String {
    format!("Invalid value {shown} for configuration {name}: {reason}")
}

/// Parses `text` as the config `name`'s `kind` and checks that it is one of the `legal` values.
///
/// # Errors
/// Kafka's message.
pub(super) fn read<'a>(
    name: &str,
    kind: ConfigKind,
    legal: Legal,
    text: &'a str,
) -> Result<Value<'a>, String> {
    let parsed = parse(kind, java_trim(text)).map_err(|reason| invalid(name, text, &reason))?;
    check(name, legal, &parsed)?;
    Ok(parsed)
}

/// `trimmed` as a value of `kind`, or Kafka's reason why it is not one.
fn parse(kind: ConfigKind, trimmed: &str) -> Result<Value<'_>, String> {
    let not_a_number = || format!("Not a number of type {}", kind.name());
    // Like Java's parsers, `from_str` takes a sign of either kind and leading zeros. (Java takes the
    // decimal digits of every script as well; that is not worth a table here.)
    let whole = |fits: fn(i64) -> bool| {
        trimmed.parse().ok().filter(|number| fits(*number)).map(Value::Whole).ok_or_else(not_a_number)
    };
    match kind {
        ConfigKind::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
        ConfigKind::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
        ConfigKind::Boolean => Err("Expected value to be either true or false".to_owned()),
        ConfigKind::String | ConfigKind::Class | ConfigKind::Password => Ok(Value::Text(trimmed)),
        ConfigKind::Short => whole(|number| i16::try_from(number).is_ok()),
        ConfigKind::Int => whole(|number| i32::try_from(number).is_ok()),
        ConfigKind::Long => whole(|_| true),
        ConfigKind::Double => java_double(trimmed).map(Value::Real).ok_or_else(not_a_number),
        ConfigKind::List if trimmed.is_empty() => Ok(Value::List(Vec::new())),
        ConfigKind::List => Ok(Value::List(trimmed.split(',').map(java_trim).collect())),
    }
}

/// The parts of a list, each once, as Kafka shows them.
fn without_repeated<'a>(parts: &[&'a str]) -> Vec<&'a str> {
    let mut once: Vec<&str> = Vec::with_capacity(parts.len());
    for part in parts {
        if !once.contains(part) {
            once.push(part);
        }
    }
    once
}

/// Whether a value that has the right type is a legal one.
fn check(name: &str, legal: Legal, value: &Value<'_>) -> Result<(), String> {
    let reason = match (legal, value) {
        (Legal::AtLeast(min) | Legal::Between(min, _), Value::Whole(number)) if *number < min => {
            format!("Value must be at least {min}")
        }
        (Legal::Between(_, max), Value::Whole(number)) if *number > max => {
            format!("Value must be no more than {max}")
        }
        (Legal::BetweenOr(min, max, also), Value::Whole(number))
            if !(min..=max).contains(number) && *number != also =>
        {
            format!("Value must be between {min} and {max} or equal to {also}")
        }
        (Legal::Ratio, Value::Real(number)) if *number < 0.0 => "Value must be at least 0".to_owned(),
        (Legal::Ratio, Value::Real(number)) if *number > 1.0 => "Value must be no more than 1".to_owned(),
        (Legal::OneOf(names), Value::Text(text)) => return one_of(name, names, text),
        (Legal::OneOf(names), Value::List(parts)) => {
            return parts.iter().try_for_each(|part| one_of_list(name, names, part));
        }
        (Legal::ThrottledReplicas, Value::List(parts)) if !throttled_replicas(parts) => {
            // Java prints this list the way it prints any, and the reason repeats the name.
            let reason = format!(
                "{name} must be the literal '*' or a list of replicas in the following format: \
                 [partitionId]:[brokerId],[partitionId]:[brokerId],..."
            );
            return Err(invalid(name, &format!("[{}]", parts.join(", ")), &reason));
        }
        (Legal::AutoOffsetReset, Value::Text(text)) if !is_offset_reset(text) => format!(
            "Invalid value `{text}` for configuration {name}. The value must be either 'earliest', 'latest' or of \
             the format 'by_duration:<PnDTnHnMn.nS>'."
        ),
        (Legal::Tags, Value::List(parts)) => return tags(name, parts),
        _ => return Ok(()),
    };
    Err(invalid(name, &value.to_string(), &reason))
}

/// Whether `text` is one of `names`; case matters, as in Kafka.
fn one_of(name: &str, names: &[&str], text: &str) -> Result<(), String> {
    if names.contains(&text) {
        return Ok(());
    }
    Err(invalid(name, text, &format!("String must be one of: {}", names.join(", "))))
}

/// The same for an element of a list.
fn one_of_list(name: &str, names: &[&str], part: &str) -> Result<(), String> {
    if part.is_empty() { Err(empty_element(name)) } else { one_of(name, names, part) }
}

fn empty_element(name: &str) -> String {
    format!("Configuration '{name}' values must not be empty.")
}

fn tags(name: &str, parts: &[&str]) -> Result<(), String> {
    if parts.contains(&"") {
        return Err(empty_element(name));
    }
    let different: BTreeSet<&str> = parts.iter().copied().collect();
    if different.len() == parts.len() {
        return Ok(());
    }
    Err(format!("{name} must not contain duplicate tag keys."))
}

/// Whether a text says where to begin to read. (Java takes signs in a duration as well.)
fn is_offset_reset(text: &str) -> bool {
    const DURATION: &str = r"(?i)^P(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d{0,9})?S)?)?$";
    let is_duration = |text: &str| {
        let is_whole =
            text.ends_with(|last: char| last.is_ascii_alphabetic() && !matches!(last, 'P' | 'p' | 'T' | 't'));
        is_whole && Regex::new(DURATION).is_ok_and(|duration| duration.is_match(text))
    };
    matches!(text, "earliest" | "latest") || text.strip_prefix("by_duration:").is_some_and(is_duration)
}

/// Kafka's rule for lists of throttled replicas, which lets empty elements pass beside either form.
fn throttled_replicas(parts: &[&str]) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let replica = |part: &&str| {
        part.is_empty() || part.split_once(':').is_some_and(|(left, right)| number(left) && number(right))
    };
    parts.concat() == "*" || parts.iter().all(replica)
}

/// Trims like Java's `String.trim`: all up to U+0020, control characters too, but no Unicode space.
fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// `text` as Java's `Double.parseDouble` reads it, except hexadecimal floats.
fn java_double(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Rust takes `inf` and `nan` in any case, Java only its own spelling.
    if matches!(unsigned, "NaN" | "Infinity") {
        return text.parse().ok();
    }
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E');
    if digits.chars().all(number) { digits.parse().ok() } else { None }
}

impl fmt::Display for Value<'_> {
    /// As Kafka prints it in a message and in DescribeConfigs.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(out, "{value}"),
            Value::Text(text) => out.write_str(text),
            Value::Whole(number) => write!(out, "{number}"),
            Value::Real(number) if number.is_infinite() => {
                out.write_str(if *number > 0.0 { "Infinity" } else { "-Infinity" })
            }
            // Java turns to scientific notation at these bounds, and always prints a fraction.
            Value::Real(number)
                if *number != 0.0 && !(1e-3..1e7).contains(&number.abs()) && !number.is_nan() =>
            {
                let text = format!("{number:E}");
                match text.split_once('E') {
                    Some((mantissa, exponent)) if !mantissa.contains('.') => {
                        write!(out, "{mantissa}.0E{exponent}")
                    }
                    _ => out.write_str(&text),
                }
            }
            Value::Real(number) => write!(out, "{number:?}"),
            Value::List(parts) => out.write_str(&without_repeated(parts).join(",")),
        }
    }
}

/// The APPEND of IncrementalAlterConfigs: `current` with those elements of `value` that it does not hold
/// yet.
///
/// `current` is the topic's override, or the config's default if it has none. As in Kafka's controller,
/// elements are compared and kept as they were sent, blanks included, and duplicates inside `current`
/// stay. The result can be illegal (`delete` and an empty `value` give `delete,`): it goes through
/// [`validate`](super::validate) like any other value. On a config that is not a LIST, and on an unknown
/// name, Kafka answers `INVALID_CONFIG` with "Can't APPEND to key NAME because its type is not LIST."
pub(super) fn append(current: &str, value: &str) -> String {
    let mut parts = elements(current);
    for part in java_split(value) {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(",")
}

/// The SUBTRACT of IncrementalAlterConfigs: `current` without the elements of `value`.
///
/// Each element of `value` removes only its first occurrence; one that is not there changes nothing.
/// Otherwise this is like [`append`], with SUBTRACT in the message.
pub(super) fn subtract(current: &str, value: &str) -> String {
    let mut parts = elements(current);
    for part in java_split(value) {
        if let Some(at) = parts.iter().position(|kept| *kept == part) {
            parts.remove(at);
        }
    }
    parts.join(",")
}

/// The elements of a stored list.
fn elements(list: &str) -> Vec<&str> {
    list.split(',').filter(|part| !part.is_empty()).collect()
}

/// Java's `String.split(",")`: empty texts at the end are dropped, but an empty whole is one empty element.
fn java_split(list: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = list.split(',').collect();
    while parts.len() > 1 && parts.last() == Some(&"") {
        parts.pop();
    }
    if list.contains(',') && parts == [""] { Vec::new() } else { parts }
}
