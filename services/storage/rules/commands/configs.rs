//! Config changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How the configs of a resource change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewConfigs {
    /// AlterConfigs: sets these and resets all others to their defaults.
    Replace(BTreeMap<String, String>),
    /// IncrementalAlterConfigs (KIP-339): one operation after the other.
    Incremental(Vec<(String, ConfigOperation)>),
}

/// An operation on one config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOperation {
    /// Sets this value.
    Set(String),
    /// Restores the default.
    Delete,
    /// Adds to a list.
    Append(String),
    /// Removes from a list.
    Subtract(String),
}
