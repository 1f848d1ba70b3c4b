//! Folds the journal into the tables that are ordered by key.
//!
//! A commit only adds a row to the journal; what it changed stays in memory. When the journal has grown to its bound, all
//! that was changed is written to its place in the order of keys: many small batches and several versions of a
//! document cost one write then. It is done in steps between commits, each a transaction of its own. The rows that are
//! folded are deleted last, so that a crash at any point repeats the fold: a log's row says which rows are in it, and a
//! document is replaced by its last version.

use std::collections::VecDeque;

use kernel::TopicPartition;
use rules::documents::{Document, DocumentKind, Key, PartitionDocument};
use rusqlite::Connection;

use super::commit::{Committer, text_of};
use super::damage::Part;
use super::logs::Log;
use super::parked::Parked;
use super::schema::{failed, is_damage};
use super::texts::{delete_text, put_text};
use crate::engines::StoreError;

/// Bytes of a journal that is folded, by how many logs it has changed: a fold rewrites about a page of each, so that the
/// more there are, the more it must be worth. They bound the memory that unfolded changes take, and what has to be
/// read after a crash. Unit tests fold all the time.
const BYTES_MIN: usize = if cfg!(test) { 16 << 10 } else { 4 << 20 };
const BYTES_MAX: usize = if cfg!(test) { 32 << 10 } else { 24 << 20 };
const BYTES_PER_LOG: usize = 24 << 10;
/// The journal may grow to this many times its bound while it is being folded. Then the next commit waits for the fold, or
/// is refused if that fails.
const GROWTH_MAX: usize = 2;
/// A step writes so many times what the commit before it added: a fold must overtake the commits.
const STEP_FACTOR: usize = 4;
/// What a step writes at least, counted as the pages that it may touch.
const STEP_BYTES: usize = if cfg!(test) { 12 << 10 } else { 1 << 20 };
/// What a log or a document may cost beside its own bytes, in a store whose documents are far apart.
const PLACE_BYTES: usize = 4 << 10;

/// The journal's size, and how far it is folded.
#[derive(Debug, Default)]
pub(super) struct Fold {
    last_seq: i64,
    size: JournalSize,
    /// At how many bytes it is folded.
    bound: usize,
    running: Option<Running>,
    /// Whether the connection does not sync each commit at this moment.
    is_relaxed: bool,
    /// What is left out.
    pub(super) parked: Parked,
}

#[derive(Debug, Default, Clone, Copy)]
struct JournalSize {
    rows: usize,
    bytes: usize,
}

/// A fold between two of its steps.
#[derive(Debug)]
struct Running {
    /// The rows up to this one will be deleted.
    upto: i64,
    /// The journal's size when it began.
    size: JournalSize,
    logs: VecDeque<TopicPartition>,
    /// Up to which offset the first of them has its small batches in their place.
    placed: i64,
    documents: Documents,
    /// What is being written.
    writing: Option<Part>,
}

/// Which documents are still to be written.
#[derive(Debug)]
enum Documents {
    After(Option<Key>),
    Done,
}

/// What one step has written.
#[derive(Default)]
struct Folded {
    logs: Vec<(TopicPartition, Option<Log>)>,
    documents: Vec<(Key, usize)>,
}

impl Fold {
    /// The fold of a journal that was read.
    pub(super) fn of(last_seq: i64, rows: usize, bytes: usize, parked: Parked) -> Self {
        Self { last_seq, size: JournalSize { rows, bytes }, bound: BYTES_MIN, parked, ..Self::default() }
    }

    /// The number of the next row.
    pub(super) fn next_seq(&self) -> i64 {
        self.last_seq + 1
    }

    /// Counts a row that was written; `logs` are changed and not folded.
    pub(super) fn wrote(&mut self, bytes: usize, logs: usize) {
        self.last_seq += 1;
        self.size.rows += 1;
        self.size.bytes += bytes;
        let bound = (logs * BYTES_PER_LOG).clamp(BYTES_MIN, BYTES_MAX);
        // A fold under way leaves fewer and fewer logs, while its rows are still there: it must not fill the journal.
        self.bound = if self.running.is_some() { self.bound.max(bound) } else { bound };
    }

    /// Bytes of the journal.
    pub(super) fn bytes(&self) -> usize {
        self.size.bytes
    }

    pub(super) fn has_rows(&self) -> bool {
        self.size.rows > 0
    }

    /// The number of the last row that is folded and gone.
    pub(super) fn folded_seq(&self) -> i64 {
        self.last_seq - self.size.rows as i64
    }

    /// The number of the last row.
    pub(super) fn last_seq(&self) -> i64 {
        self.last_seq
    }

    /// Whether a step should follow.
    pub(super) fn is_due(&self, memory: Unfolding) -> bool {
        self.running.is_some() || self.size.bytes >= self.bound || memory.is_large()
    }

