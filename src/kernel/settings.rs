//! The settings of layers and services: a description of each setting, and type-erased values.
//!
//! Errors and the README's config reference are generated from the descriptions, so a layer or service
//! describes its settings once, beside the code that uses them. Values are decoded by serde from JSON,
//! whatever the file format.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::units::ByteSize;

/// One key of a table.
#[derive(Clone, Copy)]
pub struct Setting {
    /// The key.
    pub name: &'static str,
    /// The allowed values.
    pub value: ValueKind,
    /// What applies if it is omitted.
    pub left_out: LeftOut,
    /// What it does, for the reference.
    pub about: &'static str,
}

impl Setting {
    /// A setting that has a default.
    pub const fn new(name: &'static str, value: ValueKind, about: &'static str) -> Self {
        Self { name, value, left_out: LeftOut::Default, about }
    }

    /// A required setting.
    pub const fn required(name: &'static str, value: ValueKind, about: &'static str) -> Self {
        Self { name, value, left_out: LeftOut::Required, about }
    }

    /// A setting without a default value; `means` says what applies instead.
    pub const fn optional(
        name: &'static str,
        value: ValueKind,
        means: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, value, left_out: LeftOut::Means(means), about }
    }
}

/// What applies when a setting is omitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// The default of its `Settings`.
    Default,
    /// It is required.
    Required,
    /// It has no default value; this applies instead.
    Means(&'static str),
}

/// The allowed values of a setting.
#[derive(Clone, Copy)]
pub enum ValueKind {
    /// A non-blank string.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number {
        /// The minimum.
        min: i64,
        /// The maximum; `i64::MAX` for none.
        max: i64,
    },
    /// A [`ByteSize`].
    Bytes {
        /// The minimum.
        min: u64,
        /// Exclusive upper bound; `u64::MAX` for none.
        below: u64,
    },
    /// A [`crate::units::Span`] of at least this length.
    Span {
        /// The minimum, in ms.
        min_ms: u128,
    },
    /// An address and port to listen on.
    Address,
    /// The same, or `off`.
    AddressOrOff,
    /// A host and port to connect to.
    HostPort,
    /// A secret string, never shown.
    Secret,
    /// An array of strings.
    Texts,
    /// An array of tables.
    Tables {
        /// The path of the tables, such as `route.rules`.
        path: &'static str,
        /// The keys of each.
        settings: &'static [Setting],
    },
}

/// A duration of any length.
pub const ANY_TIME: ValueKind = ValueKind::Span { min_ms: 0 };
/// A duration that is not zero.
pub const SOME_TIME: ValueKind = ValueKind::Span { min_ms: 1 };
/// A count that sizes a queue or a semaphore, which all have an upper limit.
pub const COUNT: ValueKind = ValueKind::Number { min: 1, max: 10_000_000 };

/// What was expected.
impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ValueKind::Text => f.write_str("a text"),
            ValueKind::OneOf(names) => f.write_str(&one_of(names)),
            ValueKind::Flag => f.write_str("true or false"),
            ValueKind::Number { min, max: i64::MAX } => write!(f, "a whole number of {min} or more"),
            ValueKind::Number { min, max } => write!(f, "a whole number from {min} to {max}"),
            ValueKind::Bytes { min, below } => {
                f.write_str("a size in bytes such as 65536 or \"64KiB\"")?;
                if min > 0 {
                    write!(f, ", at least {}", ByteSize(min))?;
                }
                if below < u64::MAX {
                    write!(f, ", below {}", ByteSize(below))?;
                }
                Ok(())
            }
            ValueKind::Span { min_ms: 0 } => f.write_str("a duration with its unit, such as \"30s\""),
            ValueKind::Span { min_ms } => {
                write!(f, "a duration with its unit, such as \"30s\", of at least {min_ms}ms")
            }
            ValueKind::Address => f.write_str("a host and port to listen on, such as \"127.0.0.1:9092\""),
            ValueKind::AddressOrOff => {
                f.write_str("a host and port to listen on, such as \"127.0.0.1:9464\", or \"off\"")
            }
            ValueKind::HostPort => f.write_str("a host and port such as \"broker-1:9092\""),
            ValueKind::Secret => f.write_str("a secret: \"${VARIABLE}\", \"file:/path\" or the text itself"),
            ValueKind::Texts => f.write_str("an array of texts"),
            ValueKind::Tables { path, .. } => write!(f, "tables headed [[{path}]]"),
        }
    }
}

