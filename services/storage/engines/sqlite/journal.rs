//! Rows of the journal: what one commit changes.
//!
//! A row holds the changed documents, as text, and the changes of logs. Small batches are in a column of their own, in
//! the order of their changes. Opening a store reads all rows; a later change of a document replaces an earlier one.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};
use kernel::records::NO_TIMESTAMP;
use kernel::{TopicId, TopicPartition};
use rules::documents::Key;
use uuid::Uuid;

use super::index::{Span, pack_entries, unpack_entries};
use super::logs::{Log, LogChange, Recent};
use super::pack::{Unpack, put_number, put_signed, put_text};
use super::schema::damaged;
use crate::engines::resident::Times;

/// Precedes each row.
const VERSION: u8 = 1;

const PUT: u8 = 1;
const DELETE: u8 = 2;
/// The documents that are deleted with a log, unread.
const DROP_DOCUMENTS: u8 = 3;
const CREATE_LOG: u8 = 4;
const APPEND: u8 = 5;
const APPEND_SMALL: u8 = 6;
const TRIM: u8 = 7;
const DROP_LOG: u8 = 8;
/// A batch of which a record has no timestamp.
const APPEND_UNDATED: u8 = 9;
const APPEND_SMALL_UNDATED: u8 = 10;
/// A log that could not be folded, as a whole.
const STATE: u8 = 11;
/// Batches that were replaced.
const CLEAN: u8 = 12;

/// A row that is being written.
pub(super) struct Row {
    pub(super) changes: Vec<u8>,
}

impl Row {
    pub(super) fn new() -> Self {
        Self { changes: vec![VERSION] }
    }

    pub(super) fn put(&mut self, key: &Key, text: &str) {
        self.changes.put_u8(PUT);
        put_text(&mut self.changes, key.as_str());
        put_text(&mut self.changes, text);
    }

    pub(super) fn delete(&mut self, key: &Key) {
        self.changes.put_u8(DELETE);
        put_text(&mut self.changes, key.as_str());
    }

    /// All producers and transactions of a partition.
    pub(super) fn drop_documents(&mut self, at: TopicPartition) {
        self.tag(DROP_DOCUMENTS, at);
    }

    pub(super) fn log(&mut self, at: TopicPartition, change: &LogChange) {
        match change {
            LogChange::Created { number } => {
                self.tag(CREATE_LOG, at);
                put_number(&mut self.changes, u64::from(*number));
            }
            LogChange::Appended { entry, data } => {
                let (latest, undated) = entry.times.written();
                let has_undated = entry.times.undated.is_some();
                let tag = match (data, has_undated) {
                    (Some(_), true) => APPEND_SMALL_UNDATED,
                    (Some(_), false) => APPEND_SMALL,
                    (None, true) => APPEND_UNDATED,
                    (None, false) => APPEND,
                };
                self.tag(tag, at);
                put_number(&mut self.changes, entry.base as u64);
                put_number(&mut self.changes, (entry.next - entry.base) as u64);
                put_number(&mut self.changes, entry.bytes);
                put_signed(&mut self.changes, latest);
                if has_undated {
                    put_signed(&mut self.changes, undated);
                }
            }
            LogChange::Trimmed { log_start, freed } => {
                self.tag(TRIM, at);
                put_number(&mut self.changes, *log_start as u64);
                put_number(&mut self.changes, *freed);
            }
            LogChange::Cleaned { from, until, tail_start, entries, freed } => {
                self.tag(CLEAN, at);
                put_number(&mut self.changes, *from as u64);
                put_number(&mut self.changes, (until - from) as u64);
                put_number(&mut self.changes, *tail_start as u64);
                put_signed(&mut self.changes, *freed);
                let entries = pack_entries(*from, entries);
                put_number(&mut self.changes, entries.len() as u64);
                self.changes.put_slice(&entries);
            }
            LogChange::Dropped => self.tag(DROP_LOG, at),
        }
    }

    /// A log as it is, or that it was deleted. Its small batches are added to those of the row.
    pub(super) fn state(&mut self, at: TopicPartition, log: Option<&Log>, batches: &mut Vec<u8>) {
        self.tag(STATE, at);
        self.changes.put_u8(u8::from(log.is_some()));
        let Some(log) = log else { return };
        put_number(&mut self.changes, u64::from(log.number));
        for number in [log.seq, log.log_start, log.bytes as i64, log.tail_start] {
            put_number(&mut self.changes, number as u64);
        }
        let tail = pack_entries(log.tail_start, &log.tail);
        put_number(&mut self.changes, tail.len() as u64);
        self.changes.put_slice(&tail);
        put_number(&mut self.changes, log.recent.len() as u64);
        for Recent { base, next, data } in &log.recent {
            for number in [*base, *next, data.len() as i64] {
                put_number(&mut self.changes, number as u64);
            }
            batches.extend_from_slice(data);
        }
    }

