//! Frees deleted rows and pages in small steps.

use rusqlite::params;

use super::batches::next_offset;
use super::commit::Committer;
use super::logs::Numbers;
use super::schema::{WHOLE_LOG, failed, offset_of, pack, rows_of};
use crate::engines::StoreError;

/// Rows and bytes that one step deletes at most, and pages that it returns to the file system: a few milliseconds, for
/// which commits wait. A single batch may be larger.
const PURGED_ROWS: u32 = 256;
const PURGED_BYTES: i64 = 1 << 20;
const VACUUMED_PAGES: u32 = 16;
/// Free pages that are kept: the journal needs them again.
const KEPT_PAGES: u32 = 256;

/// Batches to delete.
struct Garbage {
    number: u32,
    before: i64,
}

impl Garbage {
    /// The greatest row id that may go.
    fn last(&self) -> i64 {
        if self.before == WHOLE_LOG { rows_of(self.number).1 } else { pack(self.number, self.before) }
    }
}

impl Committer {
    /// Notes what has become garbage, as of this time in ms.
    pub(super) fn note_garbage(&self, now_ms: i64) -> Result<(), StoreError> {
        let sql = "UPDATE garbage SET since_ms = ?1 WHERE since_ms IS NULL OR since_ms > ?1";
        let noted = self.connection.execute(sql, [now_ms]);
        noted.map(drop).map_err(|error| failed("noting garbage", &error))
    }

    /// Runs one step of deleting what became garbage at `until_ms` or before, and returns the bytes; `None` if nothing is left.
    pub(super) fn purge(&mut self, until_ms: i64) -> Result<Option<u64>, StoreError> {
        let purged = self.relaxed(|committer| committer.purge_step(until_ms))?;
        purged.map_err(|error| failed("deleting garbage", &error))
    }

    fn purge_step(&mut self, until_ms: i64) -> rusqlite::Result<Option<u64>> {
        let Some(garbage) = self.oldest(until_ms)? else { return self.vacuum() };
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let (bytes, mut numbers) = (self.purge_batches(&garbage)?, self.numbers);
        if bytes.is_none() && !self.purge_index(&garbage)? {
            self.finish(&garbage, &mut numbers)?;
        }
        self.connection.execute_batch("COMMIT")?;
        self.numbers = numbers;
        Ok(Some(bytes.unwrap_or(0)))
    }

    /// Garbage whose log is folded: otherwise its rows are still to come.
    fn oldest(&self, until_ms: i64) -> rusqlite::Result<Option<Garbage>> {
        let sql = "SELECT number, before_offset, seq FROM garbage WHERE since_ms <= ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([until_ms])?;
        while let Some(row) = rows.next()? {
            if !self.fold.has_unfolded(row.get(2)?) {
                return Ok(Some(Garbage { number: row.get(0)?, before: row.get(1)? }));
            }
        }
        Ok(None)
    }

    /// Deletes some batches; `None` if there are none left.
    fn purge_batches(&self, garbage: &Garbage) -> rusqlite::Result<Option<u64>> {
        let header = "SELECT id, length(data), substr(data, 1, 32) FROM batches
             WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3";
        let mut statement = self.connection.prepare_cached(header)?;
        let mut rows = statement.query(params![pack(garbage.number, 0), garbage.last(), PURGED_ROWS])?;
        let mut found: Option<(i64, i64)> = None;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            // The batch that holds the log start offset stays.
            if next_offset(offset_of(id), row.get_ref(2)?.as_blob()?)? > garbage.before {
                break;
            }
            let bytes = found.map_or(0, |(_, bytes)| bytes) + row.get::<_, i64>(1)?;
            if found.is_some() && bytes > PURGED_BYTES {
                break;
            }
            found = Some((id, bytes));
        }
        drop(rows);
        let Some((last, bytes)) = found else { return Ok(None) };
        let delete = "DELETE FROM batches WHERE id BETWEEN ?1 AND ?2";
        self.connection.prepare_cached(delete)?.execute([pack(garbage.number, 0), last])?;
        Ok(Some(bytes as u64))
    }

    /// Deletes some rows of the index; returns whether there were any.
    fn purge_index(&self, garbage: &Garbage) -> rusqlite::Result<bool> {
        let (first, last) = (pack(garbage.number, 0), garbage.last());
        let blocks = "DELETE FROM blocks WHERE id IN (SELECT id FROM blocks
             WHERE id BETWEEN ?1 AND ?2 AND (?3 OR id < (SELECT max(id) FROM blocks WHERE id BETWEEN ?1 AND ?2))
             ORDER BY id LIMIT ?4)";
        let is_whole = garbage.before == WHOLE_LOG;
        let rows = params![first, last, is_whole, PURGED_ROWS];
        if self.connection.prepare_cached(blocks)?.execute(rows)? > 0 {
            return Ok(true);
        }
        // A span goes once it ends before the log starts.
        let spans = "DELETE FROM spans WHERE (level, id) IN (SELECT level, id FROM spans
             WHERE level IN (1, 2, 3, 4, 5) AND id BETWEEN ?1 AND ?2 AND next_offset <= ?3 LIMIT ?4)";
        let rows = params![first, last, garbage.before, PURGED_ROWS];
        Ok(self.connection.prepare_cached(spans)?.execute(rows)? > 0)
    }

    /// Forgets garbage that is deleted. The number of a deleted log can be used again.
    fn finish(&self, garbage: &Garbage, numbers: &mut Numbers) -> rusqlite::Result<()> {
        let done = "DELETE FROM garbage WHERE number = ?1 AND before_offset = ?2";
        self.connection.prepare_cached(done)?.execute(params![garbage.number, garbage.before])?;
        if garbage.before == WHOLE_LOG {
            let others = "DELETE FROM garbage WHERE number = ?1";
            self.connection.prepare_cached(others)?.execute([garbage.number])?;
            numbers.give_back(&self.connection, garbage.number)?;
        }
        Ok(())
    }

    fn vacuum(&self) -> rusqlite::Result<Option<u64>> {
        let free: i64 = self.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        if free <= i64::from(KEPT_PAGES) {
            return Ok(None);
        }
        let pages = VACUUMED_PAGES.min(free as u32 - KEPT_PAGES);
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(Some(0))
    }
}
