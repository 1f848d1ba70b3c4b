//! Finds where reading goes on behind a damaged page.
//!
//! The rows of a table are in the order of their keys, and those on a damaged page cannot be read, nor can what leads from it
//! to the next. So keys further on are looked up, in ever larger steps, until one is found; then the range before it is
//! halved until the place is exact. A sound page between two damaged ones may be stepped over if it is smaller than a step.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::batches::is_row_of;
use super::schema::{damaged, is_damage, number_of, offset_of, pack, rows_of};

/// How often the range before a key is halved: to 16 bytes behind what two keys have in common.
const HALVINGS: usize = 128;

/// The first key found after `from` and before `end` at which reading goes on; `from` itself cannot be read.
pub(super) fn first_readable(
    from: &[u8],
    end: &[u8],
    mut is_readable: impl FnMut(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let (mut low, mut high) = (from.to_vec(), end.to_vec());
    // The last bytes first: what follows with the same beginning is near.
    let steps = (1..=from.len()).rev().filter_map(|length| successor(&from[..length]));
    for step in steps.take_while(|step| step.as_slice() < end) {
        if is_readable(&step) {
            high = step;
            break;
        }
        low = step;
    }
    for _ in 0..HALVINGS {
        let Some(middle) = between(&low, &high) else { break };
        if is_readable(&middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    (high != end).then_some(high)
}

/// The same among row ids.
pub(super) fn first_readable_id(
    from: i64,
    end: i64,
    mut is_readable: impl FnMut(i64) -> bool,
) -> Option<i64> {
    let (mut low, mut step) = (from, 1_i64);
    let mut high = loop {
        let Some(next) = low.checked_add(step).filter(|next| *next < end) else { break end };
        if is_readable(next) {
            break next;
        }
        (low, step) = (next, step.saturating_mul(2));
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_readable(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    (high != end).then_some(high)
}

/// The least key that is greater than all with this beginning, as long as its last byte can grow.
fn successor(beginning: &[u8]) -> Option<Vec<u8>> {
    let mut next = beginning.to_vec();
    let last = next.last_mut()?;
    *last = last.checked_add(1)?;
    Some(next)
}

/// A key in the middle of two, as fractions whose digits are bytes; `None` if there is none.
fn between(low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    let length = low.len().max(high.len()) + 1;
    let digit = |key: &[u8], at: usize| u16::from(key.get(at).copied().unwrap_or(0));
    let (mut sum, mut carry) = (vec![0_u16; length], 0);
    for at in (0..length).rev() {
        let total = digit(low, at) + digit(high, at) + carry;
        (sum[at], carry) = (total & 0xff, total >> 8);
    }
    let mut middle = Vec::with_capacity(length);
    for digit in sum {
        let total = carry << 8 | digit;
        middle.push((total / 2) as u8);
        carry = total % 2;
    }
    while middle.last() == Some(&0) {
        middle.pop();
    }
    (low < middle.as_slice() && middle.as_slice() < high).then_some(middle)
}

/// The batches of a partition number, in the order of offsets, around those that cannot be read.
pub(super) struct Batches<'a> {
    connection: &'a Connection,
    at: i64,
    last: i64,
}

/// What is read next.
pub(super) enum ReadBatch {
    /// A batch, by its base offset.
    Batch(i64, Bytes),
    /// One or more cannot be read, from this offset on.
    Damaged(i64, rusqlite::Error),
}

impl<'a> Batches<'a> {
    pub(super) fn of(connection: &'a Connection, number: u32) -> Self {
        let (at, last) = rows_of(number);
        Self { connection, at, last }
    }

    pub(super) fn next_batch(&mut self) -> rusqlite::Result<Option<ReadBatch>> {
        if self.at > self.last {
            return Ok(None);
        }
        match first_row(self.connection, self.at, self.last) {
            Ok(None) => Ok(None),
            Ok(Some((id, data))) if is_own_row(id, &data) => {
                self.at = id + 1;
                Ok(Some(ReadBatch::Batch(offset_of(id), data)))
            }
            Ok(Some((id, data))) => Ok(Some(self.step_over_row(id, data))),
            Err(error) if is_damage(&error) => Ok(Some(ReadBatch::Damaged(self.step_over(), error))),
            Err(error) => Err(error),
        }
    }

    /// Steps over a row whose id is not that of its batch: one of the two is damaged, and it may be far from its place.
    fn step_over_row(&mut self, id: i64, data: Bytes) -> ReadBatch {
        let from = self.at;
        let is_sound = |probe| match first_row(self.connection, probe, self.last) {
            Ok(row) => row.is_none_or(|(id, data)| is_own_row(id, &data)),
            Err(_) => false,
        };
        // If the batch is the next one, only the id is wrong.
        let (base, own) = (offset_of(from), pack(number_of(from), base_offset(&data)));
        if own == from && is_row_of(base, &data, data.len()) {
            self.at = from + 1;
            return ReadBatch::Batch(base, data);
        }
        self.at = first_readable_id(from, self.last + 1, is_sound).unwrap_or(self.last + 1);
        let why =
            damaged(format!("the row of the batch at offset {} has the id of another one", offset_of(id)));
        ReadBatch::Damaged(base, why)
    }

    /// Steps over what cannot be read; returns the offset where it begins.
    fn step_over(&mut self) -> i64 {
        let (from, end) = (self.at, self.last + 1);
        let (begins, next) = match first_id(self.connection, from, self.last) {
            Ok(None) => (from, None),
            // Its head can be read, the rest of it cannot.
            Ok(Some(id)) => (id, Some(id + 1)),
            Err(_) => {
                let is_readable = |id| first_id(self.connection, id, self.last).is_ok();
                (from, first_readable_id(from, end, is_readable))
            }
        };
        self.at = next.unwrap_or(end);
        offset_of(begins)
    }
}

/// The first row of `batches` in a range.
fn first_row(connection: &Connection, from: i64, last: i64) -> rusqlite::Result<Option<(i64, Bytes)>> {
    let sql = "SELECT id, data FROM batches WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT 1";
    let row = connection.prepare_cached(sql)?.query_row(params![from, last], |row| {
        Ok((row.get::<_, i64>(0)?, Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?)))
    });
    row.optional()
}

/// Whether a row's id is that of its batch, as far as the batch can tell.
fn is_own_row(id: i64, data: &[u8]) -> bool {
    base_offset(data) == offset_of(id)
}

/// What a batch says of its base offset.
fn base_offset(data: &[u8]) -> i64 {
    data.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(-1, i64::from_be_bytes)
}

/// The first row id of `batches` in a range.
pub(super) fn first_id(connection: &Connection, from: i64, last: i64) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT id FROM batches WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT 1";
    connection.prepare_cached(sql)?.query_row(params![from, last], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_between() {
        for (low, high) in [("a", "b"), ("a", "aa"), ("group/abc", "group/b"), ("", "z"), ("az", "b")] {
            let middle = between(low.as_bytes(), high.as_bytes()).unwrap();
            assert!(
                low.as_bytes() < middle.as_slice() && middle.as_slice() < high.as_bytes(),
                "{low} {high}"
            );
        }
        assert_eq!(between(b"a", b"a"), None);
    }

    #[test]
    fn reading_goes_on_right_behind_the_damage() {
        let keys: Vec<String> = (100..400).map(|number| format!("group/{number}")).collect();
        for (first, last) in [(0, 0), (0, 10), (57, 59), (99, 100), (5, 298), (20, 120)] {
            // What is looked up and lies on the damaged page fails.
            let is_readable = |probe: &[u8]| {
                let found = keys.iter().position(|key| key.as_bytes() >= probe);
                found.is_none_or(|found| found < first || found > last)
            };
            let from = keys[first].as_bytes();
            let next = first_readable(from, b"group0", is_readable).unwrap();
            let found = keys.iter().find(|key| key.as_bytes() >= next.as_slice());
            assert_eq!(found, keys.get(last + 1), "{first} to {last}");
        }
        assert_eq!(first_readable(b"group/1", b"group0", |_| false), None);
    }

    #[test]
    fn row_ids_are_found_as_well() {
        for (from, good, end) in [(0, 1, 9), (5, 6, 7), (7, 1_000_000, i64::MAX), (3, 4_711, 5_000)] {
            assert_eq!(first_readable_id(from, end, |id| id >= good), Some(good));
        }
        assert_eq!(first_readable_id(3, 5_000, |_| false), None);
        // The rows of a journal may have negative numbers.
        assert_eq!(first_readable_id(-(1 << 60), i64::MAX, |_| false), None);
        assert_eq!(first_readable_id(-(1 << 60), i64::MAX, |id| id >= 7), Some(7));
    }
}
