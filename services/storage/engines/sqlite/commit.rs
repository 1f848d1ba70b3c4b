//! One commit: commands are decided one by one, and their changes are written as one row of the journal.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::records::{self, StoredHeader};
use rules::commands::{Command, Effect, Outcome};
use rules::documents::{Document, DocumentKind, Key, PartitionDocument, deleted_with_log, read};
use rules::{Changes, Loaded, Missing, WorkingSet, decide, needs};
use rusqlite::{Connection, params};

use super::Shared;
use super::apart::refusal;
use super::base::Base;
use super::clean::clean;
use super::damage::Part;
use super::fold::Fold;
use super::garbage::Passed;
use super::index::Span;
use super::journal::Row;
use super::logs::{Log, LogChange, Numbers, check};
use super::owner::{Ownership, fenced, taken_over};
use super::room::StoreRoom;
use super::schema::{SMALL_BATCH_BYTES, WHOLE_LOG, damaged, failed, is_about_damage, pack};
use super::state::Unfolded;
use super::texts::delete_texts;
use super::turns::ended_by;
use crate::engines::resident::Times;
use crate::engines::{StoreError, Watchers};

/// From so many changes on, what follows is another transaction. How much a command changes is not known before it is
/// decided: the end of a transaction changes all that is in it.
const CHANGES_MAX: usize = 32_768;

/// The connection that writes, and what it shares with the readers.
pub(super) struct Committer {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) numbers: Numbers,
    pub(super) fold: Fold,
    pub(super) owner: Ownership,
    pub(super) room: StoreRoom,
    /// Partition numbers whose garbage cannot be deleted, because something of it is damaged.
    pub(super) stuck_garbage: HashSet<u32>,
    /// Garbage that has to wait for the next run.
    pub(super) passed_garbage: Passed,
    /// A large batch that is being stored, reused so that a commit allocates nothing per batch.
    scratch: Vec<u8>,
}

/// What commands have decided.
struct Decided {
    outcomes: Vec<Outcome>,
    changes: Changes,
    effects: Vec<Effect>,
}

/// What a transaction has written.
struct Written {
    seq: i64,
    logs: Vec<(TopicPartition, LogChange)>,
    numbers: Numbers,
    /// The length of each changed document's text.
    texts: Vec<usize>,
}

impl Committer {
    pub(super) fn new(
        connection: Connection,
        shared: Arc<Shared>,
        numbers: Numbers,
        fold: Fold,
        owner: Ownership,
        room: StoreRoom,
    ) -> Self {
        // Room for all prepared statements: three dozen.
        connection.set_prepared_statement_cache_capacity(64);
        let (stuck_garbage, passed_garbage, scratch) = (HashSet::new(), Passed::NOTHING, Vec::new());
        Self { connection, shared, numbers, fold, owner, room, stuck_garbage, passed_garbage, scratch }
    }

