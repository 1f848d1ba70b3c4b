//! The index over batches: blocks of entries, and spans over blocks.
//!
//! An entry is what a search needs to know of a batch. 256 consecutive entries of a partition are a block; a block has
//! a span, which says where it ends, the greatest timestamp in it and its bytes; 16 spans have a span above them, and
//! so on. A search starts at the log start and steps over as much at a time as it can: its cost grows with the
//! logarithm of the log. There are no sums that run over the log: one record from the future would spoil those of all
//! that follow it.
//!
//! Blocks are added, and deleted once the log starts after them. Compaction alone changes them: [`replace`] puts the entries of
//! fewer batches in the place of others, which have the same offsets together, so that there is never a gap. The batches after the last block, the
//! tail, are in the row of the log ([`super::logs`]).

use kernel::records::NO_TIMESTAMP;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::pack::{Unpack, put_number, put_signed};
use super::schema::{OFFSET_MAX, damaged, offset_of, pack, rows_of};
use crate::engines::resident::Times;

/// Entries in a block. Few in unit tests, so that a short log has all levels.
pub(super) const BLOCK_ENTRIES: usize = if cfg!(test) { 3 } else { 256 };
/// Spans under a span.
const FAN_OUT: usize = if cfg!(test) { 2 } else { 16 };
/// Levels of spans. On the last level a search steps from span to span: each covers 16 million batches.
pub(super) const LEVELS: i64 = 5;
/// Precedes packed entries.
const VERSION: u8 = 1;
/// The same for entries of which one has records without a timestamp: each says when it was appended.
const VERSION_UNDATED: u8 = 2;

/// A batch, or several consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The first offset.
    pub(super) base: i64,
    /// The offset after the last record.
    pub(super) next: i64,
    pub(super) times: Times,
    /// Bytes of the batches.
    pub(super) bytes: u64,
}

impl Span {
    /// This span and the one after it.
    pub(super) fn and(self, after: Span) -> Span {
        Span {
            base: self.base,
            next: after.next,
            times: self.times.and(after.times),
            bytes: self.bytes + after.bytes,
        }
    }
}

/// Packs the entries of consecutive batches, the first of which may begin at `start` or later.
pub(super) fn pack_entries(start: i64, entries: &[Span]) -> Vec<u8> {
    let has_undated = entries.iter().any(|entry| entry.times.undated.is_some());
    let mut packed = vec![if has_undated { VERSION_UNDATED } else { VERSION }];
    let (mut end, mut time) = (start, 0);
    for entry in entries {
        let (latest, undated) = entry.times.written();
        put_number(&mut packed, (entry.base - end) as u64);
        put_number(&mut packed, (entry.next - entry.base) as u64);
        put_number(&mut packed, entry.bytes);
        put_signed(&mut packed, latest.wrapping_sub(time));
        if has_undated {
            put_signed(&mut packed, undated);
        }
        (end, time) = (entry.next, latest);
    }
    packed
}

/// Reads what [`pack_entries`] wrote.
pub(super) fn unpack_entries(start: i64, packed: &[u8]) -> rusqlite::Result<Vec<Span>> {
    let mut read = Unpack(packed);
    let has_undated = match read.byte()? {
        VERSION => false,
        VERSION_UNDATED => true,
        _ => return Err(damaged("the entries of a block have an unknown version")),
    };
    let (mut end, mut time, mut entries) = (start, 0_i64, Vec::new());
    while !read.is_empty() {
        let base = end.saturating_add_unsigned(read.number()?);
        let next = base.saturating_add_unsigned(read.number()?);
        let bytes = read.number()?;
        let latest = time.wrapping_add(read.signed()?);
        let undated = if has_undated { read.signed()? } else { NO_TIMESTAMP };
        entries.push(Span { base, next, times: Times::read(latest, undated), bytes });
        (end, time) = (next, latest);
    }
    Ok(entries)
}

/// What consecutive batches are together; `None` if there are none.
pub(super) fn joined(entries: &[Span]) -> Option<Span> {
    entries.iter().copied().reduce(Span::and)
}

/// Adds a block of a partition, after all others.
pub(super) fn add_block(connection: &Connection, number: u32, entries: &[Span]) -> rusqlite::Result<()> {
    let Some(block) = joined(entries) else { return Ok(()) };
    let packed = pack_entries(block.base, entries);
    let insert = "INSERT OR REPLACE INTO blocks VALUES (?1, ?2)";
    connection.prepare_cached(insert)?.execute(params![pack(number, block.base), packed])?;
    put_span(connection, 1, number, block, entries.len())?;
    let mut is_new = true;
    for level in 2..=LEVELS {
        let above = last_span(connection, level, number)?;
        let joined = above.filter(|(_, children)| !is_new || *children < FAN_OUT);
        is_new = match joined {
            Some((above, children)) => {
                put_span(connection, level, number, above.and(block), children + usize::from(is_new))?;
                false
            }
            None => {
                put_span(connection, level, number, block, 1)?;
                true
            }
        };
    }
    Ok(())
}

