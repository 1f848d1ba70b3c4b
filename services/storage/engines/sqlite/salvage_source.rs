//! Reads a damaged store, without changing it: what its journal has, and all documents that can be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kernel::TopicPartition;
use rules::documents::{Document, Key, log_of, read};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::around::{first_id, first_readable_id};
use super::foreign::refuse_foreign;
use super::journal::{self, Change};
use super::lock::ReadLock;
use super::logs::{Log, LogChange};
use super::migrate;
use super::open::check_format;
use super::real_path::{beside, real_path};
use super::replay::aside;
use super::scan::{END, behind, step_over};
use super::schema::{WHOLE_LOG, is_damage, number_of, rows_of};
use crate::engines::StoreError;

/// Before the first row of a journal: those that were set aside have negative numbers.
const FIRST_SEQ: i64 = -(1 << 60);
/// Documents that are read at a time.
const PAGE: usize = 256;

/// A store that is read.
pub(super) struct Source {
    pub(super) connection: Connection,
    pub(super) journal: Journal,
    /// Held while it is read.
    _lock: ReadLock,
    copy: Option<PathBuf>,
}

/// What the journal has.
#[derive(Default)]
pub(super) struct Journal {
    texts: BTreeMap<Key, Option<String>>,
    pub(super) logs: HashMap<TopicPartition, Journalled>,
    /// How many times rows could not be read.
    pub(super) gaps: usize,
}

/// What it has of a partition.
#[derive(Default)]
pub(super) struct Journalled {
    pub(super) number: Option<u32>,
    /// Its small batches, by base offset.
    pub(super) recent: BTreeMap<i64, Bytes>,
    /// When batches with records without a timestamp were appended, by base offset.
    pub(super) undated: HashMap<i64, i64>,
}

impl Source {
    /// Opens a store that no broker has open. Beside `unfinished` files may be made: a store with a WAL is read by way of a
    /// link, so that nothing is made beside the store itself.
    pub(super) fn open(path: &Path, unfinished: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError(format!("there is no file {}", path.display())));
        }
        refuse_foreign(path)?;
        let lock = ReadLock::take(path)?;
        let cannot = |why: String| StoreError(format!("the store {} cannot be read: {why}", path.display()));
        let real = real_path(path);
        let wal = beside(&real, "-wal");
        let has_wal = std::fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0);
        let copy = has_wal.then(|| beside(unfinished, "-source"));
        if let Some(copy) = &copy {
            link(&real, &wal, copy).map_err(|error| cannot(error.to_string()))?;
        }
        let opened = connect(copy.as_deref().unwrap_or(&real), has_wal);
        // From here on its files are removed when it is dropped.
        let connection = opened.map_err(|error| {
            copy.iter().for_each(|copy| remove(copy));
            cannot(error.to_string())
        })?;
        let mut source = Self { connection, journal: Journal::default(), _lock: lock, copy };
        check_format(&source.connection)?;
        source.journal = Journal::read(&source.connection).map_err(|error| cannot(error.to_string()))?;
        Ok(source)
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        let pragma =
            |name| self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let size = pragma("page_count").and_then(|pages| Ok(pages * pragma("page_size")?));
        size.unwrap_or(0) as u64
    }

    /// All documents that can be read, in the order of keys; `lost` gets those that cannot be, and the reasons.
    pub(super) fn documents(
        &self,
        lost: &mut dyn FnMut(String),
        each: &mut dyn FnMut(Key, Document) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut take = |key: Key, text: Result<&str, String>| {
            let document = text.and_then(|text| read(&key, text).map_err(|error| error.to_string()));
            match document {
                Ok(document) => each(key, document),
                Err(why) => {
                    lost(format!("the document {key}: {why}"));
                    Ok(())
                }
            }
        };
        let mut changed = self.journal.texts.iter().peekable();
        let mut from = Vec::new();
        loop {
            let (rows, failure) = self.page(&mut from);
            let is_last = rows.len() < PAGE && failure.is_none();
            for (key, text) in rows {
                while let Some((earlier, text)) = changed.next_if(|(changed, _)| **changed < key) {
                    if let Some(text) = text {
                        take(earlier.clone(), Ok(text.as_str()))?;
                    }
                }
                match changed.next_if(|(changed, _)| **changed == key) {
                    Some((_, Some(newer))) => take(key, Ok(newer.as_str()))?,
                    // It was deleted.
                    Some((_, None)) => {}
                    None => take(key, Ok(text.as_str()))?,
                }
            }
            if let Some(error) = failure {
                let (key, next) = step_over(&self.connection, &from, END);
                // What the journal has of it is newer.
                if !self.journal.texts.contains_key(&key) {
                    take(
                        key,
                        Err(format!("it, or the page that it and others are on, cannot be read: {error}")),
                    )?;
                }
                let Some(next) = next else { break };
                from = next;
            } else if is_last {
                break;
            }
        }
        for (key, text) in changed {
            if let Some(text) = text {
                take(key.clone(), Ok(text.as_str()))?;
            }
        }
        Ok(())
    }

    /// Some documents from a key on, which is moved behind them, and the error that has ended it early.
    fn page(&self, from: &mut Vec<u8>) -> (Vec<(Key, String)>, Option<rusqlite::Error>) {
        let mut page = Vec::with_capacity(PAGE);
        let sql = "SELECT key, value FROM whole
             WHERE key >= CAST(?1 AS TEXT) AND key < ?2 ORDER BY key LIMIT ?3";
        let read = self.connection.prepare_cached(sql).and_then(|mut statement| {
            let mut rows = statement.query(params![&from[..], END, PAGE as i64])?;
            while let Some(row) = rows.next()? {
                let key = Key::from_text(row.get_ref(0)?.as_str()?);
                let text = row.get_ref(1)?.as_str()?.to_owned();
                *from = behind(&key);
                page.push((key, text));
            }
            Ok(())
        });
        (page, read.err())
    }

    /// The partition numbers of all batches that can be found, without those of logs that were deleted.
    pub(super) fn numbers(&self) -> BTreeSet<u32> {
        let (mut numbers, mut at) = (BTreeSet::new(), 0);
        loop {
            let is_readable = |id| first_id(&self.connection, id, i64::MAX).is_ok();
            match first_id(&self.connection, at, i64::MAX) {
                Ok(None) => break,
                Ok(Some(id)) => {
                    numbers.insert(number_of(id));
                    at = rows_of(number_of(id)).1 + 1;
                }
                Err(_) => match first_readable_id(at, i64::MAX, is_readable) {
                    Some(next) => at = next,
                    None => break,
                },
            }
        }
        let deleted = "SELECT number FROM garbage WHERE before_offset = ?1";
        let deleted = self.connection.prepare(deleted).and_then(|mut statement| {
            statement.query_map([WHOLE_LOG], |row| row.get(0))?.collect::<rusqlite::Result<BTreeSet<u32>>>()
        });
        // Without the list, what was deleted is only mentioned.
        numbers.difference(&deleted.unwrap_or_default()).copied().collect()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // An open file can be removed.
        self.copy.iter().for_each(|copy| remove(copy));
    }
}

