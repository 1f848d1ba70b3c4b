//! Scans of documents: those in the file, under those that are not folded yet.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;

use rules::documents::{Document, DocumentKind, Key, Prefix, TopicDocument};
use rusqlite::{Connection, OptionalExtension, params};

use super::Shared;
use super::around::first_readable;
use super::commit::parse;
use super::damage::{Damage, Part};
use super::reader::Snapshot;
use super::schema::{failed, is_about_damage};
use super::state::Unfolded;
use crate::engines::StoreError;

/// Behind all keys of documents.
pub(super) const END: &str = "~";

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
    // All of a kind are listed without what is damaged. Of a group or a partition nothing may be left out: its rules, and
    // its clients, would take it for absent.
    let is_listing = prefix.as_str().matches('/').count() == 1;
    let damage = is_listing.then_some(&shared.damage);
    let found =
        merged.read(connection, prefix, after, damage, |key, text| stored(shared, key, text, version));
    found.inspect_err(|failure| {
        if is_about_damage(failure) {
            shared.damage.note(&Part::Document(Key::from_text(prefix.as_str())), failure);
        }
    })
}

/// The first documents of a prefix, for a connection that sees what is unfolded: the writer's.
pub(super) fn merge(
    connection: &Connection,
    unfolded: &Unfolded,
    prefix: &Prefix,
    limit: usize,
) -> Result<Vec<(Key, Document)>, StoreError> {
    Merged::of(unfolded, prefix, None, limit).read(connection, prefix, None, None, parse)
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

/// How many damaged pages one scan steps over.
const GAPS_MAX: usize = 64;

/// The least key after this one.
pub(super) fn behind(key: &Key) -> Vec<u8> {
    let mut next = key.as_str().as_bytes().to_vec();
    next.push(0);
    next
}

/// A name for what cannot be read, and where reading goes on.
pub(super) fn step_over(connection: &Connection, from: &[u8], end: &str) -> (Key, Option<Vec<u8>>) {
    let named = |key: &[u8]| Key::from_text(&String::from_utf8_lossy(key).replace('\0', ""));
    match first_key(connection, from, end) {
        // The key can be read, its text cannot.
        Ok(Some(key)) => (named(&key), Some([&key[..], &[0][..]].concat())),
        Ok(None) => (named(from), None),
        Err(_) => {
            let is_readable = |probe: &[u8]| first_key(connection, probe, end).is_ok();
            (named(from), first_readable(from, end.as_bytes(), is_readable))
        }
    }
}

/// The first key from one on, in the bytes that it has.
fn first_key(connection: &Connection, from: &[u8], end: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = "SELECT CAST(key AS BLOB) FROM documents
         WHERE key >= CAST(?1 AS TEXT) AND key < ?2 ORDER BY key LIMIT 1";
    connection.prepare_cached(sql)?.query_row(params![from, end], |row| row.get(0)).optional()
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

    /// Adds what the file has. With `damage`, what cannot be read is noted there and left out.
    fn read(
        mut self,
        connection: &Connection,
        prefix: &Prefix,
        after: Option<&Key>,
        damage: Option<&Damage>,
        parse: impl Fn(&Key, &str) -> Result<Document, StoreError>,
    ) -> Result<Vec<(Key, Document)>, StoreError> {
        // The empty group id gives a key that is the prefix itself.
        let mut from = after.map_or_else(|| prefix.as_str().into(), behind);
        for gaps_left in (0..GAPS_MAX).rev() {
            let Err(failure) = self.read_from(connection, &mut from, prefix, damage, &parse) else { break };
            let Some(damage) = damage.filter(|_| gaps_left > 0 && is_about_damage(&failure)) else {
                return Err(failure);
            };
            let (key, next) = step_over(connection, &from, &prefix.end());
            damage.note(&Part::Document(key), &failure);
            let Some(next) = next else { break };
            from = next;
        }
        self.add_changed(|_| true);
        Ok(self.found)
    }

    /// Adds what the file has up to the first that cannot be read: `from` is moved behind each that was.
    fn read_from(
        &mut self,
        connection: &Connection,
        from: &mut Vec<u8>,
        prefix: &Prefix,
        damage: Option<&Damage>,
        parse: impl Fn(&Key, &str) -> Result<Document, StoreError>,
    ) -> Result<(), StoreError> {
        let reading = |error: rusqlite::Error| failed("reading documents", &error);
        let sql = "SELECT key, value FROM whole WHERE key >= CAST(?1 AS TEXT) AND key < ?2 ORDER BY key";
        let mut statement = connection.prepare_cached(sql).map_err(reading)?;
        let mut rows = statement.query(params![&from[..], prefix.end()]).map_err(reading)?;
        while self.has_room()
            && let Some(row) = rows.next().map_err(reading)?
        {
            let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(reading);
            let key = Key::from_text(text(0)?);
            if !self.is_changed(&key) && self.has_room() {
                match (text(1).and_then(|text| parse(&key, text)), damage) {
                    (Ok(document), _) => self.found.push((key.clone(), document)),
                    (Err(failure), Some(damage)) => damage.note(&Part::Document(key.clone()), &failure),
                    (Err(failure), None) => return Err(failure),
                }
            }
            *from = behind(&key);
        }
        Ok(())
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
