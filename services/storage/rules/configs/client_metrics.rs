//! The configs of client metrics subscriptions: clients, metrics and push interval (KIP-714).

use std::collections::BTreeMap;

use kernel::ErrorCode;
use regex_lite::Regex;

use super::kind::ConfigKind;
use crate::commands::Refused;

/// Prefixes of metric names; `*` for all.
pub const METRICS: &str = "metrics";
/// Push interval, in ms.
pub const INTERVAL: &str = "interval.ms";
/// Selectors, all of which a client must match.
pub const MATCH: &str = "match";
/// Kafka's default of the interval.
pub const INTERVAL_MS_DEFAULT: i32 = 300_000;
const INTERVAL_MS: std::ops::RangeInclusive<i32> = 100..=3_600_000;

/// The client properties that selectors match.
const SELECTORS: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// A config of a subscription.
pub struct SubscriptionConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ConfigKind,
    /// Its default.
    pub default: &'static str,
    /// Documentation in one sentence.
    pub documentation: &'static str,
}

/// All of them, by name.
pub const CONFIGS: [SubscriptionConfig; 3] = [
    SubscriptionConfig {
        name: INTERVAL,
        kind: ConfigKind::Int,
        default: "300000",
        documentation: "How often matching clients push their metrics, in milliseconds.",
    },
    SubscriptionConfig {
        name: MATCH,
        kind: ConfigKind::List,
        default: "",
        documentation: "Which clients: pairs such as client_id=web-.*, all of which must fit; empty for all clients.",
    },
    SubscriptionConfig {
        name: METRICS,
        kind: ConfigKind::List,
        default: "",
        documentation: "The beginnings of the metrics' names, or * for all.",
    },
];

/// Checks the configs of a subscription.
pub fn check(configs: &BTreeMap<String, String>) -> Result<(), Refused> {
    for (name, value) in configs {
        match name.as_str() {
            METRICS => {}
            INTERVAL => check_interval(value)?,
            MATCH => drop(selectors(value)?),
            other => {
                let message = format!("Unknown client metrics configuration: {other}");
                return Err(Refused::new(ErrorCode::InvalidRequest, message));
            }
        }
    }
    Ok(())
}

fn check_interval(value: &str) -> Result<(), Refused> {
    if value.trim().parse().is_ok_and(|ms| INTERVAL_MS.contains(&ms)) {
        return Ok(());
    }
    let message =
        format!("Invalid value {value} for {INTERVAL}, interval must be between 100 and 3600000 (1 hour)");
    Err(Refused::new(ErrorCode::InvalidRequest, message))
}

/// Parses selectors: the property, and the pattern that must match all of it.
pub fn selectors(value: &str) -> Result<Vec<(&'static str, Regex)>, Refused> {
    let invalid = |message: String| Refused::new(ErrorCode::InvalidConfig, message);
    let pairs = value.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let selector = |pair: &str| {
        let (name, pattern) = pair
            .split_once('=')
            .ok_or_else(|| invalid(format!("Illegal client matching pattern: {pair}")))?;
        let known = SELECTORS.iter().find(|known| **known == name.trim());
        let known = known.ok_or_else(|| invalid(format!("Illegal client matching pattern: {pair}")))?;
        let pattern = Regex::new(&format!("^(?:{})$", pattern.trim()));
        let pattern =
            pattern.map_err(|error| invalid(format!("Illegal client matching pattern: {pair}: {error}")))?;
        Ok((*known, pattern))
    };
    pairs.map(selector).collect()
}

/// The elements of a list.
pub fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|element| !element.is_empty())
}
