//! The one thread that writes.
//!
//! It takes whatever has queued up, decides it command by command, and makes it durable in one transaction: under
//! load many commands share an fsync, and a lone one pays for itself only. Answers go out after the commit; until then
//! nobody sees the new offsets, so a record is visible only once it is durable.

use std::collections::HashMap;
use std::fs::File;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use kernel::TopicPartition;
use kernel::records::{self, Batch};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::Shared;
use super::schema::{failed, pack, producer_keys, rows_of};
use crate::engines::retention::{Limits, PRODUCER_EXPIRY_MS, expire, expire_offsets, limited_partitions};
use crate::engines::{Maintained, StoreError, Upkeep};
use crate::rules::{
    Command, Document, Effect, Key, Needs, Outcome, PartitionDocument, WorkingSet, decide, needs,
};

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;
type Changes = HashMap<Key, Option<Document>>;

/// What the writer is asked to do.
pub(super) enum Job {
    Commit {
        commands: Vec<Command>,
        answer: Answer<Vec<Outcome>>,
    },
    /// Applies retention.
    Retain {
        upkeep: Upkeep,
        answer: Answer<Maintained>,
    },
    /// Deletes a little garbage; `None` when there is none left.
    Purge {
        answer: Answer<Option<u64>>,
    },
    Close {
        answer: Answer<()>,
    },
}

/// Rows that one purge deletes: some tens of milliseconds of work at the usual batch sizes.
const PURGED_ROWS: u32 = 64;
/// Pages that one purge gives back to the file system.
const VACUUMED_PAGES: u32 = 256;

pub(super) struct Writer {
    connection: Connection,
    lock: File,
    shared: Arc<Shared>,
    commit_bytes_max: usize,
    /// The batch being stored, reused so that a commit allocates nothing per batch.
    scratch: Vec<u8>,
    is_failing: bool,
}

/// Commits that share a transaction.
#[derive(Default)]
struct Group {
    commands: Vec<Command>,
    answers: Vec<(usize, Answer<Vec<Outcome>>)>,
    bytes: usize,
}

impl Group {
    fn add(&mut self, commands: Vec<Command>, answer: Answer<Vec<Outcome>>) {
        self.bytes += commands.iter().map(Command::bytes).sum::<usize>();
        self.answers.push((commands.len(), answer));
        self.commands.extend(commands);
    }

