//! Scans of documents: those in the file, under those that are not folded yet.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;

use rules::documents::{Document, DocumentKind, Key, Prefix, TopicDocument};
use rusqlite::{Connection, params};

use super::Shared;
use super::commit::parse;
use super::reader::Snapshot;
use super::schema::failed;
use super::state::Unfolded;
use crate::engines::StoreError;

/// The first documents of a prefix after a key, in key order.
pub(super) fn scan(
    connection: &Connection,
    shared: &Shared,
    prefix: &Prefix,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<(Key, Document)>, StoreError> {
    let unfolded = shared.unfolded.read();
    let merged = Merged::of(&unfolded, prefix, after, limit);
    let version = shared.clean.lock().version;
    let _snapshot = Snapshot::begin(connection)?;
    drop(unfolded);
    merged.read(connection, prefix, after, |key, text| stored(shared, key, text, version))
}

/// All documents of a prefix, for a connection that sees what is unfolded: the writer's.
pub(super) fn merge(
    connection: &Connection,
    unfolded: &Unfolded,
    prefix: &Prefix,
) -> Result<Vec<(Key, Document)>, StoreError> {
    Merged::of(unfolded, prefix, None, usize::MAX).read(connection, prefix, None, parse)
}

/// A document in the file, parsed unless it is cached.
fn stored(shared: &Shared, key: &Key, text: &str, version: u64) -> Result<Document, StoreError> {
    // Only topics are looked through again and again; other scans would only push out what is in use.
    if key.kind() != TopicDocument::PREFIX {
        return parse(key, text);
    }
    if let Some(Some(document)) = shared.clean.lock().document_of(key, version) {
        return Ok(document);
    }
    let document = parse(key, text)?;
    let mut clean = shared.clean.lock();
    if clean.version == version {
        clean.put_document(key.clone(), Some(document.clone()), text.len());
    }
    Ok(document)
}

/// Documents of the file and changed ones, in key order.
struct Merged {
    changed: Peekable<btree_map::IntoIter<Key, Option<Document>>>,
    found: Vec<(Key, Document)>,
    limit: usize,
}

impl Merged {
    fn of(unfolded: &Unfolded, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Self {
        // Once there are as many as are wanted, none that follows them can be among the first.
        let (mut changed, mut left) = (BTreeMap::new(), limit);
        for (key, document) in unfolded.range(prefix, after) {
            if left == 0 {
                break;
            }
            left -= usize::from(document.is_some());
            changed.insert(key.clone(), document.clone());
        }
        Self { changed: changed.into_iter().peekable(), found: Vec::new(), limit }
    }

    /// Adds what the file has.
    fn read(
        mut self,
        connection: &Connection,
        prefix: &Prefix,
        after: Option<&Key>,
        parse: impl Fn(&Key, &str) -> Result<Document, StoreError>,
    ) -> Result<Vec<(Key, Document)>, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading documents", &error);
        // The empty group id gives a key that is the prefix itself.
        let sql = "SELECT key, value FROM whole WHERE key >= ?1 AND key < ?2 ORDER BY key";
        let from = after.map_or(prefix.as_str(), Key::as_str);
        let mut statement = connection.prepare_cached(sql).map_err(reading)?;
        let mut rows = statement.query(params![from, prefix.end()]).map_err(reading)?;
        while self.has_room()
            && let Some(row) = rows.next().map_err(reading)?
        {
            let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(reading);
            let key = Key::from_text(text(0)?);
            if after != Some(&key) && !self.is_changed(&key) && self.has_room() {
                let document = parse(&key, text(1)?)?;
                self.found.push((key, document));
            }
        }
        self.add_changed(|_| true);
        Ok(self.found)
    }

    fn has_room(&self) -> bool {
        self.found.len() < self.limit
    }

    /// Adds the changed documents before a key of the file; returns whether that one is changed itself.
    fn is_changed(&mut self, key: &Key) -> bool {
        self.add_changed(|changed| changed < key);
        self.changed.peek().is_some_and(|(changed, _)| changed == key)
    }

    fn add_changed(&mut self, is_next: impl Fn(&Key) -> bool) {
        while self.has_room()
            && let Some((key, document)) = self.changed.next_if(|(key, _)| is_next(key))
        {
            self.found.extend(document.map(|document| (key, document)));
        }
    }
}
