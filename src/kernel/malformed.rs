//! Malformed bodies.

use std::fmt;

/// A body that does not match the schema of its API and version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed body: {}", self.0)
    }
}

impl std::error::Error for Malformed {}