/// The entries of the blocks that hold a range of offsets, and of what else these blocks hold.
pub(super) fn block_entries(
    connection: &Connection,
    number: u32,
    range: (i64, i64),
) -> rusqlite::Result<Vec<Span>> {
    Ok(blocks(connection, number, range)?.into_iter().flat_map(|(_, entries)| entries).collect())
}

/// The blocks that hold a range of offsets, by their first offset.
fn blocks(
    connection: &Connection,
    number: u32,
    (from, until): (i64, i64),
) -> rusqlite::Result<Vec<(i64, Vec<Span>)>> {
    let sql = "SELECT id, entries FROM blocks WHERE id >=
         coalesce((SELECT max(id) FROM blocks WHERE id BETWEEN ?1 AND ?2), ?2) AND id < ?3 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let range = params![pack(number, 0), pack(number, from), pack(number, until)];
    let rows = statement.query_map(range, |row| {
        let base = offset_of(row.get(0)?);
        Ok((base, unpack_entries(base, row.get_ref(1)?.as_blob()?)?))
    })?;
    rows.collect()
}

/// A block or span whose place is known by its old first offset: what it is now, with how many are under it. `None` if
/// nothing is left of it.
type Changed = (i64, Option<(Span, usize)>);

/// Replaces the entries of batches in blocks. The new ones begin where old ones began, and have their offsets; the last may
/// reach beyond the blocks. It looks at the blocks of these batches, and at a few spans of each level.
pub(super) fn replace(
    connection: &Connection,
    number: u32,
    (from, until): (i64, i64),
    new: &[Span],
) -> rusqlite::Result<()> {
    let blocks = blocks(connection, number, (from, until))?;
    let mut changed: Vec<Changed> = Vec::with_capacity(blocks.len());
    for (index, (base, old)) in blocks.iter().enumerate() {
        let end = blocks.get(index + 1).map_or(i64::MAX, |(base, _)| *base);
        let before = old.iter().take_while(|entry| entry.next <= from);
        let own = new.iter().filter(|entry| (*base..end).contains(&entry.base));
        let after = old.iter().skip_while(|entry| entry.base < until);
        let entries: Vec<Span> = before.chain(own).chain(after).copied().collect();
        connection.prepare_cached("DELETE FROM blocks WHERE id = ?1")?.execute([pack(number, *base)])?;
        let joined = joined(&entries);
        if let Some(block) = joined {
            let row = params![pack(number, block.base), pack_entries(block.base, &entries)];
            connection.prepare_cached("INSERT INTO blocks VALUES (?1, ?2)")?.execute(row)?;
        }
        changed.push((*base, joined.map(|block| (block, entries.len()))));
    }
    for level in 1..=LEVELS {
        changed = replace_spans(connection, level, number, &changed)?;
    }
    Ok(())
}

/// Replaces spans of a level, and works out those of the next one that hold them.
fn replace_spans(
    connection: &Connection,
    level: i64,
    number: u32,
    changed: &[Changed],
) -> rusqlite::Result<Vec<Changed>> {
    for (base, _) in changed {
        let delete = "DELETE FROM spans WHERE level = ?1 AND id = ?2";
        connection.prepare_cached(delete)?.execute(params![level, pack(number, *base)])?;
    }
    for (span, children) in changed.iter().filter_map(|(_, now)| *now) {
        put_span(connection, level, number, span, children)?;
    }
    let (first, last) = rows_of(number);
    let mut above: Vec<Changed> = Vec::new();
    for (base, _) in changed.iter().filter(|_| level < LEVELS) {
        let sql = "SELECT max(id) FROM spans WHERE level = ?1 AND id BETWEEN ?2 AND ?3";
        let range = params![level + 1, first, pack(number, *base)];
        let id: Option<i64> = connection.prepare_cached(sql)?.query_row(range, |row| row.get(0))?;
        let Some(id) = id else { return Err(gap(number, *base)) };
        let parent = offset_of(id);
        if above.last().is_some_and(|(known, _)| *known == parent) {
            continue;
        }
        let sql = "SELECT min(id) FROM spans WHERE level = ?1 AND id > ?2 AND id <= ?3";
        let range = params![level + 1, id, last];
        let next: Option<i64> = connection.prepare_cached(sql)?.query_row(range, |row| row.get(0))?;
        let until = next.map_or(OFFSET_MAX, offset_of);
        // The first ones may be deleted already, because the log starts after them. Then it begins later as well.
        let children = spans(connection, level, number, (parent, until))?;
        above.push((parent, joined(&children).map(|span| (span, children.len()))));
    }
    Ok(above)
}

