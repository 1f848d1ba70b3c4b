//! The documents that a commit reads: those that are not folded yet, and what it loads from the cache and the file.

use std::collections::HashMap;

use rules::documents::{Document, Key, Prefix};
use rules::{Documents, FirstKeys, Lookup};

use super::commit::{Committer, document};
use super::scan::merge;
use super::state::Unfolded;
use crate::engines::StoreError;

/// The documents that a commit reads. What was loaded stays until its end, whatever the cache forgets.
pub(super) struct Base<'a> {
    pub(super) unfolded: &'a Unfolded,
    pub(super) loaded: Loaded,
}

/// What a commit has loaded from the cache or the file.
#[derive(Default)]
pub(super) struct Loaded {
    documents: HashMap<Key, Option<Document>>,
    scanned: HashMap<Prefix, Vec<Key>>,
    first: HashMap<Prefix, FirstKeys>,
}

impl Documents for Base<'_> {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        let known = self.unfolded.document(key).or_else(|| self.loaded.documents.get(key));
        known.map_or(Lookup::Unknown, |document| Lookup::Known(document.as_ref()))
    }

    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        self.loaded.scanned.get(prefix).cloned()
    }

    fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>> {
        self.loaded.first.get(prefix)?.first(count)
    }
}

impl Committer {
    /// Loads documents from the cache or the file.
    pub(super) fn load(&self, keys: Vec<Key>, loaded: &mut Loaded) -> Result<(), StoreError> {
        for key in keys {
            let document = self.stored(&key)?;
            loaded.documents.insert(key, document);
        }
        Ok(())
    }

    /// A document in the cache or the file, which is cached then.
    pub(super) fn stored(&self, key: &Key) -> Result<Option<Document>, StoreError> {
        if let Some(cached) = self.shared.clean.lock().document(key) {
            return Ok(cached);
        }
        let (document, bytes) = document(&self.connection, key)?;
        self.shared.clean.lock().put_document(key.clone(), document.clone(), bytes);
        Ok(document)
    }

    /// Loads all documents of some prefixes.
    pub(super) fn scan(
        &self,
        prefixes: Vec<Prefix>,
        unfolded: &Unfolded,
        loaded: &mut Loaded,
    ) -> Result<(), StoreError> {
        for prefix in prefixes {
            let found = merge(&self.connection, unfolded, &prefix, usize::MAX)?;
            loaded.scanned.insert(prefix, found.iter().map(|(key, _)| key.clone()).collect());
            loaded.documents.extend(found.into_iter().map(|(key, document)| (key, Some(document))));
        }
        Ok(())
    }

    /// Loads the first documents of some prefixes.
    pub(super) fn scan_first(
        &self,
        prefixes: Vec<(Prefix, usize)>,
        unfolded: &Unfolded,
        loaded: &mut Loaded,
    ) -> Result<(), StoreError> {
        for (prefix, count) in prefixes {
            let found = merge(&self.connection, unfolded, &prefix, count)?;
            let keys = found.iter().map(|(key, _)| key.clone()).collect();
            loaded.first.insert(prefix, FirstKeys { keys, count });
            loaded.documents.extend(found.into_iter().map(|(key, document)| (key, Some(document))));
        }
        Ok(())
    }
}
