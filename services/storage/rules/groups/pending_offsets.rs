//! The offsets of a group that are pending in open transactions.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::documents::{DocumentKind, PendingOffset, PendingOffsetKey, Prefix};
use crate::working_set::WorkingSet;

/// The topics and partitions that have pending offsets, which are loaded.
pub(super) fn of_group(set: &WorkingSet<'_>, group: &str) -> BTreeSet<(Arc<str>, i32)> {
    let keys = set.keys(&PendingOffset::of_group(group)).unwrap_or_default();
    let keys = keys.iter().filter_map(PendingOffset::parse_key);
    keys.map(|PendingOffsetKey { topic, partition, .. }| (topic, partition)).collect()
}

/// Deletes the pending offsets with a prefix, which are loaded: their transactions commit nothing in their place.
pub(super) fn delete(set: &mut WorkingSet<'_>, prefix: &Prefix) {
    let keys = set.keys(prefix).unwrap_or_default();
    keys.iter().filter_map(PendingOffset::parse_key).for_each(|key| set.delete::<PendingOffset>(&key));
}
