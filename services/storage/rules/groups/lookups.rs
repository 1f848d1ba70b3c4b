//! The documents that a decision looks at, and a note of those that are not loaded.
//!
//! Which documents a group command needs depends on what it finds: only the last join of a rebalance looks at all
//! members. So the command is planned on what is loaded; the plan notes what it lacks, and that is what the command
//! needs. What it needs and what it looks at cannot differ.

use std::cell::RefCell;
use std::sync::Arc;

use crate::documents::{DocumentKind, Prefix};
use crate::working_set::{Lookup, Wanted, WorkingSet};

/// Reads documents of a working set.
#[derive(Clone, Copy)]
pub(super) struct Lookups<'a> {
    set: &'a WorkingSet<'a>,
    lacking: &'a RefCell<Wanted>,
}

impl<'a> Lookups<'a> {
    /// Looks at `set`; what is not loaded is noted in `lacking`.
    pub(super) fn new(set: &'a WorkingSet<'a>, lacking: &'a RefCell<Wanted>) -> Self {
        Self { set, lacking }
    }

    /// A document; one that is not loaded counts as absent until it is.
    pub(super) fn get<T: DocumentKind>(&self, key: &T::Key) -> Option<Arc<T>> {
        match self.set.lookup(&T::key(key)) {
            Lookup::Known(document) => document?.get_arc(),
            Lookup::Unknown => {
                self.lacking.borrow_mut().write::<T>(key);
                None
            }
        }
    }

    /// The keys of one kind with a prefix; `None` if they are not loaded.
    pub(super) fn keys<T: DocumentKind>(&self, prefix: Prefix) -> Option<Vec<T::Key>> {
        let keys = self.set.keys(&prefix);
        if keys.is_none() {
            self.lacking.borrow_mut().scan(prefix);
        }
        keys.map(|keys| keys.iter().filter_map(T::parse_key).collect())
    }
}
