//! What this engine keeps of a partition besides its document: a number, its size, and the end of its index.
//!
//! The key of a batch's row packs the partition's number (20 bits) and the batch's base offset (43 bits).
//! These limits and the sizes are specific to this engine, so the rules do not know them.

use std::collections::VecDeque;

use bytes::Bytes;
use kernel::{ErrorCode, TopicPartition};
use rules::WorkingSet;
use rules::commands::{Command, Refused};
use rules::documents::{DocumentKind, PartitionDocument, TopicDocument, TransactionPartition};
use rusqlite::{Connection, OptionalExtension, params};

use super::batches::few;
use super::index::{BLOCK_ENTRIES, Span, Step, add_block, pack_entries, search, unpack_entries};
use super::schema::{OFFSET_MAX, PARTITION_NUMBERS_MAX, is_damage, pack};

/// A log, without the batches that are in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// Its number in this store.
    pub(super) number: u32,
    /// The last row of the journal that changed it.
    pub(super) seq: i64,
    pub(super) log_start: i64,
    /// Bytes of its batches, from the log start offset on.
    pub(super) bytes: u64,
    /// Where its blocks end.
    pub(super) tail_start: i64,
    /// The batches after the last block.
    pub(super) tail: Vec<Span>,
    /// The small batches that are only in the journal.
    pub(super) recent: VecDeque<Recent>,
}

/// What writing a row costs beside its bytes, counted in bytes.
const ROW_BYTES: usize = 64;

/// A small batch that is not at its partition's place yet.
#[derive(Debug, Clone)]
pub(super) struct Recent {
    pub(super) base: i64,
    pub(super) next: i64,
    pub(super) data: Bytes,
}

/// The end of an index, copied.
#[derive(Debug, Default)]
pub(super) struct IndexEnd {
    tail_start: i64,
    tail: Vec<Span>,
}

impl IndexEnd {
    /// Searches from an offset on: see [`search`].
    pub(super) fn search(
        &self,
        connection: &Connection,
        number: u32,
        from: i64,
        step: &mut impl FnMut(&Span) -> Step,
    ) -> rusqlite::Result<Option<Span>> {
        let found = search(connection, number, (from, self.tail_start), step)?;
        let mut tail = self.tail.iter().filter(|entry| entry.next > from);
        Ok(found.or_else(|| tail.find(|entry| step(entry) == Step::Into).copied()))
    }
}

/// What a commit does to a log. The journal keeps it.
#[derive(Debug, Clone)]
pub(super) enum LogChange {
    /// It was created, with this number.
    Created { number: u32 },
    /// A batch was appended; small ones come with their bytes.
    Appended { entry: Span, data: Option<Bytes> },
    /// It starts later; `freed` are the bytes of those batches in blocks that are now before its start.
    Trimmed { log_start: i64, freed: u64 },
    /// Batches were replaced by fewer with the same offsets together: see [`super::clean`].
    Cleaned {
        from: i64,
        until: i64,
        /// Where the blocks end now: the last one may have got a batch that reaches into the tail.
        tail_start: i64,
        /// The new entries in the tail.
        entries: Vec<Span>,
        /// By how much it has become smaller, or, if that is negative, larger.
        freed: i64,
    },
    /// It was deleted.
    Dropped,
}

impl Log {
    /// The log after a change; `None` once it was deleted.
    pub(super) fn after(log: Option<Log>, change: LogChange, seq: i64) -> Option<Log> {
        let mut log = match (log, change) {
            (_, LogChange::Created { number }) => Log { number, ..Log::default() },
            (_, LogChange::Dropped) | (None, _) => return None,
            (Some(mut log), LogChange::Appended { entry, data }) => {
                log.append(entry, data);
                log
            }
            (Some(mut log), LogChange::Trimmed { log_start, freed }) => {
                log.trim(log_start, freed);
                log
            }
            (Some(mut log), LogChange::Cleaned { from, until, tail_start, entries, freed }) => {
                log.clean((from, until), tail_start, entries);
                log.bytes = log.bytes.saturating_add_signed(freed.saturating_neg());
                log
            }
        };
        log.seq = seq;
        Some(log)
    }

    fn append(&mut self, entry: Span, data: Option<Bytes>) {
        self.bytes += entry.bytes;
        self.tail.push(entry);
        self.recent.extend(data.map(|data| Recent { base: entry.base, next: entry.next, data }));
    }

    fn trim(&mut self, log_start: i64, freed: u64) {
        let gone = self.tail_from(self.log_start).iter().take_while(|entry| entry.next <= log_start);
        let in_tail: u64 = gone.map(|entry| entry.bytes).sum();
        self.bytes = self.bytes.saturating_sub(freed + in_tail);
        self.log_start = log_start;
        while self.recent.front().is_some_and(|recent| recent.next <= log_start) {
            self.recent.pop_front();
        }
    }

