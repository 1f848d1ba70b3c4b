//! Readers that nobody outside this crate calls, for `tests/fuzz`.

use std::sync::Arc;

use bytes::Bytes;

use crate::{engines, regexes};

/// Reads the changes of a row of the SQLite engine's journal, with its small batches, and returns how many they are;
/// `None` if it is refused.
pub fn journal_row(changes: &[u8], batches: &Bytes) -> Option<usize> {
    engines::sqlite::journal_changes(changes, batches)
}

/// How many names a regular expression of a member matches; `None` if it is refused, or takes too long.
pub fn matching_topics(regex: &str, names: &[&str]) -> Option<usize> {
    regexes::count_matching(regex, names.iter().map(|name| Arc::from(*name)).collect())
}
