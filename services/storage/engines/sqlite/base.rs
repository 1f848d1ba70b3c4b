//! The documents that a commit reads: those that are not folded yet, and what it loads from the cache and the file.

use rules::documents::{Document, Key, Prefix};
use rules::{Documents, Loaded, Lookup};

use super::commit::{Committer, document};
use super::scan::merge;
use super::state::Unfolded;
use crate::engines::StoreError;

/// The documents that a commit reads. What was loaded stays until its end, whatever the cache forgets.
pub(super) struct Base<'a> {
    pub(super) unfolded: &'a Unfolded,
    pub(super) loaded: Loaded,
}

impl Documents for Base<'_> {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        let known = self.unfolded.document(key).or_else(|| self.loaded.get(key));
        known.map_or(Lookup::Unknown, |document| Lookup::Known(document.as_ref()))
    }

    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        self.loaded.keys(prefix)
    }

    fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>> {
        self.loaded.first(prefix, count)
    }
}

impl Committer {
    /// Loads documents from the cache or the file.
    pub(super) fn load(&self, keys: Vec<Key>, loaded: &mut Loaded) -> Result<(), StoreError> {
        for key in keys {
            let document = self.stored(&key)?;
            loaded.add(key, document);
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
            loaded.add_all(prefix, found);
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
            loaded.add_first(prefix, count, found);
        }
        Ok(())
    }
}
