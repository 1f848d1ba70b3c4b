//! Deletes what is before the start of its log, in small steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::Error;

use super::errors::Failure;
use super::index::LEVELS;
use super::metrics::Purpose;
use super::outbox;
use super::pool::Pool;
use super::resolve;
use super::session::Session;
use crate::engines::StoreError;

/// Rows that one step deletes at most.
const ROWS_MAX: i64 = 1_000;
/// Bytes of batches that one step deletes, and one batch more.
const BYTES_MAX: i64 = 4 << 20;
/// How many times as long as a step took nothing should follow: commits have most of the time.
const REST: u32 = 3;

const DATE: &str = "UPDATE garbage SET since_ms = $1 WHERE since_ms IS NULL OR since_ms > $1";
const OLDEST: &str = "SELECT log, before_offset FROM garbage WHERE since_ms <= $1
    ORDER BY since_ms, log, before_offset LIMIT 1";
/// The oldest batches, until they are many bytes together. Those of rows have as many rows as records.
const BATCHES: &str = "WITH gone AS (DELETE FROM batches WHERE log = $1 AND base_offset IN (
    SELECT base_offset FROM (SELECT base_offset, sum(bytes) OVER (ORDER BY base_offset) - bytes AS before FROM (
    SELECT base_offset, bytes FROM batches WHERE log = $1 AND base_offset < $2 AND next_offset <= $2
    ORDER BY base_offset LIMIT $3) few) few WHERE before < $4) RETURNING base_offset, next_offset, bytes, data),
    freed AS (DELETE FROM batch_data d USING gone WHERE d.id = gone.data),
    rows AS (DELETE FROM record_rows r USING gone WHERE gone.data IS NULL AND r.log = $1
    AND r.record_offset >= gone.base_offset AND r.record_offset < gone.next_offset)
    SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM gone";
const SPANS: &str = "DELETE FROM spans WHERE log = $1 AND level = $2 AND base_offset IN (
    SELECT base_offset FROM spans WHERE log = $1 AND level = $2 AND base_offset < $3 AND next_offset <= $3
    ORDER BY base_offset LIMIT $4)";
/// How far readers have come in a log that is gone. One of them may be at it just now, and leaves a row that nobody asks for.
const READERS: &str = "DELETE FROM inbox i USING (SELECT log, reader FROM inbox WHERE log = $1
    AND NOT EXISTS (SELECT FROM logs WHERE id = $1) FOR UPDATE SKIP LOCKED) gone
    WHERE i.log = gone.log AND i.reader = gone.reader";
const FORGET: &str = "DELETE FROM garbage WHERE log = $1 AND before_offset = $2";

/// What one step has done.
struct Purged {
    bytes: u64,
    is_done: bool,
}

/// Notes what has become garbage as of this time in ms, and deletes what was that for so long; returns the bytes that were
/// freed.
pub(super) async fn purge(pool: &Pool, now_ms: i64, delete_delay: Duration) -> Result<u64, StoreError> {
    pool.read(Purpose::Garbage, |session| async move { date(&session, now_ms).await }).await?;
    let until_ms = now_ms.saturating_sub_unsigned(delete_delay.as_millis() as u64);
    let mut freed = 0;
    loop {
        let started = Instant::now();
        let purged =
            pool.read(Purpose::Garbage, |session| async move { step(&session, until_ms).await }).await?;
        freed += purged.bytes;
        if purged.is_done {
            break;
        }
        tokio::time::sleep(REST * started.elapsed()).await;
    }
    loop {
        let started = Instant::now();
        let forget = |session: Arc<Session>| async move { outbox::forget(&session).await.map_err(purging) };
        if !pool.read(Purpose::Outbox, forget).await? {
            return Ok(freed);
        }
        tokio::time::sleep(REST * started.elapsed()).await;
    }
}

async fn date(session: &Session, now_ms: i64) -> Result<(), Failure> {
    resolve::forget(session).await.map_err(purging)?;
    session.execute(DATE, &[&now_ms]).await.map(drop).map_err(purging)
}

/// Deletes some rows of the oldest garbage. Each statement is a transaction: what one has deleted, the next does not find.
async fn step(session: &Session, until_ms: i64) -> Result<Purged, Failure> {
    let oldest = session.query(OLDEST, &[&until_ms]).await.map_err(purging)?;
    let Some(oldest) = oldest.first() else { return Ok(Purged { bytes: 0, is_done: true }) };
    let (log, before): (i64, i64) = (oldest.get(0), oldest.get(1));
    let rows = session.query(BATCHES, &[&log, &before, &ROWS_MAX, &BYTES_MAX]).await.map_err(purging)?;
    let (count, bytes): (i64, i64) = rows.first().map_or((0, 0), |row| (row.get(0), row.get(1)));
    let purged = Purged { bytes: bytes as u64, is_done: false };
    if count > 0 {
        return Ok(purged);
    }
    for level in 1..=LEVELS {
        let deleted = session.execute(SPANS, &[&log, &level, &before, &ROWS_MAX]).await.map_err(purging)?;
        if deleted == ROWS_MAX as u64 {
            return Ok(purged);
        }
    }
    session.execute(READERS, &[&log]).await.map_err(purging)?;
    session.execute(FORGET, &[&log, &before]).await.map_err(purging)?;
    Ok(purged)
}

fn purging(error: Error) -> Failure {
    Failure::of("deleting what is no more needed from", &error)
}
