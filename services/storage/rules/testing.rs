//! A store for the tests of the rules: documents in a map.

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::{Command, Effect, Outcome};
use crate::documents::{
    AbortedTransaction, Document, DocumentKind, Due, DueKey, Key, LiveGroup, OpenTransaction,
    PartitionDocument, PendingOffset, Prefix, TopicName, TransactionDue, TransactionOffset, lock_root,
    log_of,
};
use crate::working_set::FirstKeys;
use crate::{Documents, Lookup, Missing, WorkingSet, decide, needs};

/// The kinds of documents that rules put or delete without looking at them.
const LISTS: [&str; 7] = [
    Due::PREFIX,
    LiveGroup::PREFIX,
    TransactionDue::PREFIX,
    OpenTransaction::PREFIX,
    AbortedTransaction::PREFIX,
    TransactionOffset::PREFIX,
    PendingOffset::PREFIX,
];

/// Documents in a map, all of them loaded.
#[derive(Debug, Default)]
pub(crate) struct MapStore(pub(crate) BTreeMap<Key, Document>);

impl Documents for MapStore {
    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        Some(self.0.keys().filter(|key| prefix.matches(key)).cloned().collect())
    }

    fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>> {
        Some(self.0.keys().filter(|key| prefix.matches(key)).take(count).cloned().collect())
    }

    fn lookup(&self, key: &Key) -> Lookup<'_> {
        Lookup::Known(self.0.get(key))
    }
}

/// The same documents with only some of them loaded.
struct Loaded<'a> {
    store: &'a MapStore,
    keys: Vec<Key>,
    scans: Vec<Prefix>,
    first: BTreeMap<String, FirstKeys>,
}

impl Loaded<'_> {
    fn is_scanned(&self, key: &Key) -> bool {
        self.scans.iter().any(|prefix| prefix.matches(key))
            || self.first.values().any(|first| first.keys.contains(key))
    }
}

impl Documents for Loaded<'_> {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        let is_loaded = self.keys.contains(key) || self.is_scanned(key);
        if is_loaded { self.store.lookup(key) } else { Lookup::Unknown }
    }

    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        if self.scans.contains(prefix) { self.store.keys(prefix) } else { None }
    }

    fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>> {
        self.first.get(prefix.as_str())?.first(count)
    }
}

impl MapStore {
    /// Decides a command and applies its changes. It is decided twice, on all documents and on only those
    /// that `needs` returned: both must agree, and only documents that `needs` listed may change.
    pub(crate) fn run(&mut self, command: &Command) -> (Outcome, Vec<Effect>) {
        let loaded = self.needed(command);
        let write = &loaded.keys;
        let (mut set, mut lean) = (WorkingSet::new(self), WorkingSet::new(&loaded));
        let outcome = decide(&mut set, command);
        assert_eq!(decide(&mut lean, command), outcome, "{command:?} needs more than it says");
        let (changes, effects) = set.into_changes();
        assert_eq!(lean.into_changes(), (changes.clone(), effects.clone()), "{command:?}");
        assert!(outcome.is_ok() || changes.is_empty(), "a refused command changes nothing: {outcome:?}");
        // Nobody else knows the id of a new topic, or of new partitions of a topic that is locked.
        let is_new = |key: &Key| {
            matches!(key.kind(), PartitionDocument::PREFIX | TopicName::PREFIX) && !self.0.contains_key(key)
        };
        // Lists are kept without being looked at, under a lock that the command holds anyway.
        let is_listed = |key: &Key| {
            LISTS.contains(&key.kind()) && write.iter().any(|own| lock_root(own) == lock_root(key))
        };
        for key in changes.keys() {
            assert!(
                write.contains(key) || loaded.is_scanned(key) || is_new(key) || is_listed(key),
                "{command:?} writes {key} and does not say so"
            );
        }
        for (key, document) in changes {
            match document {
                Some(document) => drop(self.0.insert(key, document)),
                None => drop(self.0.remove(&key)),
            }
        }
        for effect in &effects {
            if let Effect::DropLog { partition } = effect {
                self.0.retain(|key, _| log_of(key) != Some(*partition));
            }
        }
        (outcome, effects)
    }

    /// Runs a command, and returns how many documents it needs, and how many it writes.
    pub(crate) fn cost(&mut self, command: &Command) -> (usize, usize) {
        let loaded = self.needed(command);
        let scanned = self.0.keys().filter(|key| loaded.is_scanned(key)).cloned();
        let needed = loaded.keys.iter().cloned().chain(scanned).collect::<BTreeSet<Key>>().len();
        let mut set = WorkingSet::new(self);
        decide(&mut set, command).unwrap();
        let written = set.into_changes().0.len();
        self.run(command).0.unwrap();
        (needed, written)
    }

    /// What a command needs.
    fn needed(&self, command: &Command) -> Loaded<'_> {
        let mut loaded = Loaded { store: self, keys: Vec::new(), scans: Vec::new(), first: BTreeMap::new() };
        loop {
            let missing = needs(command, &WorkingSet::new(&loaded)).into_missing();
            let Some(Missing { keys, scan, first }) = missing else { return loaded };
            loaded.keys.extend(keys);
            loaded.scans.extend(scan);
            for (prefix, count) in first {
                let keys = self.first(&prefix, count).unwrap_or_default();
                loaded.first.insert(prefix.as_str().to_owned(), FirstKeys { keys, count });
            }
        }
    }

    /// The entries of the due index, by time and subject.
    pub(crate) fn due(&self) -> Vec<DueKey> {
        self.0.keys().filter_map(Due::parse_key).collect()
    }

    /// A document.
    pub(crate) fn get<T: DocumentKind>(&self, key: &T::Key) -> Option<&T> {
        self.0.get(&T::key(key))?.get()
    }
}