    /// Decides commands and makes them durable, in one transaction if they do not change too much. One that needs what is
    /// damaged is refused by itself; any other failure changes nothing, or, if some are durable already, refuses the rest.
    pub(super) fn commit(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, StoreError> {
        self.check_owned()?;
        self.make_ready()?;
        // A step of compaction that is lost in a crash is made again, so that nobody has to wait for a sync of it.
        if commands.iter().all(|command| matches!(command, Command::Clean(_))) {
            return self.unsynced(|committer| committer.commit_each(commands));
        }
        self.commit_each(commands)
    }

    fn commit_each(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(commands.len());
        while outcomes.len() < commands.len() {
            let left = &commands[outcomes.len()..];
            match self.commit_together(left) {
                Ok(done) => outcomes.extend(done),
                Err(failure) if is_about_damage(&failure) => {
                    outcomes.extend(self.commit_apart(left, &failure));
                }
                Err(failure) if outcomes.is_empty() => return Err(failure),
                Err(failure) => outcomes.extend(left.iter().map(|command| Err(refusal(command, &failure)))),
            }
        }
        Ok(outcomes)
    }

    /// Commits the first of these commands, as many as fit into a transaction: at least one. A failure changes nothing.
    pub(super) fn commit_together(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, StoreError> {
        let Decided { outcomes, changes, effects } = self.decide(commands)?;
        if changes.is_empty() && effects.is_empty() {
            return Ok(outcomes);
        }
        self.fold.parked.check(&changes, &effects)?;
        self.load_logs(&effects)?;
        cleaned(&effects).for_each(|partition| self.shared.cleanings.begin(partition));
        let written = match self.write(&changes, &effects) {
            Ok(written) => written,
            Err(error) => {
                let rolled_back = self.roll_back();
                cleaned(&effects).for_each(|partition| self.shared.cleanings.end(partition));
                rolled_back?;
                return Err(self.failure("writing", &error));
            }
        };
        self.publish(changes, &effects, written);
        Ok(outcomes)
    }

    fn decide(&self, commands: &[Command]) -> Result<Decided, StoreError> {
        let unfolded = self.shared.unfolded.read();
        let mut base = Base { unfolded: &unfolded, loaded: Loaded::default() };
        let (mut changes, mut effects) = (Changes::new(), Vec::new());
        let (mut outcomes, mut numbers_taken) = (Vec::with_capacity(commands.len()), 0);
        for command in commands {
            let mut set = WorkingSet::resume(&base, changes, effects);
            while let Some(Missing { keys, scan, first }) = needs(command, &set).into_missing() {
                (changes, effects) = set.into_changes();
                self.load(keys, &mut base.loaded)?;
                self.scan(scan, &unfolded, &mut base.loaded)?;
                self.scan_first(first, &unfolded, &mut base.loaded)?;
                set = WorkingSet::resume(&base, changes, effects);
            }
            let earlier = set.effects().len();
            let left = self.numbers.left_after(numbers_taken);
            let ended = || if self.room.is_disk_full() { ended_by(command, &unfolded, self) } else { 0 };
            let checked = self.room.admit(command, ended).and_then(|()| check(command, &set, left));
            outcomes.push(checked.and_then(|()| decide(&mut set, command)));
            let new = set.effects()[earlier..].iter();
            numbers_taken += new.filter(|effect| matches!(effect, Effect::CreateLog { .. })).count() as u32;
            (changes, effects) = set.into_changes();
            if changes.len() + effects.len() >= CHANGES_MAX {
                break;
            }
        }
        Ok(Decided { outcomes, changes, effects })
    }

    /// Loads the logs that will change.
    fn load_logs(&self, effects: &[Effect]) -> Result<(), StoreError> {
        let mut loaded = HashMap::new();
        let unfolded = self.shared.unfolded.read();
        for effect in effects {
            let Some(at) = existing_log(effect) else { continue };
            if unfolded.logs.contains_key(&at) || loaded.contains_key(&at) {
                continue;
            }
            let is_dropped = matches!(effect, Effect::DropLog { .. });
            let cached = self.shared.clean.lock().take_log(at);
            let log = match cached {
                Some(log) => Some(log),
                None => self.load_log(at, is_dropped)?,
            };
            loaded.extend(log.map(|log| (at, Some(log))));
        }
        drop(unfolded);
        if !loaded.is_empty() {
            self.shared.unfolded.write().logs.extend(loaded);
        }
        Ok(())
    }

    /// Refuses if the store is not this process's any more.
    fn check_owned(&mut self) -> Result<(), StoreError> {
        let looked = self.owner.look(&self.shared.lock);
        if let Err(lost) = looked {
            self.shared.health.fail(lost);
        }
        self.shared.health.failure().map_or(Ok(()), Err)
    }

    /// Begins a transaction that writes, unless another process has taken over the store.
    pub(super) fn begin(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        if self.owner.has_token(&self.connection)? {
            return Ok(());
        }
        self.shared.health.fail(taken_over(self.shared.lock.path()));
        Err(fenced())
    }

    /// Why a transaction has failed, which may come from want of room.
    pub(super) fn failure(&mut self, doing: &str, error: &rusqlite::Error) -> StoreError {
        self.room.note(error);
        self.shared.health.failure().unwrap_or_else(|| failed(doing, error))
    }

    /// A log in the file. One that cannot be read can still be deleted: its batches stay where they are.
    fn load_log(&self, at: TopicPartition, is_dropped: bool) -> Result<Option<Log>, StoreError> {
        let loaded = Log::load(&self.connection, at).map_err(|error| failed("reading a log", &error));
        loaded.or_else(|failure| {
            if !is_dropped || !is_about_damage(&failure) {
                return Err(failure);
            }
            self.shared.damage.note(&Part::Partition(at), &failure);
            Ok(None)
        })
    }

    /// A failed statement has rolled back already; a failed COMMIT has not.
    pub(super) fn roll_back(&self) -> Result<(), StoreError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK").map_err(|error| failed("rolling back", &error))
    }

    fn write(&mut self, changes: &Changes, effects: &[Effect]) -> rusqlite::Result<Written> {
        let shared = Arc::clone(&self.shared);
        let unfolded = shared.unfolded.read();
        let seq = self.fold.next_seq();
        self.begin()?;
        let small = small_batches(effects);
        let mut transaction = Transaction {
            connection: &self.connection,
            unfolded: &unfolded,
            seq,
            numbers: self.numbers,
            created: HashMap::new(),
            tail_starts: HashMap::new(),
            scratch: &mut self.scratch,
            small: small.clone(),
        };
        let mut logs = Vec::with_capacity(effects.len());
        for effect in effects {
            logs.extend(transaction.apply(effect)?);
        }
        let numbers = transaction.numbers;
        let (row, texts) = row(changes, effects, &logs)?;
        let insert = "INSERT INTO journal VALUES (?1, ?2, ?3)";
        self.connection.prepare_cached(insert)?.execute(params![seq, row.changes, &small[..]])?;
        self.connection.execute_batch("COMMIT")?;
        self.fold.wrote(row.changes.len() + small.len(), unfolded.logs.len());
        Ok(Written { seq, logs, numbers, texts })
    }

    /// Makes durable changes visible to readers, and wakes watchers.
    fn publish(&mut self, changes: Changes, effects: &[Effect], written: Written) {
        self.numbers = written.numbers;
        let watched = Watchers::watched(changes.keys());
        let dropped: Vec<TopicPartition> = dropped(effects).collect();
        let mut unfolded = self.shared.unfolded.write();
        for ((key, document), bytes) in changes.into_iter().zip(written.texts) {
            unfolded.put(key, document, bytes);
        }
        for (at, change) in written.logs {
            let log = unfolded.logs.entry(at).or_default();
            *log = Log::after(log.take(), change, written.seq);
        }
        cleaned(effects).for_each(|partition| self.shared.cleanings.end(partition));
        if !dropped.is_empty() {
            dropped.iter().for_each(|partition| unfolded.drop_documents(*partition));
            let mut clean = self.shared.clean.lock();
            clean.version += 1;
            clean.drop_documents(&dropped);
        }
        drop(unfolded);
        for effect in effects {
            match effect {
                Effect::Append { partition, batch, .. } => {
                    self.shared.watchers.wake(*partition, u64::from(batch.bytes));
                }
                Effect::DropLog { partition } => {
                    self.fold.parked.release(partition);
                    self.shared.damage.forget(*partition);
                    self.shared.cleanings.forget(*partition);
                    self.shared.watchers.wake(*partition, 0);
                }
                Effect::Trim { partition, log_start, .. } => {
                    self.shared.damage.trimmed(*partition, *log_start);
                    self.shared.watchers.note(*partition);
                }
                Effect::Clean { .. } | Effect::CreateLog { .. } => {}
            }
        }
        self.shared.watchers.wake_changed(&watched);
    }
}

/// What writes the effects of a commit.
struct Transaction<'a> {
    connection: &'a Connection,
    unfolded: &'a Unfolded,
    seq: i64,
    numbers: Numbers,
    /// The logs that this commit creates.
    created: HashMap<TopicPartition, u32>,
    /// Where the blocks end of those logs of which this commit replaces batches.
    tail_starts: HashMap<TopicPartition, i64>,
    scratch: &'a mut Vec<u8>,
    /// The rest of the small batches.
    small: Bytes,
}