    /// Whether a row of the journal may not be folded yet.
    pub(super) fn has_unfolded(&self, seq: i64) -> bool {
        seq > self.folded_seq()
    }

    /// Whether nothing may be added before it is folded.
    fn is_full(&self, memory: Unfolding) -> bool {
        self.size.bytes > GROWTH_MAX * self.bound || memory.is_too_large()
    }
}

/// The memory of the documents that are not folded, and the bound on it: it adds to what is cached of others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unfolding {
    memory: usize,
    memory_max: usize,
}

impl Unfolding {
    fn is_large(self) -> bool {
        2 * self.memory >= self.memory_max
    }

    fn is_too_large(self) -> bool {
        self.memory > self.memory_max
    }
}

impl Committer {
    /// Folds the whole journal.
    pub(super) fn fold_all(&mut self) -> Result<(), StoreError> {
        while self.fold.size.rows > 0 {
            self.fold_step(0)?;
        }
        Ok(())
    }

    /// Makes the connection and the journal ready for a commit.
    pub(super) fn make_ready(&mut self) -> Result<(), StoreError> {
        if self.fold.is_relaxed {
            self.restore()?;
        }
        // What is parked takes memory and is not folded.
        while self.fold.has_rows() && self.fold.is_full(self.unfolding()) && !self.lacks_room_to_fold() {
            let folded = self.fold_step(0);
            // On a full disk no records are added, and what frees room must not wait for a fold that needs some.
            if folded.is_err() && self.room.is_disk_full() && !self.fold.is_relaxed {
                break;
            }
            folded?;
        }
        Ok(())
    }

    /// How much memory unfolded documents take.
    pub(super) fn unfolding(&self) -> Unfolding {
        let memory = self.shared.unfolded.read().memory();
        Unfolding { memory, memory_max: self.shared.unfolded_memory_max }
    }

    /// One step, after a commit that has added some bytes to the journal. What meets damage is parked, and the step is
    /// done without it.
    pub(super) fn fold_step(&mut self, added: usize) -> Result<(), StoreError> {
        let budget = STEP_BYTES.max(STEP_FACTOR * added);
        loop {
            // If it failed, it begins anew: what is folded already is not changed by that.
            let mut running = self.fold.running.take().unwrap_or_else(|| self.begin_fold());
            match self.relaxed(|committer| committer.step(&mut running, budget))? {
                Ok(true) => {
                    self.fold.size.rows -= running.size.rows;
                    self.fold.size.bytes -= running.size.bytes;
                    return Ok(());
                }
                Ok(false) => {
                    self.fold.running = Some(running);
                    return Ok(());
                }
                Err(error) => self.park(running.writing, &error)?,
            }
        }
    }

    /// Parks what a fold could not write because of damage.
    fn park(&mut self, part: Option<Part>, error: &rusqlite::Error) -> Result<(), StoreError> {
        let failure = self.failure("folding its journal", error);
        if !is_damage(error) {
            return Err(failure);
        }
        self.shared.damage.note(part.as_ref().unwrap_or(&Part::Journal), &failure);
        let part = part.ok_or(failure)?;
        self.fold.parked.add(&part);
        Ok(())
    }

    /// Runs a transaction that need not be durable at once: a crash only means that it is run again. The next commit
    /// makes it durable as well, so that nobody waits for a sync of it.
    pub(super) fn relaxed<T>(
        &mut self,
        transaction: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<rusqlite::Result<T>, StoreError> {
        self.unsynced(|committer| Ok(transaction(committer)))
    }

    /// The same with whatever makes such transactions.
    pub(super) fn unsynced<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.fold.is_relaxed = true;
        let relaxed = self.synchronous("NORMAL").map_err(|error| failed("relaxing its durability", &error));
        let done = relaxed.and_then(|()| work(self));
        self.restore()?;
        done
    }

    /// Syncs each commit again. No commit is made until that is so.
    fn restore(&mut self) -> Result<(), StoreError> {
        // The level cannot be changed within a transaction.
        self.roll_back()?;
        self.synchronous("FULL").map_err(|error| failed("restoring its durability", &error))?;
        self.fold.is_relaxed = false;
        Ok(())
    }

    fn synchronous(&self, level: &str) -> rusqlite::Result<()> {
        self.connection.execute_batch(&format!("PRAGMA synchronous={level}"))
    }

    fn begin_fold(&self) -> Running {
        let unfolded = self.shared.unfolded.read();
        let number = |log: &Option<Log>| log.as_ref().map_or(0, |log| log.number);
        let logs = unfolded.logs.iter().filter(|(at, _)| !self.fold.parked.has_log(at));
        let mut logs: Vec<_> = logs.map(|(at, log)| (number(log), *at)).collect();
        // In the order of their rows.
        logs.sort_unstable();
        Running {
            upto: self.fold.last_seq,
            size: self.fold.size,
            logs: logs.into_iter().map(|(_, at)| at).collect(),
            placed: 0,
            documents: Documents::After(None),
            writing: None,
        }
    }

