//! The assignors that a broker has (KIP-848): which member is to read which partition.
//!
//! Pure functions of the members' subscriptions, what each was to read before, and how many partitions each topic has.
//! All are sticky: what can stay where it is stays.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use kernel::TopicId;

use super::documents::Partitions;

/// The names that members may vote for; the first is the default.
pub const ASSIGNORS: [&str; 2] = ["uniform", "range"];

/// How many partitions each topic has.
pub(super) type Counts = BTreeMap<TopicId, i32>;

/// A member, to an assignor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The topics that it subscribes to and that are there.
    pub(super) topics: BTreeSet<TopicId>,
    /// What it was to read before.
    pub(super) before: Partitions,
}

/// What each member is to read, in the members' order.
pub(super) fn assign(assignor: &str, members: &[Candidate], counts: &Counts) -> Vec<Partitions> {
    match assignor {
        "range" => range::assign(members, counts),
        _ => uniform::assign(members, counts),
    }
}

fn count(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

fn give(partitions: &mut Partitions, topic: TopicId, at: i32) {
    partitions.entry(topic).or_default().insert(at);
}

#[cfg(test)]
mod tests;