    fn clean(&mut self, (from, until): (i64, i64), tail_start: i64, entries: Vec<Span>) {
        let place = |bases: &[Span], offset: i64| bases.partition_point(|entry| entry.base < offset);
        let range = place(&self.tail, from)..place(&self.tail, until);
        drop(self.tail.splice(range, entries));
        self.tail_start = self.tail_start.max(tail_start);
        let place = |offset: i64| self.recent.partition_point(|recent| recent.base < offset);
        let range = place(from)..place(until);
        drop(self.recent.drain(range));
    }

    /// The log end offset.
    pub(super) fn end(&self) -> i64 {
        self.tail.last().map_or(self.tail_start, |entry| entry.next)
    }

    /// The batches of the tail, from the one that holds an offset on.
    fn tail_from(&self, offset: i64) -> &[Span] {
        &self.tail[self.tail.partition_point(|entry| entry.next <= offset)..]
    }

    /// The small batches that are not in the file, from the one that holds an offset, or the first after it.
    pub(super) fn recent_from(&self, offset: i64) -> impl Iterator<Item = &Recent> {
        self.recent.range(self.recent.partition_point(|recent| recent.next <= offset)..)
    }

    /// Searches from an offset on: see [`search`].
    pub(super) fn search(
        &self,
        connection: &Connection,
        from: i64,
        step: &mut impl FnMut(&Span) -> Step,
    ) -> rusqlite::Result<Option<Span>> {
        let found = search(connection, self.number, (from, self.tail_start), step)?;
        Ok(found.or_else(|| self.tail_from(from).iter().find(|entry| step(entry) == Step::Into).copied()))
    }

    /// The part of the index that is not in the file, from an offset on, for as many batches as one read can return.
    pub(super) fn index_end(&self, from: i64, bytes_max: usize) -> IndexEnd {
        let tail = few(self.tail_from(from).iter(), bytes_max, |entry| entry.bytes as usize);
        IndexEnd { tail_start: self.tail_start, tail }
    }

    /// Bytes of those batches in blocks, which end at `tail_start`, that end after `was` and at or before `log_start`.
    pub(super) fn freed(
        &self,
        connection: &Connection,
        tail_start: i64,
        (was, log_start): (i64, i64),
    ) -> rusqlite::Result<u64> {
        let mut freed = 0;
        search(connection, self.number, (was, tail_start.min(log_start)), &mut |span| {
            if span.next > log_start {
                return Step::Into;
            }
            freed += span.bytes;
            Step::Over
        })?;
        Ok(freed)
    }

    /// About how many bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        let recent: usize = self.recent.iter().map(|recent| recent.data.len()).sum();
        256 + self.tail.capacity() * size_of::<Span>() + recent
    }

    /// Reads a log from the file.
    pub(super) fn load(connection: &Connection, at: TopicPartition) -> rusqlite::Result<Option<Log>> {
        let sql = "SELECT number, seq, log_start, bytes, tail_start, tail FROM logs WHERE key = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let log = statement.query_row([PartitionDocument::key(&at).as_str()], |row| {
            let tail_start = row.get(4)?;
            Ok(Log {
                number: row.get(0)?,
                seq: row.get(1)?,
                log_start: row.get(2)?,
                bytes: row.get::<_, i64>(3)? as u64,
                tail_start,
                tail: unpack_entries(tail_start, row.get_ref(5)?.as_blob()?)?,
                recent: VecDeque::new(),
            })
        });
        log.optional()
    }

    /// Writes some of its small batches to their place, from an offset on; returns the offset after them, and their bytes. The
    /// journal has them until the log itself is folded, so that it does no harm to write them twice.
    pub(super) fn place(
        &self,
        connection: &Connection,
        from: i64,
        bytes_max: usize,
    ) -> rusqlite::Result<(i64, usize)> {
        let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO batches VALUES (?1, ?2)")?;
        let (mut placed, mut bytes) = (from, 0);
        for recent in self.recent_from(from) {
            if bytes >= bytes_max {
                break;
            }
            insert.execute(params![pack(self.number, recent.base), &recent.data[..]])?;
            placed = recent.next;
            bytes += recent.data.len() + ROW_BYTES;
        }
        Ok((placed, bytes))
    }

    /// Writes it to the file, within a transaction, once its small batches are in their place: full blocks, and the rest of
    /// the tail.
    pub(super) fn fold(&self, connection: &Connection, at: TopicPartition) -> rusqlite::Result<Log> {
        let blocks = self.tail.chunks_exact(BLOCK_ENTRIES);
        let rest = blocks.remainder();
        let tail_start = rest.first().map_or(self.end(), |entry| entry.base);
        for block in blocks {
            add_block(connection, self.number, block)?;
        }
        let sql = "INSERT OR REPLACE INTO logs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        connection.prepare_cached(sql)?.execute(params![
            PartitionDocument::key(&at).as_str(),
            self.number,
            self.seq,
            self.log_start,
            self.bytes as i64,
            tail_start,
            pack_entries(tail_start, rest),
        ])?;
        Ok(Log { tail: rest.to_vec(), recent: VecDeque::new(), tail_start, ..*self })
    }

    /// The same log with another start, all of whose batches end after it. One without batches ends there as well.
    pub(super) fn starting_at(self, log_start: i64, end: i64) -> Log {
        let tail_start = if self.tail.is_empty() { end } else { self.tail_start };
        Log { log_start, tail_start, ..self }
    }

    /// The log start offset.
    pub(super) fn log_start(&self) -> i64 {
        self.log_start
    }

    /// The entries of the batches after the last block.
    pub(super) fn tail(&self) -> &[Span] {
        &self.tail
    }
}

