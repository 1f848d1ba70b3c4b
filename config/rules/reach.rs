//! The layers and services that the stacks use.

use std::collections::BTreeSet;
use std::ops::Range;

/// The layers and services that stacks and routes use.
pub(super) struct Reach {
    /// Every name in any stack.
    pub(super) steps: BTreeSet<String>,
    /// Services that a stack ends in, or that routing leads to.
    pub(super) services: BTreeSet<String>,
    /// The listeners whose stack ends in `route`, and where that stands.
    pub(super) routed: Vec<(String, Range<usize>)>,
    /// Whether every name was one that exists; if not, what looks unused may only be misspelt elsewhere.
    pub(super) is_certain: bool,
}
