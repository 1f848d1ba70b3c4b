//! Reads and writes documents.

use std::collections::BTreeMap;

use rules::documents::{Document, Key, Prefix, ReadError, read};
use rules::{Changes, Loaded, Missing};
use tokio_postgres::{Error, Row};

use super::errors::Failure;
use super::session::Session;
use crate::engines::StoreError;

const BY_KEY: &str = "SELECT key, value FROM documents WHERE key = ANY($1::bytea[])";
const OF_PREFIX: &str = "SELECT key, value FROM documents WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3";
const AFTER: &str = "SELECT key, value FROM documents WHERE key > $1 AND key < $2 ORDER BY key LIMIT $3";
const PUT: &str = "INSERT INTO documents SELECT * FROM unnest($1::bytea[], $2::text[])
    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const DELETE: &str = "DELETE FROM documents WHERE key = ANY($1::bytea[])";
const DELETE_RANGES: &str = "DELETE FROM documents d USING unnest($1::bytea[], $2::bytea[]) AS s(first, upto)
    WHERE d.key >= s.first AND d.key < s.upto";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 4] = [BY_KEY, PUT, DELETE, DELETE_RANGES];

/// Loads documents that a commit needs and that are locked.
pub(super) async fn load(session: &Session, missing: Missing, loaded: &mut Loaded) -> Result<(), Failure> {
    let Missing { keys, scan, first } = missing;
    let rows = by_key(session, &keys).await.map_err(reading)?;
    add(loaded, keys, &rows, |_| true)?;
    for prefix in scan {
        let found = self::scan(session, &prefix, None, usize::MAX).await?;
        loaded.add_all(prefix, found);
    }
    for (prefix, count) in first {
        let found = self::scan(session, &prefix, None, count).await?;
        loaded.add_first(prefix, count, found);
    }
    Ok(())
}

/// Adds what was read of documents, but for those that are not to be kept.
pub(super) fn add(
    loaded: &mut Loaded,
    keys: Vec<Key>,
    rows: &[Row],
    is_kept: impl Fn(&Key) -> bool,
) -> Result<(), StoreError> {
    keys.into_iter().filter(|key| is_kept(key)).for_each(|key| loaded.add(key, None));
    for row in rows {
        let (key, document) = parse(row)?;
        if is_kept(&key) {
            loaded.add(key, Some(document));
        }
    }
    Ok(())
}

/// The rows of documents.
pub(super) async fn by_key(session: &Session, keys: &[Key]) -> Result<Vec<Row>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    session.query(BY_KEY, &[&bytes_of(keys)]).await
}

/// Documents by key, in the order of `keys`.
pub(super) async fn get(session: &Session, keys: &[Key]) -> Result<Vec<Option<Document>>, Failure> {
    let rows = by_key(session, keys).await.map_err(reading)?;
    let mut found = rows.iter().map(parse).collect::<Result<BTreeMap<_, _>, _>>()?;
    // A key may be asked for twice.
    Ok(keys.iter().map(|key| found.get_mut(key).cloned()).collect())
}

/// The first documents of a prefix after a key, in key order.
pub(super) async fn scan(
    session: &Session,
    prefix: &Prefix,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<(Key, Document)>, Failure> {
    let (sql, first) = after.map_or((OF_PREFIX, prefix.as_str()), |key| (AFTER, key.as_str()));
    let end = prefix.end();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = session.query(sql, &[&first.as_bytes(), &end.as_bytes(), &limit]).await;
    let found = rows.map_err(reading)?.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(found)
}

fn reading(error: Error) -> Failure {
    Failure::of("reading", &error)
}

fn bytes_of(keys: &[Key]) -> Vec<&[u8]> {
    keys.iter().map(|key| key.as_str().as_bytes()).collect()
}

/// Reads a row of a key and a value.
pub(super) fn parse(row: &Row) -> Result<(Key, Document), StoreError> {
    let (bytes, text): (&[u8], &str) = (row.get(0), row.get(1));
    let key = str::from_utf8(bytes).map_err(|_| {
        StoreError(format!(
            "the store has a document whose key is no text: {:?}",
            bytes.escape_ascii().to_string()
        ))
    })?;
    let key = Key::from_text(key);
    match read(&key, text) {
        Ok(document) => Ok((key, document)),
        Err(error @ ReadError::Newer { .. }) => Err(StoreError(format!(
            "the document {key} in the store cannot be read: {error}; upgrade Yagura"
        ))),
        Err(error) => Err(StoreError(format!(
            "the document {key} in the store cannot be read: {error}; something other than Yagura has changed it"
        ))),
    }
}

/// The changed documents of a commit as they are written.
pub(super) struct Written {
    put: (Vec<Key>, Vec<String>),
    deleted: Vec<Key>,
    /// The documents that are deleted with logs.
    ranges: Vec<Prefix>,
}

impl Written {
    pub(super) fn of(changes: &Changes, ranges: Vec<Prefix>, level: u32) -> Result<Self, StoreError> {
        let mut written = Self { put: (Vec::new(), Vec::new()), deleted: Vec::new(), ranges };
        for (key, document) in changes {
            let Some(document) = document else {
                written.deleted.push(key.clone());
                continue;
            };
            let text = document.write_at(level).map_err(|error| {
                StoreError(format!("the document {key} cannot be written: {error}; this is a bug in Yagura"))
            })?;
            written.put.0.push(key.clone());
            written.put.1.push(text);
        }
        Ok(written)
    }

    pub(super) async fn put(&self, session: &Session) -> Result<(), Error> {
        let (keys, texts) = &self.put;
        if keys.is_empty() {
            return Ok(());
        }
        session.execute(PUT, &[&bytes_of(keys), texts]).await.map(drop)
    }

    pub(super) async fn delete(&self, session: &Session) -> Result<(), Error> {
        if self.deleted.is_empty() {
            return Ok(());
        }
        session.execute(DELETE, &[&bytes_of(&self.deleted)]).await.map(drop)
    }

    /// Deletes what belongs to deleted logs, after it may have been put.
    pub(super) async fn delete_ranges(&self, session: &Session) -> Result<(), Error> {
        if self.ranges.is_empty() {
            return Ok(());
        }
        let ends: Vec<String> = self.ranges.iter().map(Prefix::end).collect();
        let first: Vec<&[u8]> = self.ranges.iter().map(|prefix| prefix.as_str().as_bytes()).collect();
        let ends: Vec<&[u8]> = ends.iter().map(String::as_bytes).collect();
        session.execute(DELETE_RANGES, &[&first, &ends]).await.map(drop)
    }
}
