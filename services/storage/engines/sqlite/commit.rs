//! One commit: commands are decided one by one, and their changes are written in one transaction.

use std::sync::Arc;

use kernel::{TopicPartition, records};
use rules::commands::{BatchFacts, Command, Effect, Outcome};
use rules::documents::{Counters, Document, DocumentKind, Key, ProducerDocument, read};
use rules::{Changes, WorkingSet, decide, needs};
use rusqlite::{Connection, params};

use super::Shared;
use super::logs::LogChanges;
use super::schema::{failed, pack};
use crate::engines::{StoreError, Watchers};

/// The connection that writes, and what it shares with the readers.
pub(super) struct Committer {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    /// The batch being stored, reused so that a commit allocates nothing per batch.
    scratch: Vec<u8>,
}

impl Committer {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>) -> Self {
        // Room for all prepared statements: a dozen.
        connection.set_prepared_statement_cache_capacity(32);
        Self { connection, shared, scratch: Vec::new() }
    }

    /// Decides commands and makes them durable. A failure changes nothing.
    pub(super) fn commit(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, StoreError> {
        self.load_needed(commands)?;
        let shared = Arc::clone(&self.shared);
        let table = shared.table.read();
        let mut set = WorkingSet::new(&*table);
        let mut logs = LogChanges::new(&shared.logs.read());
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let followed = set.effects().len();
            outcomes.push(logs.check(command, &set).and_then(|()| decide(&mut set, command)));
            let facts = shared.logs.read();
            set.effects()[followed..].iter().for_each(|effect| logs.apply(&facts, effect));
        }
        let counters = set.get::<Counters>(&()).copied().unwrap_or_default();
        let (changes, effects) = set.into_changes();
        drop(table);
        if changes.is_empty() && effects.is_empty() {
            return Ok(outcomes);
        }
        if let Err(error) = self.write(&changes, &effects, &mut logs, &counters) {
            self.roll_back()?;
            return Err(failed("writing", &error));
        }
        self.publish(changes, &effects, logs);
        Ok(outcomes)
    }

    /// A failed statement has rolled back already; a failed COMMIT has not.
    fn roll_back(&self) -> Result<(), StoreError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK").map_err(|error| failed("rolling back", &error))
    }

    /// Makes durable changes visible to readers, and wakes watchers.
    fn publish(&self, changes: Changes, effects: &[Effect], logs: LogChanges) {
        let watched = Watchers::watched(changes.keys());
        let mut table = self.shared.table.write();
        self.shared.logs.write().apply(logs);
        table.apply(changes);
        for partition in dropped(effects) {
            table.drop_producers(partition);
        }
        drop(table);
        for effect in effects {
            match effect {
                Effect::Append { partition, batch, .. } => {
                    self.shared.watchers.wake(*partition, u64::from(batch.bytes));
                }
                Effect::DropLog { partition } => self.shared.watchers.wake(*partition, 0),
                Effect::CreateLog { .. } | Effect::Trim { .. } => {}
            }
        }
        self.shared.watchers.wake_changed(&watched);
    }

    /// Loads the producers that the commands need and that are not in memory.
    fn load_needed(&self, commands: &[Command]) -> Result<(), StoreError> {
        let table = self.shared.table.read();
        let set = WorkingSet::new(&*table);
        let missing: Vec<Key> =
            commands.iter().flat_map(|command| needs(command, &set).into_keys()).collect();
        drop(table);
        for key in missing {
            let document = self.document(&key)?;
            self.shared.table.write().put(key, document);
        }
        Ok(())
    }

    fn document(&self, key: &Key) -> Result<Option<Document>, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading a document", &error);
        let sql = "SELECT value FROM documents WHERE key = ?1";
        let mut statement = self.connection.prepare_cached(sql).map_err(reading)?;
        let mut rows = statement.query([key.as_str()]).map_err(reading)?;
        let Some(row) = rows.next().map_err(reading)? else { return Ok(None) };
        let text: String = row.get(0).map_err(reading)?;
        let document = read(key, &text);
        document
            .map(Some)
            .map_err(|error| StoreError(format!("the document {key} in the store is damaged: {error}")))
    }

    fn write(
        &mut self,
        changes: &Changes,
        effects: &[Effect],
        logs: &mut LogChanges,
        counters: &Counters,
    ) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        let facts = shared.logs.read();
        let unwritable = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        for effect in effects {
            let number = |at: TopicPartition, logs: &LogChanges| logs.get(&facts, at).map(|log| log.number);
            match effect {
                Effect::CreateLog { .. } => {}
                Effect::Append { partition, base_offset, leader_epoch, batch, payload } => {
                    let Some(number) = number(*partition, logs) else { continue };
                    self.insert(number, (*base_offset, *leader_epoch), batch, &payload.0)?;
                }
                Effect::Trim { partition, was, log_start } => {
                    let Some(number) = number(*partition, logs) else { continue };
                    let bytes = self.trim(number, *was, *log_start)?;
                    logs.trimmed(&facts, *partition, bytes);
                }
                Effect::DropLog { partition } => {
                    if let Some(number) = number(*partition, logs) {
                        self.mark_garbage(number, i64::MAX)?;
                    }
                    logs.dropped(*partition);
                }
            }
        }
        for (key, document) in changes {
            match document {
                Some(document) => self.put(key, &logs.text_of(&facts, key, document).map_err(unwritable)?)?,
                None => {
                    let sql = "DELETE FROM documents WHERE key = ?1";
                    self.connection.prepare_cached(sql)?.execute([key.as_str()])?;
                }
            }
        }
        // After the changes: a producer may have appended to a partition that was then deleted.
        for partition in dropped(effects) {
            self.delete_producers(partition)?;
        }
        if logs.has_new_numbers() {
            self.put(&Counters::key(&()), &logs.counters_text(counters).map_err(unwritable)?)?;
        }
        self.connection.execute_batch("COMMIT")
    }

    fn put(&self, key: &Key, text: &str) -> rusqlite::Result<()> {
        let sql = "INSERT INTO documents VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
        self.connection.prepare_cached(sql)?.execute([key.as_str(), text])?;
        Ok(())
    }

    fn insert(
        &mut self,
        number: u32,
        (base_offset, leader_epoch): (i64, i32),
        batch: &BatchFacts,
        bytes: &[u8],
    ) -> rusqlite::Result<()> {
        self.scratch.clear();
        self.scratch.extend_from_slice(bytes);
        records::patch(&mut self.scratch, base_offset, leader_epoch);
        let mut insert = self.connection.prepare_cached("INSERT INTO batches VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![
            pack(number, base_offset),
            base_offset + i64::from(batch.record_count),
            batch.max_timestamp,
            self.scratch.len() as i64,
            &self.scratch[..],
        ])?;
        Ok(())
    }

    /// Marks the rows before the new log start offset as garbage, and returns their bytes.
    fn trim(&self, number: u32, was: i64, log_start: i64) -> rusqlite::Result<u64> {
        let sql = "SELECT coalesce(sum(bytes), 0) FROM batches
             WHERE id >= coalesce((SELECT max(id) FROM batches WHERE id BETWEEN ?1 AND ?2), ?1) AND id < ?3
               AND next_offset > ?4 AND next_offset <= ?5";
        let bounds = params![pack(number, 0), pack(number, was), pack(number, log_start), was, log_start];
        let freed: i64 = self.connection.prepare_cached(sql)?.query_row(bounds, |row| row.get(0))?;
        self.mark_garbage(number, log_start)?;
        Ok(freed as u64)
    }

    fn delete_producers(&self, partition: TopicPartition) -> rusqlite::Result<()> {
        let producers = ProducerDocument::of_partition(partition);
        let sql = "DELETE FROM documents WHERE key >= ?1 AND key < ?2";
        self.connection.prepare_cached(sql)?.execute([producers.as_str(), &producers.end()])?;
        Ok(())
    }

    fn mark_garbage(&self, number: u32, before_offset: i64) -> rusqlite::Result<()> {
        let sql = "INSERT OR IGNORE INTO garbage VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![number, before_offset])?;
        Ok(())
    }
}

/// The partitions that were deleted.
fn dropped(effects: &[Effect]) -> impl Iterator<Item = TopicPartition> {
    effects.iter().filter_map(|effect| match effect {
        Effect::DropLog { partition } => Some(*partition),
        _ => None,
    })
}
