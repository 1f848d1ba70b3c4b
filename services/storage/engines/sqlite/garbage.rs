//! Frees deleted rows and pages in small steps.

use rusqlite::params;

use super::batches::next_offset;
use super::commit::Committer;
use super::damage::Part;
use super::index::LEVELS;
use super::logs::Numbers;
use super::owner::check_name;
use super::schema::{WHOLE_LOG, is_about_damage, offset_of, pack, rows_of};
use crate::engines::StoreError;

/// Rows and bytes that one step deletes at most, and pages that it returns to the file system. Commits wait for a
/// step. A single batch may be larger.
const PURGED_ROWS: u32 = 256;
const PURGED_BYTES: i64 = 1 << 20;
const VACUUMED_PAGES: u32 = 8;
/// Free pages that are kept: the journal needs them again, and what is produced next, where retention makes room for
/// that. To return a page, another one has to be moved to its place, which writes more than all else that deletes.
const KEPT_PAGES: i64 = 256;
const KEPT_PART: i64 = 16;
/// How many times as long as a step took commits have the writer for themselves: so few of them meet a step, or the
/// checkpoint that follows a dozen, that their p99 is not theirs.
const REST: u32 = 24;
const REST_OF_VACUUM: u32 = 40;
/// The same for what should be gone long since: room must not run out.
const REST_IF_LATE: u32 = 3;
const LATE_AFTER_MS: i64 = 5 * 60_000;

/// What a run has not passed, and is due.
pub(super) const OLDEST: &str = "SELECT number, before_offset, since_ms, seq FROM garbage
    WHERE since_ms <= ?1 AND (since_ms, number, before_offset) > (?2, ?3, ?4)
    ORDER BY since_ms, number, before_offset";

/// What one step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Purged {
    pub(super) bytes: u64,
    /// How many times as long as it took nothing of the kind should follow.
    pub(super) rest: u32,
}

/// Batches to delete.
struct Garbage {
    number: u32,
    before: i64,
    since_ms: i64,
    /// Whether rows of it may still come, with the next fold.
    is_unfolded: bool,
}

/// Where a run is, in the order of the index `garbage_by_time`: what is at or before it waits for the next run. So a run
/// passes over a row that has to wait once, and not in each of its steps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    since_ms: i64,
    number: i64,
    before: i64,
}

impl Passed {
    pub(super) const NOTHING: Self = Self { since_ms: i64::MIN, number: -1, before: 0 };
}

impl Garbage {
    fn place(&self) -> Passed {
        Passed { since_ms: self.since_ms, number: i64::from(self.number), before: self.before }
    }

    /// The greatest row id that may go.
    fn last(&self) -> i64 {
        if self.before == WHOLE_LOG { rows_of(self.number).1 } else { pack(self.number, self.before) }
    }
}

impl Committer {
    /// Notes what has become garbage, as of this time in ms.
    pub(super) fn note_garbage(&mut self, now_ms: i64) -> Result<(), StoreError> {
        // Also where nobody commits it is noticed that the store has lost its name.
        if let Err(lost) = check_name(&self.shared.lock) {
            self.shared.health.fail(lost.clone());
            return Err(lost);
        }
        self.passed_garbage = Passed::NOTHING;
        if let Err(error) = self.note_garbage_in_a_transaction(now_ms) {
            self.roll_back()?;
            let failure = self.failure("noting garbage", &error);
            return self.leave_garbage(None, failure);
        }
        Ok(())
    }

    fn note_garbage_in_a_transaction(&self, now_ms: i64) -> rusqlite::Result<()> {
        self.begin()?;
        let sql = "UPDATE garbage SET since_ms = ?1 WHERE since_ms IS NULL OR since_ms > ?1";
        self.connection.execute(sql, [now_ms])?;
        self.connection.execute_batch("COMMIT")
    }

    /// Runs one step of deleting what became garbage at `until_ms` or before; `None` if nothing is left.
    pub(super) fn purge(&mut self, until_ms: i64) -> Result<Option<Purged>, StoreError> {
        let mut number = None;
        let purged = self.relaxed(|committer| {
            let Some(garbage) = committer.oldest(until_ms)? else { return committer.vacuum() };
            number = Some(garbage.number);
            committer.purge_step(&garbage, until_ms).map(Some)
        })?;
        match purged {
            Ok(purged) => Ok(purged),
            Err(error) => {
                let failure = self.failure("deleting garbage", &error);
                self.leave_garbage(number, failure)?;
                // The next step goes on with what is left.
                Ok(number.map(|_| Purged { bytes: 0, rest: REST_IF_LATE }))
            }
        }
    }

    /// Leaves garbage where it is that cannot be deleted because of damage.
    fn leave_garbage(&mut self, number: Option<u32>, failure: StoreError) -> Result<(), StoreError> {
        if !is_about_damage(&failure) {
            return Err(failure);
        }
        self.shared.damage.note(&Part::Garbage(number), &failure);
        self.stuck_garbage.extend(number);
        Ok(())
    }

