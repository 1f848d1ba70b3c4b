//! Reads the journal when a store is opened.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kernel::TopicPartition;
use rules::documents::{Key, log_of};
use rusqlite::{Connection, params};

use super::commit::parse;
use super::fold::Fold;
use super::journal::{self, Change};
use super::logs::Log;
use super::parked::{PARKED_SEQ, Parked};
use super::schema::{failed, is_damage};
use super::state::Unfolded;
use crate::engines::StoreError;

/// Before the rows that are set aside, which are not read again. What cannot be parsed makes an earlier release refuse the
/// file: it would take them for commits.
const ASIDE: &[u8] = &[0xff];

/// The state that a journal gives.
pub(super) struct Replayed {
    pub(super) unfolded: Unfolded,
    pub(super) fold: Fold,
    /// Partitions whose logs cannot be read, with the reason: what the journal has of them cannot be applied.
    pub(super) unreadable: Vec<(TopicPartition, StoreError)>,
    /// The rows that have something of them.
    aside: Vec<(i64, Vec<u8>, Bytes)>,
}

impl Replayed {
    /// Keeps what could not be applied, which the next fold would delete with its row: `yagura store salvage` reads it.
    pub(super) fn set_aside(&self, connection: &Connection) -> Result<(), StoreError> {
        let keeping = |error: rusqlite::Error| failed("keeping rows of its journal", &error);
        for (seq, changes, batches) in &self.aside {
            let row = params![PARKED_SEQ - seq, [ASIDE, &changes[..]].concat(), &batches[..]];
            let insert = "INSERT OR REPLACE INTO journal VALUES (?1, ?2, ?3)";
            connection.execute(insert, row).map_err(keeping)?;
        }
        Ok(())
    }
}

/// The changes in a row that was set aside.
pub(super) fn aside(changes: &[u8]) -> Option<&[u8]> {
    changes.strip_prefix(ASIDE)
}

/// Reads the journal, which is empty unless the last process was killed. Its size is bounded, and nothing else is read:
/// how long opening takes does not depend on what is stored.
pub(super) fn replay(connection: &Connection) -> Result<Replayed, StoreError> {
    let reading = |error: rusqlite::Error| failed("reading its journal", &error);
    let mut replay = Replay::new(connection);
    let folded = "SELECT value FROM counters WHERE name = 'folded_seq'";
    let mut last_seq: i64 = connection.query_row(folded, [], |row| row.get(0)).map_err(reading)?;
    let (mut count, mut bytes, mut has_parked, mut set_aside) = (0, 0, false, Vec::new());
    let sql = "SELECT seq, changes, batches FROM journal WHERE seq >= ?1 ORDER BY seq";
    let mut statement = connection.prepare(sql).map_err(reading)?;
    let mut rows = statement.query([PARKED_SEQ]).map_err(reading)?;
    while let Some(row) = rows.next().map_err(reading)? {
        let value = |column| row.get::<_, Vec<u8>>(column).map_err(reading);
        let seq: i64 = row.get(0).map_err(reading)?;
        let (changes, batches) = (value(1)?, Bytes::from(value(2)?));
        let mut is_whole = true;
        let apply = |change| replay.apply(change, seq).map(|is_applied| is_whole &= is_applied);
        journal::read(&changes, &batches, apply).map_err(reading)?;
        if seq == PARKED_SEQ {
            has_parked = true;
            continue;
        }
        last_seq = seq;
        count += 1;
        bytes += changes.len() + batches.len();
        if !is_whole {
            set_aside.push((seq, changes, batches));
        }
    }
    let mut unfolded = Unfolded::default();
    for (key, text) in replay.texts {
        let bytes = text.as_ref().map_or(0, String::len);
        let document = text.map(|text| parse(&key, &text)).transpose()?;
        unfolded.put(key, document, bytes);
    }
    unfolded.logs = replay.logs.into_iter().map(|(at, (_, log))| (at, log)).collect();
    let fold = Fold::of(last_seq, count, bytes, Parked::after_replay(has_parked));
    Ok(Replayed { unfolded, fold, unreadable: replay.unreadable.into_iter().collect(), aside: set_aside })
}

/// The state after some rows of the journal. Documents are parsed at the end: only the last version counts.
struct Replay<'a> {
    connection: &'a Connection,
    texts: BTreeMap<Key, Option<String>>,
    /// Each with the last row that was in its own row in the file.
    logs: HashMap<TopicPartition, (i64, Option<Log>)>,
    unreadable: HashMap<TopicPartition, StoreError>,
}

impl<'a> Replay<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self { connection, texts: BTreeMap::new(), logs: HashMap::new(), unreadable: HashMap::new() }
    }

    /// Applies a change; returns whether it could be.
    fn apply(&mut self, change: Change<'_>, seq: i64) -> rusqlite::Result<bool> {
        match change {
            Change::Put(key, text) => drop(self.texts.insert(key, Some(text.to_owned()))),
            Change::Delete(key) => drop(self.texts.insert(key, None)),
            Change::DropDocuments(at) => self.texts.retain(|key, _| log_of(key) != Some(at)),
            Change::State(at, log) => {
                self.logs.insert(at, (log.as_ref().map_or(0, |log| log.seq), log));
            }
            Change::Log(at, change) => {
                if self.unreadable.contains_key(&at) {
                    return Ok(false);
                }
                let (folded, log) = match self.logs.entry(at) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => match Log::load(self.connection, at) {
                        Ok(log) => unknown.insert((log.as_ref().map_or(0, |log| log.seq), log)),
                        Err(error) if is_damage(&error) => {
                            self.unreadable.insert(at, failed("reading a log", &error));
                            return Ok(false);
                        }
                        Err(error) => return Err(error),
                    },
                };
                // A fold may have got this far before the process was killed.
                if seq > *folded {
                    *log = Log::after(log.take(), change, seq);
                }
            }
        }
        Ok(true)
    }
}
