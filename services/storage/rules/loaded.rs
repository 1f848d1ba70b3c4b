//! The documents that were loaded for commands.

use std::collections::HashMap;

use crate::documents::{Document, Key, Prefix};
use crate::working_set::{Documents, FirstKeys, Lookup};

/// Documents that were loaded, and lists of them; nothing is known of any other.
#[derive(Debug, Default)]
pub struct Loaded {
    documents: HashMap<Key, Option<Document>>,
    scanned: HashMap<Prefix, Vec<Key>>,
    first: HashMap<Prefix, FirstKeys>,
}

impl Loaded {
    /// Adds a document; `None` if it does not exist.
    pub fn add(&mut self, key: Key, document: Option<Document>) {
        self.documents.insert(key, document);
    }

    /// Adds all documents of a prefix, in order.
    pub fn add_all(&mut self, prefix: Prefix, found: Vec<(Key, Document)>) {
        let keys = self.add_found(found);
        self.scanned.insert(prefix, keys);
    }

    /// Adds the first documents of a prefix, in order: `count`, or all that there are.
    pub fn add_first(&mut self, prefix: Prefix, count: usize, found: Vec<(Key, Document)>) {
        let keys = self.add_found(found);
        self.first.insert(prefix, FirstKeys { keys, count });
    }

    fn add_found(&mut self, found: Vec<(Key, Document)>) -> Vec<Key> {
        let keys = found.iter().map(|(key, _)| key.clone()).collect();
        self.documents.extend(found.into_iter().map(|(key, document)| (key, Some(document))));
        keys
    }

    /// What is known of a document.
    pub fn get(&self, key: &Key) -> Option<&Option<Document>> {
        self.documents.get(key)
    }

    /// Those that exist.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.documents.values().flatten()
    }
}

impl Documents for Loaded {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        self.documents.get(key).map_or(Lookup::Unknown, |document| Lookup::Known(document.as_ref()))
    }

    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        self.scanned.get(prefix).cloned()
    }

    fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>> {
        self.first.get(prefix)?.first(count)
    }
}
