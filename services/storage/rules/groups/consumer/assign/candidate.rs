//! The input of assignors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;

use crate::documents::Partitions;

/// How many partitions each topic has.
pub(in crate::groups::consumer) type Counts = BTreeMap<TopicId, i32>;

/// A member, as an assignor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::groups::consumer) struct Candidate {
    /// The existing topics that it subscribes to.
    pub(in crate::groups::consumer) topics: BTreeSet<TopicId>,
    /// Its previous target assignment.
    pub(in crate::groups::consumer) before: Arc<Partitions>,
}

pub(super) fn count(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

pub(super) fn give(partitions: &mut Partitions, topic: TopicId, at: i32) {
    partitions.entry(topic).or_default().insert(at);
}
