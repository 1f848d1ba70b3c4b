//! The settings of route.

use serde::{Deserialize, Serialize};

/// The settings of route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The service of calls that no rule matches.
    pub default: String,
    /// Tried in order.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A rule; an empty list matches everything, but at least one must not be empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names of listeners.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// Names of APIs, as Kafka spells them, in any case.
    #[serde(default)]
    pub apis: Vec<String>,
    /// Names of topics, with `*` and `?`.
    #[serde(default)]
    pub topics: Vec<String>,
    /// The service.
    pub to: String,
}
