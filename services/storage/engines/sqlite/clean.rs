//! Replaces batches that compaction has worked on.
//!
//! It is part of a commit: the new rows of `batches`, the index over them, and the row of the journal that says so are one
//! transaction. After a crash all of it is there, or nothing.
//!
//! What the file's index says of the batches is changed in its place, whatever is folded. What is in memory, the tail and the
//! small batches that were not folded, is changed by the journal's row, in the order of commits: rows before it put these
//! batches in, and this one takes them out again. A log's own row says which rows of the journal are in it, so that a fold
//! before or after it makes no difference. New batches always go to their place in the file: they replace what a fold that
//! has not ended may have put there already.

use rules::commands::{CleanedBatch, CleanedRun};
use rusqlite::{Connection, params};

use super::index::{Span, block_entries, replace};
use super::logs::{Log, LogChange};
use super::schema::pack;

/// Replaces batches of a log, within a transaction; returns what that changes of what is in memory.
pub(super) fn clean(connection: &Connection, log: &Log, run: &CleanedRun) -> rusqlite::Result<LogChange> {
    let (from, until) = (run.from, run.until);
    let delete = "DELETE FROM batches WHERE id BETWEEN ?1 AND ?2";
    let range = [pack(log.number, from), pack(log.number, until - 1)];
    connection.prepare_cached(delete)?.execute(range)?;
    let mut insert = connection.prepare_cached("INSERT INTO batches VALUES (?1, ?2)")?;
    for batch in &run.batches {
        insert.execute(params![pack(log.number, batch.base_offset), &batch.payload.0[..]])?;
    }
    let mut old = Vec::new();
    if from < log.tail_start {
        let within = block_entries(connection, log.number, (from, until.min(log.tail_start)))?;
        old.extend(within.into_iter().filter(|entry| entry.base >= from && entry.base < until));
    }
    let place = |offset| log.tail().partition_point(|entry| entry.base < offset);
    old.extend_from_slice(&log.tail()[place(from)..place(until)]);
    let new: Vec<Span> = run.batches.iter().map(|batch| entry_of(batch, &old)).collect();
    let bytes = |entries: &[Span]| entries.iter().map(|entry| entry.bytes).sum::<u64>() as i64;
    let freed = bytes(&old) - bytes(&new);
    let in_tail = new.partition_point(|entry| entry.base < log.tail_start);
    let (in_blocks, in_tail) = new.split_at(in_tail);
    if !in_blocks.is_empty() {
        replace(connection, log.number, (from, until), in_blocks)?;
    }
    // A new batch that reaches into the tail is where the first of the old ones was.
    let tail_start = in_blocks.last().map_or(log.tail_start, |last| last.next.max(log.tail_start));
    Ok(LogChange::Cleaned { from, until, tail_start, entries: in_tail.to_vec(), freed })
}

/// The entry of a new batch. When records without a timestamp were appended, only the old one says.
fn entry_of(batch: &CleanedBatch, old: &[Span]) -> Span {
    let before = old.binary_search_by_key(&batch.base_offset, |entry| entry.base);
    let times = before.map(|index| old[index].times).unwrap_or_default();
    Span {
        base: batch.base_offset,
        next: batch.next_offset,
        times: times.replaced(batch.max_timestamp, batch.has_records),
        bytes: batch.payload.0.len() as u64,
    }
}