impl Journal {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let (mut journal, mut from) = (Self::default(), FIRST_SEQ);
        loop {
            match row(connection, from) {
                Ok(None) => return Ok(journal),
                Ok(Some((seq, changes, batches))) => {
                    from = seq + 1;
                    let own = aside(&changes);
                    let read = journal::read(own.unwrap_or(&changes), &batches, |change| {
                        journal.apply(change, own.is_some());
                        Ok(())
                    });
                    journal.gaps += usize::from(read.is_err());
                }
                Err(error) if is_damage(&error) => {
                    journal.gaps += 1;
                    let is_readable = |seq| row(connection, seq).is_ok();
                    match first_readable_id(from, i64::MAX, is_readable) {
                        Some(next) => from = next,
                        None => return Ok(journal),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Applies a change. Of a row that was set aside, only the logs: it is older than the documents in the file.
    fn apply(&mut self, change: Change<'_>, is_aside: bool) {
        match change {
            Change::Log(at, change) => self.logs.entry(at).or_default().apply(change),
            Change::State(at, Some(log)) => self.logs.entry(at).or_default().state(log),
            Change::State(_, None) => {}
            _ if is_aside => {}
            Change::Put(key, text) => drop(self.texts.insert(key, Some(text.to_owned()))),
            Change::Delete(key) => drop(self.texts.insert(key, None)),
            Change::DropDocuments(at) => self.texts.retain(|key, _| log_of(key) != Some(at)),
        }
    }
}

impl Journalled {
    fn apply(&mut self, change: LogChange) {
        match change {
            LogChange::Created { number } => self.number = Some(number),
            LogChange::Appended { entry, data } => {
                self.undated.extend(entry.times.undated.map(|ms| (entry.base, ms)));
                self.recent.extend(data.map(|data| (entry.base, data)));
            }
            // The new ones are in the file.
            LogChange::Cleaned { from, until, .. } => {
                self.recent.retain(|base, _| *base < from || *base >= until);
            }
            LogChange::Trimmed { .. } | LogChange::Dropped => {}
        }
    }

    fn state(&mut self, log: Log) {
        self.number = Some(log.number);
        self.undated.extend(log.tail.iter().filter_map(|entry| Some((entry.base, entry.times.undated?))));
        self.recent.extend(log.recent.into_iter().map(|recent| (recent.base, recent.data)));
    }
}

type JournalRow = (i64, Vec<u8>, Bytes);

fn row(connection: &Connection, from: i64) -> rusqlite::Result<Option<JournalRow>> {
    let sql = "SELECT seq, changes, batches FROM journal WHERE seq >= ?1 ORDER BY seq LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement.query_row([from], |row| {
        Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, Bytes::from(row.get::<_, Vec<u8>>(2)?)))
    });
    row.optional()
}

/// Makes a store's file known under another name, and copies its WAL: a reader makes its own index of the WAL.
fn link(real: &Path, wal: &Path, copy: &Path) -> std::io::Result<()> {
    remove(copy);
    std::fs::hard_link(real, copy).or_else(|_| std::fs::copy(real, copy).map(drop))?;
    std::fs::copy(wal, beside(copy, "-wal")).map(drop).inspect_err(|_| remove(copy))
}

fn remove(copy: &Path) {
    // What stays is named as what it is, and in nobody's way.
    let _ = migrate::remove(copy);
}

/// Opens a file that is never written. Without a WAL SQLite need not even lock it.
fn connect(file: &Path, has_wal: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if has_wal {
        Connection::open_with_flags(file, flags)?
    } else {
        let path = file.to_string_lossy();
        let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        Connection::open_with_flags(format!("file:{path}?immutable=1"), flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    connection.execute_batch("PRAGMA query_only=1; PRAGMA cache_size=-4096;")?;
    Ok(connection)
}
