//! The assignors that a broker has (KIP-848): which member is to read which partition.
//!
//! Pure functions of the members' subscriptions, what each was to read before, and how many partitions each topic has.
//! All are sticky: what can stay where it is stays.

mod candidate;
mod range;
mod uniform;

pub(super) use candidate::{Candidate, Counts};

use crate::documents::Partitions;

/// What each member is to read, in the members' order.
pub(super) fn assign(assignor: &str, members: &[Candidate], counts: &Counts) -> Vec<Partitions> {
    match assignor {
        "range" => range::assign(members, counts),
        _ => uniform::assign(members, counts),
    }
}

#[cfg(test)]
mod tests;