/// The spans of a level that begin in a range of offsets, in offset order.
pub(super) fn spans(
    connection: &Connection,
    level: i64,
    number: u32,
    (from, until): (i64, i64),
) -> rusqlite::Result<Vec<Span>> {
    let sql = "SELECT id, next_offset, max_timestamp, undated_ms, bytes FROM spans
         WHERE level = ?1 AND id >= ?2 AND id < ?3 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![level, pack(number, from), pack(number, until)], span)?;
    rows.collect()
}

fn span(row: &Row<'_>) -> rusqlite::Result<Span> {
    let times = Times::read(row.get(2)?, row.get(3)?);
    let bytes = row.get::<_, i64>(4)? as u64;
    Ok(Span { base: offset_of(row.get(0)?), next: row.get(1)?, times, bytes })
}

fn put_span(
    connection: &Connection,
    level: i64,
    number: u32,
    span: Span,
    children: usize,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO spans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (id, (latest, undated)) = (pack(number, span.base), span.times.written());
    let row = params![level, id, span.next, latest, span.bytes as i64, children as i64, undated];
    connection.prepare_cached(sql)?.execute(row)?;
    Ok(())
}

fn last_span(connection: &Connection, level: i64, number: u32) -> rusqlite::Result<Option<(Span, usize)>> {
    let sql = "SELECT id, next_offset, max_timestamp, undated_ms, bytes, children FROM spans
         WHERE level = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id DESC LIMIT 1";
    let (first, last) = rows_of(number);
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement
        .query_row(params![level, first, last], |row| Ok((span(row)?, row.get::<_, i64>(5)? as usize)));
    row.optional()
}

/// What a search does at a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on after the span.
    Over,
    /// It looks into the span; if that is one batch, this is what it searched for.
    Into,
}

/// Searches the blocks of a partition from an offset to the end of the last one. `step` sees spans in offset order,
/// none of which begins before the batch that holds `from`; those that it looks into, it sees again in parts.
///
/// It climbs while it goes: to the end of the block that holds `from`, from there in blocks to where a span of blocks
/// begins, and so on, and then down again where `step` looks into a span. It sees a few spans of each level.
pub(super) fn search(
    connection: &Connection,
    number: u32,
    (from, end): (i64, i64),
    step: &mut impl FnMut(&Span) -> Step,
) -> rusqlite::Result<Option<Span>> {
    let mut at = from;
    for level in 0..=LEVELS {
        let until =
            if level == LEVELS { end } else { next_start(connection, level + 1, number, at)?.unwrap_or(end) };
        let until = until.min(end);
        if at < until
            && let Some(found) = search_level(connection, number, level, (at, until), step)?
        {
            return Ok(Some(found));
        }
        at = at.max(until);
    }
    Ok(None)
}

/// Where the first span of a level begins, at or after an offset.
fn next_start(connection: &Connection, level: i64, number: u32, at: i64) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT min(id) FROM spans WHERE level = ?1 AND id BETWEEN ?2 AND ?3";
    let range = params![level, pack(number, at), rows_of(number).1];
    let id: Option<i64> = connection.prepare_cached(sql)?.query_row(range, |row| row.get(0))?;
    Ok(id.map(offset_of))
}

/// Searches a range that the spans of a level fill.
fn search_level(
    connection: &Connection,
    number: u32,
    level: i64,
    (from, until): (i64, i64),
    step: &mut impl FnMut(&Span) -> Step,
) -> rusqlite::Result<Option<Span>> {
    if level == 0 {
        return search_block(connection, number, (from, until), step);
    }
    let mut at = from;
    for span in spans(connection, level, number, (from, until))? {
        if span.base != at {
            return Err(gap(number, at));
        }
        at = span.next.min(until);
        // A fold has extended it since the caller looked at the log: what is new is not counted.
        let is_newer = span.next > until;
        if (is_newer || step(&span) == Step::Into)
            && let Some(found) = search_level(connection, number, level - 1, (span.base, at), step)?
        {
            return Ok(Some(found));
        }
    }
    if at < until { Err(gap(number, at)) } else { Ok(None) }
}