impl Transaction<'_> {
    /// Writes an effect, and returns the change of its log; `None` if it has no log.
    fn apply(&mut self, effect: &Effect) -> rusqlite::Result<Option<(TopicPartition, LogChange)>> {
        let change = match effect {
            Effect::CreateLog { partition } => {
                let number = self.numbers.take(self.connection)?;
                self.created.insert(*partition, number);
                (*partition, LogChange::Created { number })
            }
            Effect::Append { partition, base_offset, leader_epoch, batch, appended_ms, payload } => {
                let bytes = payload.0.len();
                let is_small = bytes < SMALL_BATCH_BYTES;
                let data = is_small.then(|| self.small.split_to(bytes));
                let number = self.number(*partition).ok_or_else(|| no_log(*partition))?;
                if !is_small {
                    self.insert(number, &batch.stored(*base_offset, *leader_epoch), &payload.0)?;
                }
                let entry = Span {
                    base: *base_offset,
                    next: base_offset + i64::from(batch.record_count),
                    times: Times::of(batch, *appended_ms),
                    bytes: bytes as u64,
                };
                (*partition, LogChange::Appended { entry, data })
            }
            Effect::Trim { partition, was, log_start } => {
                let number = self.number(*partition).ok_or_else(|| no_log(*partition))?;
                let log = self.unfolded.logs.get(partition).and_then(Option::as_ref);
                let tail_start = self.tail_starts.get(partition).copied();
                let freed = log.map_or(Ok(0), |log| {
                    let tail_start = tail_start.unwrap_or(log.tail_start);
                    log.freed(self.connection, tail_start, (*was, *log_start))
                })?;
                self.mark_garbage(number, *log_start)?;
                (*partition, LogChange::Trimmed { log_start: *log_start, freed })
            }
            Effect::Clean { partition, run } => {
                let log = self.unfolded.logs.get(partition).and_then(Option::as_ref);
                let log = log.ok_or_else(|| no_log(*partition))?;
                let change = clean(self.connection, log, run)?;
                if let LogChange::Cleaned { tail_start, .. } = change {
                    // Of several runs the last may be all in the tail.
                    let known = self.tail_starts.entry(*partition).or_insert(tail_start);
                    *known = tail_start.max(*known);
                }
                (*partition, change)
            }
            Effect::DropLog { partition } => {
                // A damaged topic can still be deleted.
                let Some(number) = self.number(*partition) else { return Ok(None) };
                self.mark_garbage(number, WHOLE_LOG)?;
                self.delete_documents(*partition)?;
                (*partition, LogChange::Dropped)
            }
        };
        Ok(Some(change))
    }

    fn number(&self, at: TopicPartition) -> Option<u32> {
        let existing = || Some(self.unfolded.logs.get(&at)?.as_ref()?.number);
        self.created.get(&at).copied().or_else(existing)
    }

    fn insert(&mut self, number: u32, header: &StoredHeader, bytes: &[u8]) -> rusqlite::Result<()> {
        self.scratch.clear();
        self.scratch.extend_from_slice(bytes);
        records::settle(self.scratch, header);
        let mut insert = self.connection.prepare_cached("INSERT INTO batches VALUES (?1, ?2)")?;
        insert.execute(params![pack(number, header.base_offset), &self.scratch[..]])?;
        Ok(())
    }

    fn delete_documents(&self, partition: TopicPartition) -> rusqlite::Result<()> {
        deleted_with_log(partition).iter().try_for_each(|prefix| delete_texts(self.connection, prefix))
    }

    fn mark_garbage(&self, number: u32, before_offset: i64) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO garbage VALUES (?1, ?2, ?3, NULL)";
        self.connection.prepare_cached(sql)?.execute(params![number, before_offset, self.seq])?;
        Ok(())
    }
}