/// The partition numbers that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    next: u32,
    given_back: u32,
}

impl Numbers {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let next = "SELECT value FROM counters WHERE name = 'next_number'";
        let next = connection.query_row(next, [], |row| row.get(0))?;
        let given_back = connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0));
        // None of a damaged list is used again: there are a million numbers.
        let given_back = given_back.or_else(|error| if is_damage(&error) { Ok(0) } else { Err(error) })?;
        Ok(Self { next, given_back })
    }

    /// How many are left once a commit has taken some.
    pub(super) fn left_after(&self, taken: u32) -> u32 {
        (PARTITION_NUMBERS_MAX.saturating_sub(self.next) + self.given_back).saturating_sub(taken)
    }

    /// Takes a number, within a transaction.
    pub(super) fn take(&mut self, connection: &Connection) -> rusqlite::Result<u32> {
        if self.given_back > 0 {
            let sql = "DELETE FROM numbers WHERE number = (SELECT min(number) FROM numbers) RETURNING number";
            let number = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            self.given_back -= 1;
            return Ok(number);
        }
        let number = self.next;
        self.next += 1;
        let sql = "UPDATE counters SET value = ?1 WHERE name = 'next_number'";
        connection.prepare_cached(sql)?.execute([self.next])?;
        Ok(number)
    }

    /// Gives a number back, whose rows are all deleted.
    pub(super) fn give_back(&mut self, connection: &Connection, number: u32) -> rusqlite::Result<()> {
        connection.prepare_cached("INSERT OR IGNORE INTO numbers VALUES (?1)")?.execute([number])?;
        self.given_back += 1;
        Ok(())
    }
}

/// Refuses a command that exceeds this store's limits. `left` partition numbers are left.
pub(super) fn check(command: &Command, set: &WorkingSet<'_>, left: u32) -> Result<(), Refused> {
    match command {
        Command::Append(append) => check_end(append.partition, append.batch.record_count, set),
        Command::WriteMarker(marker) => check_end(marker.partition, 1, set),
        Command::Transaction { id, .. } => {
            // They are loaded if the transaction ends.
            let keys = set.keys(&TransactionPartition::of_transaction(id)).unwrap_or_default();
            let mut marked = keys.iter().filter_map(TransactionPartition::parse_key);
            marked.try_for_each(|key| check_end(key.partition, 1, set))
        }
        Command::CreateTopic { partitions, .. } => check_numbers(*partitions, left),
        Command::CreatePartitions { name, count } => {
            let has = set.get::<TopicDocument>(name).map_or(0, |topic| topic.partitions);
            check_numbers(count.saturating_sub(has), left)
        }
        Command::Check(inner) => check(inner, set, left),
        _ => Ok(()),
    }
}

/// Refuses records that a partition has no offsets for.
fn check_end(at: TopicPartition, record_count: i32, set: &WorkingSet<'_>) -> Result<(), Refused> {
    let end = set.get::<PartitionDocument>(&at).map_or(0, |log| log.end);
    if end + i64::from(record_count) <= OFFSET_MAX {
        return Ok(());
    }
    let message = format!("The partition is full: its offsets have reached {end}.");
    Err(Refused::new(ErrorCode::KafkaStorageError, message))
}

fn check_numbers(wanted: i32, left: u32) -> Result<(), Refused> {
    if u32::try_from(wanted).unwrap_or(0) <= left {
        return Ok(());
    }
    let message = format!(
        "This store has {left} of its {PARTITION_NUMBERS_MAX} partitions left; delete topics, or start another store."
    );
    Err(Refused::new(ErrorCode::PolicyViolation, message))
}
