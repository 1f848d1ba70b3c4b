//! A store for the tests of the rules: documents in a map.

use std::collections::BTreeMap;

use crate::commands::{Command, Effect, Outcome};
use crate::documents::{Document, DocumentKind, Key, PartitionDocument, ProducerDocument, TopicName};
use crate::{Documents, Lookup, Needs, WorkingSet, decide, needs};

/// Documents in a map, all of them loaded.
#[derive(Debug, Default)]
pub(crate) struct MapStore(pub(crate) BTreeMap<Key, Document>);

impl Documents for MapStore {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        Lookup::Known(self.0.get(key))
    }
}

/// The same documents with only some of them loaded.
struct Loaded<'a> {
    store: &'a MapStore,
    keys: Vec<Key>,
}

impl Documents for Loaded<'_> {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        if self.keys.contains(key) { self.store.lookup(key) } else { Lookup::Unknown }
    }
}

impl MapStore {
    /// Decides a command and applies its changes. It is decided twice, on all documents and on only those
    /// that `needs` returned: both must agree, and only documents that `needs` listed for writing may change.
    pub(crate) fn run(&mut self, command: &Command) -> (Outcome, Vec<Effect>) {
        let (keys, write) = self.needed(command);
        let loaded = Loaded { store: self, keys };
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
        for key in changes.keys() {
            assert!(write.contains(key) || is_new(key), "{command:?} writes {key} and does not say so");
        }
        for (key, document) in changes {
            match document {
                Some(document) => drop(self.0.insert(key, document)),
                None => drop(self.0.remove(&key)),
            }
        }
        for effect in &effects {
            if let Effect::DropLog { partition } = effect {
                let producers = ProducerDocument::of_partition(*partition);
                self.0.retain(|key, _| !producers.matches(key));
            }
        }
        (outcome, effects)
    }

    /// All keys that a command needs, and those of them that it may write.
    fn needed(&self, command: &Command) -> (Vec<Key>, Vec<Key>) {
        let (mut keys, mut all_write) = (Vec::new(), Vec::new());
        loop {
            let loaded = Loaded { store: self, keys: std::mem::take(&mut keys) };
            let needs = needs(command, &WorkingSet::new(&loaded));
            keys = loaded.keys;
            let Needs::More { read, write } = needs else { return (keys, all_write) };
            all_write.extend(write.iter().cloned());
            keys.extend(read.into_iter().chain(write));
        }
    }

    /// A document.
    pub(crate) fn get<T: DocumentKind>(&self, key: &T::Key) -> Option<&T> {
        self.0.get(&T::key(key))?.get()
    }
}
