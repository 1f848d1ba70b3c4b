//! The server-side assignor that a group of the consumer protocol uses.

use crate::documents::ASSIGNORS;

/// The assignor that most members vote for.
pub(crate) fn elected_assignor<'a>(votes: impl Iterator<Item = Option<&'a str>>) -> &'static str {
    let votes: Vec<&str> = votes.flatten().collect();
    let count = |assignor: &&&str| votes.iter().filter(|vote| *vote == *assignor).count();
    // A tie goes to the first assignor; the first of all is the default.
    ASSIGNORS.iter().rev().max_by_key(count).copied().unwrap_or(ASSIGNORS[0])
}
