//! Stored documents, overlaid with the changes of a batch of commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::commands::Effect;
use crate::documents::{Document, DocumentKind, Key, Prefix};

/// The state of a document in memory.
#[derive(Debug, Clone, Copy)]
pub enum Lookup<'a> {
    /// It is not loaded.
    Unknown,
    /// It is loaded; `None` if it does not exist.
    Known(Option<&'a Document>),
}

/// The documents that an engine has in memory.
pub trait Documents {
    /// Looks one up.
    fn lookup(&self, key: &Key) -> Lookup<'_>;

    /// All keys with a prefix, in order; `None` unless they and their documents are loaded.
    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>>;
}

/// The changed documents; `None` is one that was deleted.
pub type Changes = BTreeMap<Key, Option<Document>>;

/// Documents, overlaid with changes that are not durable yet.
pub struct WorkingSet<'a> {
    base: &'a dyn Documents,
    under: Option<&'a WorkingSet<'a>>,
    changes: Changes,
    effects: Vec<Effect>,
}

impl<'a> WorkingSet<'a> {
    /// A set without changes.
    pub fn new(base: &'a dyn Documents) -> Self {
        Self { base, under: None, changes: Changes::new(), effects: Vec::new() }
    }

    /// A set with the changes and effects of an earlier one over the same documents.
    pub fn resume(base: &'a dyn Documents, changes: Changes, effects: Vec<Effect>) -> Self {
        Self { base, under: None, changes, effects }
    }

    /// A set over this one, whose changes are discarded.
    pub(crate) fn scratch(&self) -> WorkingSet<'_> {
        WorkingSet { base: self.base, under: Some(self), changes: Changes::new(), effects: Vec::new() }
    }

    /// A document after the changes so far.
    pub fn lookup(&self, key: &Key) -> Lookup<'_> {
        match (self.changes.get(key), self.under) {
            (Some(changed), _) => Lookup::Known(changed.as_ref()),
            (None, Some(under)) => under.lookup(key),
            (None, None) => self.base.lookup(key),
        }
    }

    /// All keys with a prefix after the changes so far, in order; `None` if they are not loaded.
    pub fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        let mut keys = self.under.map_or_else(|| self.base.keys(prefix), |under| under.keys(prefix))?;
        let first = Key::from_text(prefix.as_str());
        let changed: Vec<_> =
            self.changes.range(first..).take_while(|(key, _)| prefix.matches(key)).collect();
        if !changed.is_empty() {
            keys.retain(|key| !self.changes.contains_key(key));
            keys.extend(
                changed.into_iter().filter(|(_, document)| document.is_some()).map(|(key, _)| key.clone()),
            );
            keys.sort_unstable();
        }
        Some(keys)
    }

    /// The changed documents, and the effects on logs.
    pub fn into_changes(self) -> (Changes, Vec<Effect>) {
        (self.changes, self.effects)
    }

    /// The effects on logs so far.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    fn document(&self, key: &Key) -> Option<&Document> {
        match self.lookup(key) {
            Lookup::Known(document) => document,
            Lookup::Unknown => None,
        }
    }

    /// A document; one that was not loaded counts as absent.
    pub fn get<T: DocumentKind>(&self, key: &T::Key) -> Option<&T> {
        self.document(&T::key(key))?.get()
    }

    /// The same, as an `Arc`.
    pub fn get_arc<T: DocumentKind>(&self, key: &T::Key) -> Option<Arc<T>> {
        self.document(&T::key(key))?.get_arc()
    }

    pub(crate) fn put<T: DocumentKind>(&mut self, key: &T::Key, value: impl Into<Arc<T>>) {
        self.changes.insert(T::key(key), Some(Document::new::<T>(value)));
    }

    pub(crate) fn delete<T: DocumentKind>(&mut self, key: &T::Key) {
        self.changes.insert(T::key(key), None);
    }

    /// Applies the changes of a decision.
    pub(crate) fn apply(&mut self, changes: Changes) {
        self.changes.extend(changes);
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

/// What is still missing before a command can be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the command can be decided.
    Done,
    /// These documents; call again once they are loaded.
    More {
        /// By key. All may be changed: their lock roots must be held.
        keys: Vec<Key>,
        /// All documents with these prefixes, which may be changed as well.
        scan: Vec<Prefix>,
    },
}

impl Needs {
    /// All keys that are missing, and the prefixes; `None` if nothing is.
    pub fn into_missing(self) -> Option<(Vec<Key>, Vec<Prefix>)> {
        match self {
            Needs::Done => None,
            Needs::More { keys, scan } => Some((keys, scan)),
        }
    }
}

/// Collects the documents that a command needs.
#[derive(Default)]
pub(crate) struct Wanted {
    keys: Vec<Key>,
    scan: Vec<Prefix>,
}

impl Wanted {
    /// Adds a document that may be changed.
    pub(crate) fn write<T: DocumentKind>(&mut self, key: &T::Key) -> &mut Self {
        self.keys.push(T::key(key));
        self
    }

    /// Adds all documents with a prefix, which may be changed.
    pub(crate) fn scan(&mut self, prefix: Prefix) -> &mut Self {
        self.scan.push(prefix);
        self
    }

    /// Adds what another command, or another part of this one, needs.
    pub(crate) fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.scan.extend(other.scan);
    }

    /// Whether a set has not loaded all of them.
    pub(crate) fn lacks_any_in(&self, set: &WorkingSet<'_>) -> bool {
        self.keys.iter().any(|key| matches!(set.lookup(key), Lookup::Unknown))
            || self.scan.iter().any(|prefix| set.keys(prefix).is_none())
    }

    /// Those that a set has not loaded.
    pub(crate) fn missing_in(mut self, set: &WorkingSet<'_>) -> Needs {
        let is_missing = |key: &Key| matches!(set.lookup(key), Lookup::Unknown);
        self.keys.retain(is_missing);
        self.scan.retain(|prefix| set.keys(prefix).is_none());
        if self.keys.is_empty() && self.scan.is_empty() {
            Needs::Done
        } else {
            Needs::More { keys: self.keys, scan: self.scan }
        }
    }
}