    fn purge_step(&mut self, garbage: &Garbage, until_ms: i64) -> rusqlite::Result<Purged> {
        self.begin()?;
        let (bytes, mut numbers) = (self.purge_batches(garbage)?, self.numbers);
        if bytes.is_none() && garbage.is_unfolded {
            self.passed_garbage = garbage.place();
        } else if bytes.is_none() && !self.purge_index(garbage)? {
            self.finish(garbage, &mut numbers)?;
        }
        self.connection.execute_batch("COMMIT")?;
        self.numbers = numbers;
        let is_late = garbage.since_ms < until_ms.saturating_sub(LATE_AFTER_MS);
        let rest = if is_late { REST_IF_LATE } else { REST };
        Ok(Purged { bytes: bytes.unwrap_or(0), rest })
    }

    /// Garbage whose log is folded: otherwise rows of it are still to come. On a full disk, where a fold may have no room,
    /// those that are there go before that, and the rest once it is folded.
    fn oldest(&mut self, until_ms: i64) -> rusqlite::Result<Option<Garbage>> {
        let mut statement = self.connection.prepare_cached(OLDEST)?;
        let Passed { since_ms, number, before } = self.passed_garbage;
        let mut rows = statement.query(params![until_ms, since_ms, number, before])?;
        while let Some(row) = rows.next()? {
            let is_unfolded = self.fold.has_unfolded(row.get(3)?);
            let garbage =
                Garbage { number: row.get(0)?, before: row.get(1)?, since_ms: row.get(2)?, is_unfolded };
            let must_wait = is_unfolded && !self.room.is_disk_full();
            if !must_wait && !self.stuck_garbage.contains(&garbage.number) {
                return Ok(Some(garbage));
            }
            self.passed_garbage = garbage.place();
        }
        Ok(None)
    }

    /// Deletes some batches; `None` if there are none left.
    fn purge_batches(&self, garbage: &Garbage) -> rusqlite::Result<Option<u64>> {
        // SQLite takes a length from the head of a row: the batches themselves are not read.
        let sql = "SELECT id, length(data) FROM batches WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let first = pack(garbage.number, 0);
        let rows = statement.query_map(params![first, garbage.last(), PURGED_ROWS + 1], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })?;
        let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
        let mut found: Option<(i64, i64)> = None;
        for (index, (id, length)) in rows.iter().enumerate().take(PURGED_ROWS as usize) {
            let bytes = found.map_or(0, |(_, bytes)| bytes) + length;
            let is_enough = found.is_some() && bytes > PURGED_BYTES;
            if is_enough || !self.is_garbage(garbage, *id, rows.get(index + 1).map(|(next, _)| *next))? {
                break;
            }
            found = Some((*id, bytes));
        }
        let Some((last, bytes)) = found else { return Ok(None) };
        let delete = "DELETE FROM batches WHERE id BETWEEN ?1 AND ?2";
        self.connection.prepare_cached(delete)?.execute([first, last])?;
        Ok(Some(bytes as u64))
    }

    /// Whether a batch ends before the log start offset: where the next one begins, or, without one, by its header.
    fn is_garbage(&self, garbage: &Garbage, id: i64, next_id: Option<i64>) -> rusqlite::Result<bool> {
        if garbage.before == WHOLE_LOG {
            return Ok(true);
        }
        let next = match next_id {
            Some(next_id) => offset_of(next_id),
            None => {
                let sql = "SELECT data FROM batches WHERE id = ?1";
                let mut statement = self.connection.prepare_cached(sql)?;
                statement.query_row([id], |row| {
                    let data = row.get_ref(0)?.as_blob()?;
                    next_offset(offset_of(id), data, data.len())
                })?
            }
        };
        Ok(next <= garbage.before)
    }

    /// Deletes some rows of the index; returns whether there were any. A block goes with its span, and that once it ends
    /// before the log starts.
    fn purge_index(&self, garbage: &Garbage) -> rusqlite::Result<bool> {
        let sql = "SELECT id FROM spans
             WHERE level = ?1 AND id BETWEEN ?2 AND ?3 AND next_offset <= ?4 LIMIT ?5";
        let mut statement = self.connection.prepare_cached(sql)?;
        for level in 1..=LEVELS {
            let range = params![level, pack(garbage.number, 0), garbage.last(), garbage.before, PURGED_ROWS];
            let ids = statement.query_map(range, |row| row.get::<_, i64>(0))?;
            let ids = ids.collect::<rusqlite::Result<Vec<_>>>()?;
            for id in &ids {
                if level == 1 {
                    self.connection.prepare_cached("DELETE FROM blocks WHERE id = ?1")?.execute([id])?;
                }
                let delete = "DELETE FROM spans WHERE level = ?1 AND id = ?2";
                self.connection.prepare_cached(delete)?.execute([level, *id])?;
            }
            if !ids.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
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

    /// Returns a few pages to the file system; `None` if there are none to spare.
    fn vacuum(&self) -> rusqlite::Result<Option<Purged>> {
        let count = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let kept = KEPT_PAGES.max(count("PRAGMA page_count")? / KEPT_PART).max(self.room.pages_kept());
        let spare = count("PRAGMA freelist_count")? - kept;
        if spare <= 0 {
            return Ok(None);
        }
        let pages = spare.min(i64::from(VACUUMED_PAGES));
        self.begin()?;
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        drop(statement);
        self.connection.execute_batch("COMMIT")?;
        Ok(Some(Purged { bytes: 0, rest: REST_OF_VACUUM }))
    }
}
