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

    /// The first keys with a prefix, in order: so many, or all that there are. `None` unless they and their documents are
    /// loaded.
    fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>>;
}

/// The first keys with a prefix that were loaded.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstKeys {
    /// The keys.
    pub(crate) keys: Vec<Key>,
    /// How many were asked for. If there are fewer keys, these are all.
    pub(crate) count: usize,
}

impl FirstKeys {
    /// As [`Documents::first`].
    pub(crate) fn first(&self, count: usize) -> Option<Vec<Key>> {
        let are_all = self.keys.len() < self.count;
        (are_all || count <= self.count).then(|| self.keys.iter().take(count).cloned().collect())
    }
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
        let changed: Vec<_> = self.changed(prefix).collect();
        if !changed.is_empty() {
            keys.retain(|key| !self.changes.contains_key(key));
            keys.extend(
                changed.into_iter().filter(|(_, document)| document.is_some()).map(|(key, _)| key.clone()),
            );
            keys.sort_unstable();
        }
        Some(keys)
    }

    /// The first keys with a prefix after the changes so far, in order: so many, or all that there are. `None` if they are
    /// not loaded.
    pub fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>> {
        let stored = count + self.deleted(prefix);
        let mut keys = self
            .under
            .map_or_else(|| self.base.first(prefix, stored), |under| under.first(prefix, stored))?;
        if self.changed(prefix).next().is_some() {
            keys.retain(|key| !self.changes.contains_key(key));
            keys.extend(
                self.changed(prefix).filter(|(_, document)| document.is_some()).map(|(key, _)| key.clone()),
            );
            keys.sort_unstable();
        }
        keys.truncate(count);
        Some(keys)
    }

    /// How many keys must be loaded for [`WorkingSet::first`].
    fn stored_first(&self, prefix: &Prefix, count: usize) -> usize {
        let stored = count + self.deleted(prefix);
        self.under.map_or(stored, |under| under.stored_first(prefix, stored))
    }

    /// The changes of documents with a prefix.
    fn changed<'s>(&'s self, prefix: &'s Prefix) -> impl Iterator<Item = (&'s Key, &'s Option<Document>)> {
        let first = Key::from_text(prefix.as_str());
        self.changes.range(first..).take_while(|(key, _)| prefix.matches(key))
    }

    /// How many documents with a prefix the changes may have deleted.
    fn deleted(&self, prefix: &Prefix) -> usize {
        self.changed(prefix).filter(|(_, document)| document.is_none()).count()
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

    /// Puts a document of any kind.
    pub(crate) fn put_any(&mut self, key: Key, document: Document) {
        self.changes.insert(key, Some(document));
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
    More(Missing),
}

/// Documents that are missing. All may be changed: their lock roots must be held.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missing {
    /// By key.
    pub keys: Vec<Key>,
    /// All documents with these prefixes.
    pub scan: Vec<Prefix>,
    /// The first documents with these prefixes, so many of each.
    pub first: Vec<(Prefix, usize)>,
}

impl Needs {
    /// What is missing; `None` if nothing is.
    pub fn into_missing(self) -> Option<Missing> {
        match self {
            Needs::Done => None,
            Needs::More(missing) => Some(missing),
        }
    }
}

/// Collects the documents that a command needs.
#[derive(Default)]
pub(crate) struct Wanted(Missing);

impl Wanted {
    /// Adds a document that may be changed.
    pub(crate) fn write<T: DocumentKind>(&mut self, key: &T::Key) -> &mut Self {
        self.0.keys.push(T::key(key));
        self
    }

    /// Adds a document of any kind that may be changed.
    pub(crate) fn write_any(&mut self, key: Key) {
        self.0.keys.push(key);
    }

    /// Adds all documents with a prefix, which may be changed.
    pub(crate) fn scan(&mut self, prefix: Prefix) -> &mut Self {
        self.0.scan.push(prefix);
        self
    }

    /// Adds the first documents with a prefix, which may be changed: what is behind them is not read, however much it is.
    pub(crate) fn first(&mut self, prefix: Prefix, count: usize) -> &mut Self {
        self.0.first.push((prefix, count));
        self
    }

    /// Adds what another command, or another part of this one, needs.
    pub(crate) fn extend(&mut self, Self(other): Self) {
        self.0.keys.extend(other.keys);
        self.0.scan.extend(other.scan);
        self.0.first.extend(other.first);
    }