/// The small batches of a commit, one after the other, with their final headers.
fn small_batches(effects: &[Effect]) -> Bytes {
    let mut small = Vec::new();
    for effect in effects {
        if let Effect::Append { base_offset, leader_epoch, batch, payload, .. } = effect
            && payload.0.len() < SMALL_BATCH_BYTES
        {
            let at = small.len();
            small.extend_from_slice(&payload.0);
            records::settle(&mut small[at..], &batch.stored(*base_offset, *leader_epoch));
        }
    }
    small.into()
}

/// A commit's row of the journal, and the lengths of the texts in it. Producers and transactions of deleted partitions go
/// after they were put.
fn row(
    changes: &Changes,
    effects: &[Effect],
    logs: &[(TopicPartition, LogChange)],
) -> rusqlite::Result<(Row, Vec<usize>)> {
    let (mut row, mut texts) = (Row::new(), Vec::with_capacity(changes.len()));
    for (key, document) in changes {
        let text = document.as_ref().map(text_of).transpose()?;
        texts.push(text.as_ref().map_or(0, String::len));
        match text {
            Some(text) => row.put(key, &text),
            None => row.delete(key),
        }
    }
    logs.iter().for_each(|(at, change)| row.log(*at, change));
    dropped(effects).for_each(|partition| row.drop_documents(partition));
    Ok((row, texts))
}

