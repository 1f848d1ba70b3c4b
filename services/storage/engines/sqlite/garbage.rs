//! Applies retention, and frees the deleted rows and pages in small steps.

use std::sync::Arc;

use kernel::TopicPartition;
use rules::commands::Command;
use rules::documents::{DocumentKind, Key, PartitionDocument, ProducerDocument};
use rusqlite::params;
use tracing::warn;

use super::commit::Committer;
use super::logs::LogFacts;
use super::schema::{failed, pack, rows_of};
use crate::engines::resident::{PRODUCER_EXPIRY_MS, RetentionLimits, expire_producer, limited_partitions};
use crate::engines::{Maintained, StoreError};

/// Rows and bytes that one step deletes at most, and pages that it returns to the file system: about ten milliseconds, for
/// which commits wait. A single batch may be larger.
const PURGED_ROWS: u32 = 256;
const PURGED_BYTES: i64 = 4 << 20;
const VACUUMED_PAGES: u32 = 64;

/// A partition with a retention limit.
struct Limited {
    partition: TopicPartition,
    log: PartitionDocument,
    facts: LogFacts,
    limits: RetentionLimits,
}

impl Committer {
    /// Applies retention.
    pub(super) fn retain(&mut self, now_ms: i64) -> Result<Maintained, StoreError> {
        let mut commands = Vec::new();
        let mut partitions_failed = 0;
        for limited in self.limited() {
            let partition = limited.partition;
            match self.retained_from(&limited, now_ms).map_err(|error| failed("reading", &error)) {
                Ok(Some(offset)) => commands.push(Command::AdvanceLogStart { partition, offset }),
                Ok(None) => {}
                Err(error) => {
                    warn!(?partition, "retention could not be applied to a partition: {error}");
                    partitions_failed += 1;
                }
            }
        }
        let partitions_trimmed = commands.len();
        let unused_since_ms = now_ms - PRODUCER_EXPIRY_MS;
        let idle = self.idle_producers(unused_since_ms)?;
        commands.extend(idle.iter().filter_map(|key| expire_producer(key, unused_since_ms)));
        self.commit(&commands)?;
        Ok(Maintained {
            partitions_failed,
            partitions_trimmed,
            producers_expired: idle.len(),
            bytes_freed: 0,
        })
    }

    fn limited(&self) -> Vec<Limited> {
        let shared = Arc::clone(&self.shared);
        let (table, logs) = (shared.table.read(), shared.logs.read());
        let limited = limited_partitions(&table).into_iter();
        let with_facts = |(partition, limits)| {
            let log = *table.partition(partition)?;
            Some(Limited { partition, log, facts: logs.get(partition)?, limits })
        };
        limited.filter_map(with_facts).collect()
    }

    fn retained_from(&self, limited: &Limited, now_ms: i64) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT next_offset, max_timestamp, bytes FROM batches
             WHERE id BETWEEN ?1 AND ?2 AND next_offset > ?3 ORDER BY id";
        let (first, last) = rows_of(limited.facts.number);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, limited.log.log_start])?;
        let (mut bytes, mut from) = (limited.facts.bytes, None);
        while let Some(row) = rows.next()? {
            let size = row.get::<_, i64>(2)? as u64;
            if !limited.limits.expires(row.get(1)?, bytes, size, now_ms) {
                break;
            }
            bytes = bytes.saturating_sub(size);
            from = Some(row.get(0)?);
        }
        Ok(from)
    }

    fn idle_producers(&self, unused_since_ms: i64) -> Result<Vec<Key>, StoreError> {
        let reading = |error: rusqlite::Error| failed("reading producers", &error);
        let sql = "SELECT key FROM documents WHERE key >= ?1 AND key < ?2
             AND json_extract(value, '$.last_ms') <= ?3";
        let producers = ProducerDocument::prefix();
        let mut statement = self.connection.prepare_cached(sql).map_err(reading)?;
        let bounds = params![producers.as_str(), producers.end(), unused_since_ms];
        let keys = statement.query_map(bounds, |row| row.get::<_, String>(0)).map_err(reading)?;
        keys.map(|key| key.map(|key| Key::from_text(&key)).map_err(reading)).collect()
    }

    /// Runs one step of garbage deletion and returns the bytes; `None` if there is no garbage.
    pub(super) fn purge(&mut self) -> Result<Option<u64>, StoreError> {
        self.purge_rows().map_err(|error| failed("deleting garbage", &error))
    }

    /// One step: deletes some rows, or an empty garbage entry, or returns some free pages.
    fn purge_rows(&self) -> rusqlite::Result<Option<u64>> {
        let oldest = "SELECT number, before_offset FROM garbage LIMIT 1";
        let mut entry = self.connection.prepare_cached(oldest)?;
        let mut entries = entry.query([])?;
        let Some(row) = entries.next()? else { return self.vacuum() };
        let (number, before): (u32, i64) = (row.get(0)?, row.get(1)?);
        drop(entries);
        let (first, last) = rows_of(number);
        let last = if before == i64::MAX { last } else { pack(number, before) };
        let Some((last, bytes)) = self.purgeable((first, last), before)? else {
            let done = "DELETE FROM garbage WHERE number = ?1 AND before_offset = ?2";
            self.connection.prepare_cached(done)?.execute(params![number, before])?;
            return Ok(Some(0));
        };
        let delete = "DELETE FROM batches WHERE id BETWEEN ?1 AND ?2";
        self.connection.prepare_cached(delete)?.execute([first, last])?;
        Ok(Some(bytes))
    }

    /// The last of the rows that one step deletes, and their bytes; `None` if no row is left.
    fn purgeable(&self, (first, last): (i64, i64), before: i64) -> rusqlite::Result<Option<(i64, u64)>> {
        let sql = "SELECT id, bytes FROM batches
             WHERE id BETWEEN ?1 AND ?2 AND next_offset <= ?3 ORDER BY id LIMIT ?4";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![first, last, before, PURGED_ROWS])?;
        let mut found: Option<(i64, i64)> = None;
        while let Some(row) = rows.next()? {
            let bytes = found.map_or(0, |(_, bytes)| bytes) + row.get::<_, i64>(1)?;
            if found.is_some() && bytes > PURGED_BYTES {
                break;
            }
            found = Some((row.get(0)?, bytes));
        }
        Ok(found.map(|(last, bytes)| (last, bytes as u64)))
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