/// `"a"`, or `one of "a", "b"`.
pub fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let lead = if names.len() > 1 { "one of " } else { "" };
    format!("{lead}{}", quoted.join(", "))
}

/// A problem of one setting in combination with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingFault {
    /// The setting.
    pub setting: &'static str,
    /// What is wrong and what would be right; the setting's path is prepended.
    pub message: String,
    /// Whether it applies even if the file omits the setting.
    pub concerns_default: bool,
}

/// What the settings of layers and services are checked against: the `[node]` table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// Bytes that the requests of all connections may hold at once.
    pub request_memory: ByteSize,
    /// Bytes that the replies of all connections may hold at once.
    pub reply_memory: ByteSize,
}

/// The settings of a layer or a service. Only their owner knows their type; other code can compare and show
/// them.
#[derive(Clone)]
pub struct Settings(Arc<dyn AnySettings>);

trait AnySettings: Any + fmt::Debug + Send + Sync {
    fn to_json(&self) -> Value;
    fn equals(&self, other: &dyn AnySettings) -> bool;
}

impl<T: Serialize + PartialEq + fmt::Debug + Send + Sync + 'static> AnySettings for T {
    fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_else(|error| Value::String(error.to_string()))
    }

    fn equals(&self, other: &dyn AnySettings) -> bool {
        (other as &dyn Any).downcast_ref::<T>() == Some(self)
    }
}

/// What a settings type must implement.
pub trait SettingsType:
    Serialize + DeserializeOwned + PartialEq + fmt::Debug + Send + Sync + 'static
{
}

impl<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug + Send + Sync + 'static> SettingsType for T {}

impl Settings {
    /// Settings of this type.
    pub fn new<T: SettingsType>(settings: T) -> Self {
        Self(Arc::new(settings))
    }

    /// Decodes settings of this type.
    ///
    /// # Errors
    /// The serde error.
    pub fn decode<T: SettingsType>(value: Value) -> Result<Self, String> {
        serde_json::from_value::<T>(value).map(Self::new).map_err(|error| error.to_string())
    }

    /// The settings, for their owner.
    pub fn get<T: 'static>(&self) -> Option<&T> {
        (&*self.0 as &dyn Any).downcast_ref()
    }

    /// The same, for a kind's `build`.
    ///
    /// # Errors
    /// They were decoded by another kind, which is a bug.
    pub fn expect<T: 'static>(&self) -> Result<&T, String> {
        self.get().ok_or_else(|| format!("{self:?} are another kind's settings: this is a bug of Yagura"))
    }

    /// All settings with their values. Omitted settings without a default are not included.
    pub fn to_json(&self) -> Value {
        match self.0.to_json() {
            Value::Object(mut map) => {
                map.retain(|_, value| !value.is_null());
                Value::Object(map)
            }
            other => other,
        }
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Own {
        size: ByteSize,
        most: Option<u32>,
    }

    #[test]
    fn settings_are_compared_and_shown_without_knowing_their_type() {
        let own = || Settings::new(Own { size: ByteSize(1 << 20), most: None });
        assert_eq!(own(), own());
        assert_ne!(own(), Settings::new(Own { size: ByteSize(1), most: None }));
        assert_ne!(own(), Settings::new(7u32));
        assert_eq!(own().to_json(), serde_json::json!({ "size": "1MiB" }));
        assert_eq!(Settings::decode::<Own>(own().to_json()), Ok(own()));
        assert!(own().expect::<u32>().is_err());
        assert_eq!(own().expect::<Own>().map(|own| own.most), Ok(None));
    }
}