fn search_block(
    connection: &Connection,
    number: u32,
    (from, until): (i64, i64),
    step: &mut impl FnMut(&Span) -> Step,
) -> rusqlite::Result<Option<Span>> {
    let entries = block_of(connection, number, from)?;
    if entries.last().is_none_or(|last| last.next < until) {
        return Err(gap(number, from));
    }
    let mut within = entries.into_iter().filter(|entry| entry.next > from && entry.next <= until);
    Ok(within.find(|entry| step(entry) == Step::Into))
}

fn gap(number: u32, offset: i64) -> rusqlite::Error {
    damaged(format!("the index of partition number {number} lacks offset {offset}"))
}

/// The entries of the block that holds an offset.
pub(super) fn block_of(connection: &Connection, number: u32, offset: i64) -> rusqlite::Result<Vec<Span>> {
    let sql = "SELECT id, entries FROM blocks WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([pack(number, 0), pack(number, offset)])?;
    let Some(row) = rows.next()? else { return Ok(Vec::new()) };
    unpack_entries(offset_of(row.get(0)?), row.get_ref(1)?.as_blob()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::sqlite::schema::CREATE;

    #[test]
    fn entries_are_read_as_they_were_packed() {
        let entry = |base: i64, latest, undated| Span {
            base,
            next: base + 2,
            times: Times::read(latest, undated),
            bytes: 70,
        };
        let dated = [entry(10, 1_000, -1), entry(12, -1, -1), entry(20, i64::MAX, -1)];
        let mixed = [entry(10, 1_000, -1), entry(12, -1, 1_500), entry(20, 7, 2_000)];
        for entries in [&dated, &mixed] {
            assert_eq!(unpack_entries(10, &pack_entries(10, entries)).unwrap(), entries);
        }
        assert_eq!(pack_entries(10, &dated)[0], VERSION, "as earlier releases wrote them");
        assert!(unpack_entries(0, &[3]).is_err());
    }

    #[test]
    fn a_search_counts_nothing_that_a_fold_has_added_after_its_end() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(CREATE).unwrap();
        let block = |index: i64| -> Vec<Span> {
            let first = index * BLOCK_ENTRIES as i64;
            let entry = |base| Span { base, next: base + 1, times: Times::read(base, -1), bytes: 1 };
            (first..first + BLOCK_ENTRIES as i64).map(entry).collect()
        };
        for index in 0..40 {
            add_block(&connection, 7, &block(index)).unwrap();
        }
        for blocks in 1..40 {
            let end = blocks * BLOCK_ENTRIES as i64;
            for from in [0, end / 2, end - 1] {
                let mut bytes = 0;
                let found = search(&connection, 7, (from, end), &mut |span| {
                    bytes += span.bytes;
                    Step::Over
                });
                assert_eq!((found.unwrap(), bytes), (None, (end - from) as u64), "from {from} to {end}");
            }
        }
    }

    #[test]
    fn batches_that_are_replaced_leave_the_index_as_if_it_had_been_so() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(CREATE).unwrap();
        let entry = |base: i64, next: i64| Span { base, next, times: Times::read(base, -1), bytes: 7 };
        let mut all: Vec<Span> = (0..120).map(|base| entry(base, base + 1)).collect();
        for block in all.chunks(BLOCK_ENTRIES) {
            add_block(&connection, 7, block).unwrap();
        }
        // Within a block, over several, from the first, to the last, one that was merged before, and all.
        for (from, until) in [(4, 6), (10, 30), (0, 9), (100, 120), (8, 31), (31, 32), (0, 120)] {
            let Some(first) = all.iter().find(|entry| entry.next > from).copied() else { panic!() };
            let from = first.base;
            let new = entry(from, until);
            replace(&connection, 7, (from, until), &[new]).unwrap();
            all.retain(|entry| entry.next <= from || entry.base >= until);
            let at = all.partition_point(|entry| entry.base < from);
            all.insert(at, new);
            let mut seen = Vec::new();
            let found = search(&connection, 7, (0, 120), &mut |span| {
                seen.push(*span);
                if span.next - span.base > 200 { Step::Into } else { Step::Over }
            });
            assert_eq!(found.unwrap(), None, "{from} to {until}");
            let bytes: u64 = seen.iter().map(|span| span.bytes).sum();
            assert_eq!(bytes, 7 * all.len() as u64, "{from} to {until}");
            for wanted in &all {
                let mut is_it = |span: &Span| if span.next > wanted.base { Step::Into } else { Step::Over };
                let found = search(&connection, 7, (wanted.base, 120), &mut is_it).unwrap();
                assert_eq!(found, Some(*wanted), "{from} to {until}");
                let found = search(&connection, 7, (0, 120), &mut is_it).unwrap();
                assert_eq!(found, Some(*wanted), "{from} to {until}");
            }
        }
    }
}