    fn answer(self, result: Result<Vec<Outcome>, StoreError>) {
        match result {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (count, answer) in self.answers {
                    // A client that has hung up no longer waits for its answer.
                    let _ = answer.send(Ok(outcomes.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                for (_, answer) in self.answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        lock: File,
        shared: Arc<Shared>,
        commit_bytes_max: usize,
    ) -> Self {
        // Statements that stay prepared: a dozen.
        connection.set_prepared_statement_cache_capacity(32);
        Self { connection, lock, shared, commit_bytes_max, scratch: Vec::new(), is_failing: false }
    }

    pub(super) fn run(mut self, queue: &Receiver<Job>) {
        let mut next = queue.recv().ok();
        while let Some(job) = next.take() {
            match job {
                Job::Commit { commands, answer } => {
                    let mut group = Group::default();
                    group.add(commands, answer);
                    next = self.gather(&mut group, queue);
                    self.commit_group(group);
                }
                Job::Retain { upkeep, answer } => {
                    let _ = answer.send(self.retain(upkeep));
                }
                Job::Purge { answer } => {
                    let _ = answer.send(self.purge());
                }
                Job::Close { answer } => {
                    // Dropping the connection checkpoints the log into the file.
                    let closed = self.connection.close();
                    // Whoever waits for the answer may open the file again at once.
                    drop(self.lock);
                    let _ = answer.send(closed.map_err(|(_, error)| failed("closing", &error)));
                    return;
                }
            }
            if next.is_none() {
                next = queue.recv().ok();
            }
        }
    }

    /// Takes the commits that have queued up, up to the bound; gives back the job that is none of them.
    fn gather(&self, group: &mut Group, queue: &Receiver<Job>) -> Option<Job> {
        while group.bytes < self.commit_bytes_max {
            match queue.try_recv() {
                Ok(Job::Commit { commands, answer }) => group.add(commands, answer),
                Ok(other) => return Some(other),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            }
        }
        None
    }

    fn commit_group(&mut self, mut group: Group) {
        let started = Instant::now();
        let commands = std::mem::take(&mut group.commands);
        let count = commands.len();
        let result = self.commit(commands);
        match &result {
            Ok(_) => self.shared.stats.committed(count, group.bytes, started.elapsed()),
            Err(_) => self.shared.stats.failed(),
        }
        self.tell_operator(result.as_ref().err());
        group.answer(result);
    }

    /// Says once that the store fails, and once that it works again.
    fn tell_operator(&mut self, failure: Option<&StoreError>) {
        match failure {
            Some(failure) if !self.is_failing => {
                error!("{failure}; clients get KAFKA_STORAGE_ERROR and try again")
            }
            None if self.is_failing => info!("the store works again"),
            _ => {}
        }
        self.is_failing = failure.is_some();
    }

    fn commit(&mut self, commands: Vec<Command>) -> Result<Vec<Outcome>, StoreError> {
        self.load_needed(&commands)?;
        let shared = Arc::clone(&self.shared);
        let table = shared.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut set = WorkingSet::new(&*table);
        let outcomes = commands.into_iter().map(|command| decide(&mut set, command)).collect();
        let (mut changes, effects) = set.into_changes();
        drop(table);
        if changes.is_empty() && effects.is_empty() {
            return Ok(outcomes);
        }
        let written = self.write(&mut changes, &effects);
        if let Err(error) = written {
            if !self.connection.is_autocommit() {
                // A failed statement has rolled back already; a failed COMMIT has not.
                self.connection.execute_batch("ROLLBACK").map_err(|error| failed("rolling back", &error))?;
            }
            return Err(failed("writing", &error));
        }
        let mut table = shared.table.write().unwrap_or_else(PoisonError::into_inner);
        for effect in &effects {
            if let Effect::Drop { partition, .. } = effect {
                table.drop_producers(*partition);
            }
        }
        let is_of_group = |key: &&Key| matches!(key, Key::Group(_) | Key::Member(..));
        let of_groups: Vec<Key> = changes.keys().filter(is_of_group).cloned().collect();
        table.apply(changes);
        drop(table);
        wake(&shared, &effects);
        shared.watchers.wake_groups(&of_groups);
        Ok(outcomes)
    }

    /// Loads the producers that the commands are about and that are not in memory.
    fn load_needed(&self, commands: &[Command]) -> Result<(), StoreError> {
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut missing = Vec::new();
        let set = WorkingSet::new(&*table);
        for command in commands {
            if let Needs::More(keys) = needs(command, &set) {
                missing.extend(keys);
            }
        }
        drop(table);
        for key in missing {
            let document = self.document(&key)?;
            self.shared.table.write().unwrap_or_else(PoisonError::into_inner).put(key, document);
        }
        Ok(())
    }

    fn document(&self, key: &Key) -> Result<Option<Document>, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading a document", &error);
        let mut statement =
            self.connection.prepare_cached("SELECT value FROM documents WHERE key = ?1").map_err(reading)?;
        let mut rows = statement.query([key.to_string()]).map_err(reading)?;
        let Some(row) = rows.next().map_err(reading)? else { return Ok(None) };
        let json: String = row.get(0).map_err(reading)?;
        let document = key.read(&json);
        document
            .map(Some)
            .map_err(|error| StoreError(format!("the document {key} in the store is damaged: {error}")))
    }

    fn write(&mut self, changes: &mut Changes, effects: &[Effect]) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        for effect in effects {
            match effect {
                Effect::Append { number, base_offset, leader_epoch, batch, .. } => {
                    self.insert(*number, *base_offset, *leader_epoch, batch)?;
                }
                Effect::Trim { partition, number, was, log_start } => {
                    self.trim(changes, *partition, *number, (*was, *log_start))?;
                }
                Effect::Drop { partition, number } => self.drop_partition(*partition, *number)?,
            }
        }
        for (key, document) in changes.iter() {
            match document {
                Some(document) => {
                    let json = document
                        .write()
                        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                    let sql = "INSERT INTO documents VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
                    self.connection.prepare_cached(sql)?.execute([key.to_string(), json])?;
                }
                None => {
                    let sql = "DELETE FROM documents WHERE key = ?1";
                    self.connection.prepare_cached(sql)?.execute([key.to_string()])?;
                }
            }
        }
        self.connection.execute_batch("COMMIT")
    }

    fn insert(
        &mut self,
        number: u32,
        base_offset: i64,
        leader_epoch: i32,
        batch: &Batch,
    ) -> rusqlite::Result<()> {
        self.scratch.clear();
        self.scratch.extend_from_slice(batch.bytes());
        records::patch(&mut self.scratch, base_offset, leader_epoch);
        let mut insert = self.connection.prepare_cached("INSERT INTO batches VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![
            pack(number, base_offset),
            base_offset + i64::from(batch.record_count()),
            batch.max_timestamp(),
            self.scratch.len() as i64,
            &self.scratch[..],
        ])?;
        Ok(())
    }

    /// Notes the rows before the new beginning as garbage, and takes their bytes off the partition's.
    fn trim(
        &self,
        changes: &mut Changes,
        partition: TopicPartition,
        number: u32,
        (was, log_start): (i64, i64),
    ) -> rusqlite::Result<()> {
        let sql = "SELECT coalesce(sum(bytes), 0) FROM batches
             WHERE id >= coalesce((SELECT max(id) FROM batches WHERE id BETWEEN ?1 AND ?2), ?1) AND id < ?3
               AND next_offset > ?4 AND next_offset <= ?5";
        let bounds = params![pack(number, 0), pack(number, was), pack(number, log_start), was, log_start];
        let freed: i64 = self.connection.prepare_cached(sql)?.query_row(bounds, |row| row.get(0))?;
        if let Some(Some(Document::Partition(log))) = changes.get_mut(&Key::Partition(partition)) {
            log.bytes = log.bytes.saturating_sub(freed as u64);
        }
        self.note_garbage(number, log_start)
    }

    fn drop_partition(&self, partition: TopicPartition, number: u32) -> rusqlite::Result<()> {
        let sql = "DELETE FROM documents WHERE key >= ?1 AND key < ?2";
        self.connection.prepare_cached(sql)?.execute(producer_keys(partition))?;
        self.note_garbage(number, i64::MAX)
    }

    fn note_garbage(&self, number: u32, before_offset: i64) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO garbage VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![number, before_offset])?;
        Ok(())
    }

    fn retain(&mut self, upkeep: Upkeep) -> Result<Maintained, StoreError> {
        let now_ms = upkeep.now_ms;
        let shared = Arc::clone(&self.shared);
        let limited: Vec<(PartitionDocument, TopicPartition, Limits)> = {
            let table = shared.table.read().unwrap_or_else(PoisonError::into_inner);
            let limited = limited_partitions(&table).into_iter();
            limited.filter_map(|(at, limits)| Some((*table.partition(at)?, at, limits))).collect()
        };
        let mut commands = Vec::new();
        for (log, partition, limits) in limited {
            let from =
                self.retained_from(&log, &limits, now_ms).map_err(|error| failed("reading", &error))?;
            if let Some(offset) = from {
                commands.push(Command::AdvanceLogStart { partition, offset });
            }
        }
        let partitions_trimmed = commands.len();
        let unused_since_ms = now_ms - PRODUCER_EXPIRY_MS;
        let idle = self.idle_producers(unused_since_ms)?;
        let producers_forgotten = idle.len();
        commands.extend(idle.into_iter().filter_map(|key| expire(&key, unused_since_ms)));
        let table = shared.table.read().unwrap_or_else(PoisonError::into_inner);
        commands.extend(expire_offsets(&table, upkeep));
        drop(table);
        self.commit(commands)?;
        Ok(Maintained { partitions_trimmed, producers_forgotten, bytes_freed: 0 })
    }

    fn retained_from(
        &self,
        log: &PartitionDocument,
        limits: &Limits,
        now_ms: i64,
    ) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT next_offset, max_timestamp, bytes FROM batches
             WHERE id BETWEEN ?1 AND ?2 AND next_offset > ?3 ORDER BY id";
        let (first, last) = rows_of(log.number);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, log.log_start])?;
        let (mut bytes, mut from) = (log.bytes, None);
        while let Some(row) = rows.next()? {
            let size = row.get::<_, i64>(2)? as u64;
            if !limits.expires(row.get(1)?, bytes, size, now_ms) {
                break;
            }
            bytes = bytes.saturating_sub(size);
            from = Some(row.get(0)?);
        }
        Ok(from)
    }

    fn idle_producers(&self, unused_since_ms: i64) -> Result<Vec<Key>, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading producers", &error);
        let sql = "SELECT key FROM documents WHERE key >= 'producer/' AND key < 'producer0'
             AND json_extract(value, '$.last_ms') <= ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(reading)?;
        let keys = statement.query_map([unused_since_ms], |row| row.get::<_, String>(0)).map_err(reading)?;
        let keys: Vec<String> = keys.collect::<Result<_, _>>().map_err(reading)?;
        Ok(keys.iter().filter_map(|key| Key::parse(key)).collect())
    }

    fn purge(&mut self) -> Result<Option<u64>, StoreError> {
        self.purge_rows().map_err(|error| failed("deleting garbage", &error))
    }

    /// One step: some rows, or the end of one entry of garbage, or some free pages given back.
    fn purge_rows(&self) -> rusqlite::Result<Option<u64>> {
        let oldest = "SELECT number, before_offset FROM garbage LIMIT 1";
        let mut entry = self.connection.prepare_cached(oldest)?;
        let mut entries = entry.query([])?;
        let Some(row) = entries.next()? else { return self.vacuum() };
        let (number, before): (u32, i64) = (row.get(0)?, row.get(1)?);
        drop(entries);
        let (first, last) = rows_of(number);
        let last = if before == i64::MAX { last } else { pack(number, before) };
        let delete = "DELETE FROM batches WHERE id IN
             (SELECT id FROM batches WHERE id BETWEEN ?1 AND ?2 AND next_offset <= ?3 ORDER BY id LIMIT ?4)
             RETURNING bytes";
        let mut statement = self.connection.prepare_cached(delete)?;
        let sizes =
            statement.query_map(params![first, last, before, PURGED_ROWS], |row| row.get::<_, i64>(0))?;
        let sizes: Vec<i64> = sizes.collect::<Result<_, _>>()?;
        if sizes.is_empty() {
            let done = "DELETE FROM garbage WHERE number = ?1 AND before_offset = ?2";
            self.connection.prepare_cached(done)?.execute(params![number, before])?;
        }
        Ok(Some(sizes.iter().sum::<i64>() as u64))
    }

    fn vacuum(&self) -> rusqlite::Result<Option<u64>> {
        let free: i64 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        if free == 0 {
            return Ok(None);
        }
        let mut statement =
            self.connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUMED_PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(Some(0))
    }
}

fn wake(shared: &Shared, effects: &[Effect]) {
    for effect in effects {
        match effect {
            Effect::Append { partition, batch, .. } => {
                shared.watchers.wake(*partition, batch.bytes().len() as u64);
            }
            Effect::Drop { partition, .. } => shared.watchers.wake(*partition, 0),
            Effect::Trim { .. } => {}
        }
    }
}