    /// Whether this was the last step.
    fn step(&mut self, running: &mut Running, budget: usize) -> rusqlite::Result<bool> {
        self.begin()?;
        let folded = self.write_step(running, budget)?;
        let is_last = running.logs.is_empty() && matches!(running.documents, Documents::Done);
        if is_last {
            self.fold.parked.write(&self.connection, &self.shared.unfolded.read())?;
            let delete = "DELETE FROM journal WHERE seq BETWEEN 1 AND ?1";
            self.connection.prepare_cached(delete)?.execute([running.upto])?;
            let count = "UPDATE counters SET value = ?1 WHERE name = 'folded_seq'";
            self.connection.prepare_cached(count)?.execute([running.upto])?;
        }
        self.connection.execute_batch("COMMIT")?;
        if is_last {
            self.fold.parked.written();
        }
        self.publish_step(folded);
        Ok(is_last)
    }

    fn write_step(&self, running: &mut Running, budget: usize) -> rusqlite::Result<Folded> {
        let unfolded = self.shared.unfolded.read();
        let (mut folded, mut written) = (Folded::default(), 0);
        while written < budget
            && let Some(at) = running.logs.front().copied()
        {
            running.writing = Some(Part::Partition(at));
            if let Some(log) = unfolded.logs.get(&at) {
                let here = |error: rusqlite::Error| at_log(at, error);
                let left = budget - written;
                if let Some(log) = log {
                    let (placed, bytes) = log.place(&self.connection, running.placed, left).map_err(here)?;
                    running.placed = placed;
                    written += bytes;
                    if log.recent_from(placed).next().is_some() {
                        // The rest follows in the next step.
                        break;
                    }
                }
                written += PLACE_BYTES;
                folded.logs.push((at, fold_log(&self.connection, at, log.as_ref()).map_err(here)?));
            }
            running.logs.pop_front();
            running.placed = 0;
        }
        if let (true, Documents::After(after)) = (running.logs.is_empty(), &running.documents) {
            let mut left = unfolded.after(after.as_ref());
            let mut last = None;
            running.documents = loop {
                if written >= budget {
                    break Documents::After(last.or_else(|| after.clone()));
                }
                let Some((key, document)) = left.next() else { break Documents::Done };
                if self.fold.parked.has_document(key) {
                    last = Some(key.clone());
                    continue;
                }
                running.writing = Some(Part::Document(key.clone()));
                let bytes = fold_document(&self.connection, key, document.as_ref())?;
                written += PLACE_BYTES / 4 + bytes;
                last = Some(key.clone());
                folded.documents.push((key.clone(), bytes));
            };
        }
        running.writing = None;
        Ok(folded)
    }

    /// What was written is clean now. Only this thread changes it, so that it is what was written.
    fn publish_step(&self, folded: Folded) {
        let mut unfolded = self.shared.unfolded.write();
        let mut clean = self.shared.clean.lock();
        clean.version += 1;
        for (at, log) in folded.logs {
            unfolded.logs.remove(&at);
            clean.put_log(at, log);
        }
        for (key, bytes) in folded.documents {
            if let Some(document) = unfolded.take(&key) {
                clean.put_document(key, document, bytes);
            }
        }
    }
}

/// The same error, with the log that it is about. Its code stays: it decides what the operator is told to do.
fn at_log(at: TopicPartition, error: rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            let message = message.unwrap_or_else(|| code.to_string());
            rusqlite::Error::SqliteFailure(code, Some(format!("{}: {message}", PartitionDocument::key(&at))))
        }
        other => other,
    }
}

/// Writes a log to its place, or deletes its row; returns it as it is then.
fn fold_log(connection: &Connection, at: TopicPartition, log: Option<&Log>) -> rusqlite::Result<Option<Log>> {
    match log {
        Some(log) => log.fold(connection, at).map(Some),
        None => {
            let sql = "DELETE FROM logs WHERE key = ?1";
            connection.prepare_cached(sql)?.execute([PartitionDocument::key(&at).as_str()])?;
            Ok(None)
        }
    }
}

/// Writes a document to its place, or deletes it; returns the length of its text.
fn fold_document(connection: &Connection, key: &Key, document: Option<&Document>) -> rusqlite::Result<usize> {
    let Some(document) = document else {
        delete_text(connection, key)?;
        return Ok(0);
    };
    let text = text_of(document)?;
    put_text(connection, key, &text)?;
    Ok(text.len())
}
