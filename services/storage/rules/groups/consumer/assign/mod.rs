//! The server-side assignors (KIP-848).
//!
//! Pure functions of the members' subscriptions, their previous targets, and the topics' partition counts.
//! All are sticky: a partition stays with its member where possible.

mod candidate;
mod range;
mod uniform;

pub(super) use candidate::{Candidate, Counts};

use crate::documents::Partitions;

/// The target assignment of each member, in the order of members.
pub(super) fn assign(assignor: &str, members: &[Candidate], counts: &Counts) -> Vec<Partitions> {
    match assignor {
        "range" => range::assign(members, counts),
        _ => uniform::assign(members, counts),
    }
}

#[cfg(test)]
mod tests;