    fn tag(&mut self, tag: u8, at: TopicPartition) {
        self.changes.put_u8(tag);
        self.changes.put_slice(at.topic.0.as_bytes());
        put_number(&mut self.changes, at.partition as u64);
    }
}

/// A change in a row.
pub(super) enum Change<'a> {
    Put(Key, &'a str),
    Delete(Key),
    DropDocuments(TopicPartition),
    Log(TopicPartition, LogChange),
    State(TopicPartition, Option<Log>),
}

/// Reads the changes of a row, in order.
pub(super) fn read<'a>(
    changes: &'a [u8],
    batches: &Bytes,
    mut each: impl FnMut(Change<'a>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut row = Unpack(changes);
    if row.byte()? != VERSION {
        return Err(damaged("a row of the journal has an unknown version"));
    }
    let mut at = 0;
    while !row.is_empty() {
        each(change(&mut row, batches, &mut at)?)?;
    }
    Ok(())
}

fn change<'a>(row: &mut Unpack<'a>, batches: &Bytes, at: &mut usize) -> rusqlite::Result<Change<'a>> {
    let tag = row.byte()?;
    if tag == PUT || tag == DELETE {
        let key = Key::from_text(row.text()?);
        return Ok(if tag == PUT { Change::Put(key, row.text()?) } else { Change::Delete(key) });
    }
    let topic = Uuid::from_slice(row.bytes(16)?).map_err(|error| damaged(error.to_string()))?;
    let partition = TopicPartition { topic: TopicId(topic), partition: row.number()? as i32 };
    let log = match tag {
        DROP_DOCUMENTS => return Ok(Change::DropDocuments(partition)),
        STATE => return Ok(Change::State(partition, state(row, batches, at)?)),
        CREATE_LOG => LogChange::Created { number: row.number()? as u32 },
        APPEND | APPEND_SMALL | APPEND_UNDATED | APPEND_SMALL_UNDATED => {
            let base = row.number()? as i64;
            let next = base.saturating_add_unsigned(row.number()?);
            let (bytes, latest) = (row.number()?, row.signed()?);
            let has_undated = matches!(tag, APPEND_UNDATED | APPEND_SMALL_UNDATED);
            let undated = if has_undated { row.signed()? } else { NO_TIMESTAMP };
            let entry = Span { base, next, times: Times::read(latest, undated), bytes };
            let is_small = matches!(tag, APPEND_SMALL | APPEND_SMALL_UNDATED);
            let data = is_small.then(|| small(batches, at, bytes as usize)).transpose()?;
            LogChange::Appended { entry, data }
        }
        TRIM => LogChange::Trimmed { log_start: row.number()? as i64, freed: row.number()? },
        CLEAN => {
            let from = row.number()? as i64;
            let until = from.saturating_add_unsigned(row.number()?);
            let (tail_start, freed) = (row.number()? as i64, row.signed()?);
            let length = row.number()? as usize;
            let entries = unpack_entries(from, row.bytes(length)?)?;
            LogChange::Cleaned { from, until, tail_start, entries, freed }
        }
        DROP_LOG => LogChange::Dropped,
        other => return Err(damaged(format!("the journal has an unknown change {other}"))),
    };
    Ok(Change::Log(partition, log))
}

/// What [`Row::state`] wrote.
fn state(row: &mut Unpack<'_>, batches: &Bytes, at: &mut usize) -> rusqlite::Result<Option<Log>> {
    if row.byte()? == 0 {
        return Ok(None);
    }
    let (number, seq, log_start) = (row.number()? as u32, row.number()? as i64, row.number()? as i64);
    let (bytes, tail_start, length) = (row.number()?, row.number()? as i64, row.number()? as usize);
    let tail = unpack_entries(tail_start, row.bytes(length)?)?;
    let mut recent = VecDeque::new();
    for _ in 0..row.number()? {
        let (base, next, length) = (row.number()? as i64, row.number()? as i64, row.number()? as usize);
        recent.push_back(Recent { base, next, data: small(batches, at, length)? });
    }
    Ok(Some(Log { number, seq, log_start, bytes, tail_start, tail, recent }))
}

/// The next small batch of a row.
fn small(batches: &Bytes, at: &mut usize, bytes: usize) -> rusqlite::Result<Bytes> {
    let end = at.checked_add(bytes).filter(|end| *end <= batches.len());
    let end = end.ok_or_else(|| damaged("a row of the journal lacks a batch"))?;
    Ok(batches.slice(std::mem::replace(at, end)..end))
}