/// A document as text.
pub(super) fn text_of(document: &Document) -> rusqlite::Result<String> {
    document.write().map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// A document in the file and the length of its text.
pub(super) fn document(connection: &Connection, key: &Key) -> Result<(Option<Document>, usize), StoreError> {
    let reading = |error: rusqlite::Error| failed(&format!("reading the document {key}"), &error);
    let sql = "SELECT value FROM whole WHERE key = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(reading)?;
    let mut rows = statement.query([key.as_str()]).map_err(reading)?;
    let Some(row) = rows.next().map_err(reading)? else { return Ok((None, 0)) };
    let text = row.get_ref(0).and_then(|value| Ok(value.as_str()?)).map_err(reading)?;
    Ok((Some(parse(key, text)?), text.len()))
}

/// Parses a document's text.
pub(super) fn parse(key: &Key, text: &str) -> Result<Document, StoreError> {
    read(key, text).map_err(|error| match error {
        rules::documents::ReadError::Newer { .. } => {
            StoreError(format!("the document {key} in the store cannot be read: {error}; upgrade Yagura"))
        }
        _ => failed(&format!("reading the document {key}"), &damaged(error.to_string())),
    })
}

fn no_log(at: TopicPartition) -> rusqlite::Error {
    damaged(format!("{} has a document and no log", PartitionDocument::key(&at)))
}

/// The log that an effect changes, if it was there before.
fn existing_log(effect: &Effect) -> Option<TopicPartition> {
    match effect {
        Effect::CreateLog { .. } => None,
        Effect::Append { partition, .. }
        | Effect::Trim { partition, .. }
        | Effect::Clean { partition, .. }
        | Effect::DropLog { partition } => Some(*partition),
    }
}

/// The partitions of which batches are replaced.
fn cleaned(effects: &[Effect]) -> impl Iterator<Item = TopicPartition> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Clean { partition, .. } => Some(*partition),
        _ => None,
    })
}

/// The partitions that were deleted.
fn dropped(effects: &[Effect]) -> impl Iterator<Item = TopicPartition> {
    effects.iter().filter_map(|effect| match effect {
        Effect::DropLog { partition } => Some(*partition),
        _ => None,
    })
}