    /// Whether a set has not loaded all of them.
    pub(crate) fn lacks_any_in(&self, set: &WorkingSet<'_>) -> bool {
        let Missing { keys, scan, first } = &self.0;
        keys.iter().any(|key| matches!(set.lookup(key), Lookup::Unknown))
            || scan.iter().any(|prefix| set.keys(prefix).is_none())
            || first.iter().any(|(prefix, count)| set.first(prefix, *count).is_none())
    }

    /// Those that a set has not loaded.
    pub(crate) fn missing_in(self, set: &WorkingSet<'_>) -> Needs {
        let Self(Missing { mut keys, mut scan, mut first }) = self;
        keys.retain(|key| matches!(set.lookup(key), Lookup::Unknown));
        scan.retain(|prefix| set.keys(prefix).is_none());
        first.retain(|(prefix, count)| set.first(prefix, *count).is_none());
        if keys.is_empty() && scan.is_empty() && first.is_empty() {
            return Needs::Done;
        }
        for (prefix, count) in &mut first {
            *count = set.stored_first(prefix, *count);
        }
        Needs::More(Missing { keys, scan, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Subscription;

    fn key(number: usize) -> Key {
        Subscription::key(&Arc::from(number.to_string()))
    }

    /// Keys 1, 3, 5, 7, of which some are loaded.
    struct Stored(FirstKeys);

    impl Stored {
        fn loaded(count: usize) -> Self {
            let all = [1, 3, 5, 7].into_iter().map(key);
            Self(FirstKeys { keys: all.take(count).collect(), count })
        }
    }

    impl Documents for Stored {
        fn lookup(&self, _: &Key) -> Lookup<'_> {
            Lookup::Unknown
        }

        fn keys(&self, _: &Prefix) -> Option<Vec<Key>> {
            None
        }

        fn first(&self, _: &Prefix, count: usize) -> Option<Vec<Key>> {
            self.0.first(count)
        }
    }

    #[test]
    fn the_first_keys_are_those_after_the_changes() {
        let prefix = Subscription::prefix();
        let first = |set: &WorkingSet<'_>, count| {
            let keys = set.first(&prefix, count)?;
            Some(
                keys.iter()
                    .map(|key| Subscription::parse_key(key).unwrap().parse().unwrap())
                    .collect::<Vec<usize>>(),
            )
        };
        let name = |number: usize| Arc::<str>::from(number.to_string());
        let change = |set: &mut WorkingSet<'_>| {
            set.delete::<Subscription>(&name(1));
            set.put::<Subscription>(&name(4), Subscription::default());
        };
        for (loaded, before, after) in [
            (0, None, None),
            (1, None, None),
            (2, Some(vec![1, 3]), None),
            (3, Some(vec![1, 3]), Some(vec![3, 4])),
            (9, Some(vec![1, 3]), Some(vec![3, 4])),
        ] {
            let stored = Stored::loaded(loaded);
            let mut set = WorkingSet::new(&stored);
            assert_eq!(first(&set, 2), before, "{loaded}");
            change(&mut set);
            assert_eq!(first(&set, 2), after, "{loaded}");
            let mut scratch = set.scratch();
            assert_eq!(first(&scratch, 2), after, "{loaded}");
            scratch.delete::<Subscription>(&name(3));
            assert_eq!(first(&scratch, 1), after.map(|_| vec![4]), "{loaded}");
        }
        let stored = Stored::loaded(9);
        let mut set = WorkingSet::new(&stored);
        change(&mut set);
        assert_eq!(first(&set, 9), Some(vec![3, 4, 5, 7]), "there are no more");
    }

    #[test]
    fn what_is_missing_makes_up_for_what_was_deleted() {
        let stored = Stored::loaded(2);
        let mut set = WorkingSet::new(&stored);
        let missing = |set: &WorkingSet<'_>, count| {
            let mut wanted = Wanted::default();
            wanted.first(Subscription::prefix(), count);
            wanted.missing_in(set).into_missing().map(|missing| missing.first[0].1)
        };
        assert_eq!((missing(&set, 2), missing(&set, 3)), (None, Some(3)));
        set.delete::<Subscription>(&Arc::from("1"));
        assert_eq!((missing(&set, 1), missing(&set, 2)), (None, Some(3)));
        let mut scratch = set.scratch();
        scratch.delete::<Subscription>(&Arc::from("3"));
        assert_eq!(missing(&scratch, 1), Some(3));
    }
}
