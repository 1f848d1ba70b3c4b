//! Reading batches from an offset: from the file, and the small ones that are not in it yet from memory.

use bytes::Bytes;
use kernel::records::PREFIX_BYTES;
use rules::documents::PartitionDocument;
use rusqlite::{Connection, params};

use super::index::{Span, Step};
use super::logs::{IndexEnd, Log, Recent};
use super::schema::{damaged, is_damage, offset_of, pack};
use crate::engines::resident::{Fit, ReadBudget, outcome_of, outcome_without_log};
use crate::engines::{Isolation, ReadOutcome, ReadSpec};

/// Where a batch's header has the offset of its last record, relative to its first.
pub(super) const LAST_OFFSET_DELTA: std::ops::Range<usize> = 23..27;

/// How long the base offset is that a batch begins with; its length follows.
const BASE_OFFSET_BYTES: usize = 8;

/// A partition at the moment of a read.
pub(super) struct View {
    pub(super) document: PartitionDocument,
    pub(super) number: u32,
    from: i64,
    isolation: Isolation,
    /// Where the log ends for the reader.
    end: i64,
    /// The small batches that are not in the file, as many as one read can return.
    recent: Vec<Recent>,
    index: IndexEnd,
}

impl View {
    pub(super) fn of(
        document: &PartitionDocument,
        log: &Log,
        from: i64,
        spec: &ReadSpec,
        budget: &ReadBudget,
    ) -> Self {
        let bytes_max = budget.most(spec.bytes_max);
        let now_max = bytes_max.min(budget.now_left());
        let end = spec.isolation.end_of(document);
        let recent = log.recent_from(from).take_while(|recent| recent.next <= end);
        let recent = few(recent, now_max, |recent| recent.data.len());
        // Only a read that may leave batches for later needs the index.
        let is_all_now = budget.now_left() == usize::MAX;
        let index = if is_all_now { IndexEnd::default() } else { log.index_end(from, bytes_max) };
        let isolation = spec.isolation;
        Self { document: *document, number: log.number, from, isolation, end, recent, index }
    }

    /// The result if no batch has to be read for it.
    pub(super) fn outcome_without_log(&self) -> Option<ReadOutcome> {
        outcome_without_log(&self.document, self.from, self.isolation)
    }

    /// Searches the index: see [`super::index::search`].
    pub(super) fn search(
        &self,
        connection: &Connection,
        from: i64,
        step: &mut impl FnMut(&Span) -> Step,
    ) -> rusqlite::Result<Option<Span>> {
        self.index.search(connection, self.number, from, step)
    }

    /// Reads whole batches, up to the first that is missing.
    pub(super) fn read(
        &self,
        connection: &Connection,
        bytes_max: usize,
        budget: &mut ReadBudget,
    ) -> rusqlite::Result<Reading> {
        let mut reading = Reading::at(self.from, bytes_max);
        if !budget.has_room(bytes_max) {
            return Ok(reading);
        }
        for recent in &self.recent {
            let may_go_on = self.read_file(connection, recent.base, &mut reading, budget)?;
            if !reading.batches.is_empty() && recent.base < reading.at {
                // The file was cleaned since the view was made: what follows is in it, not here.
                return Ok(reading);
            }
            if !may_go_on || !reading.add(&recent.data, recent.next, budget) {
                return self.locate_rest(connection, reading, budget);
            }
        }
        if !reading.has_later {
            self.read_file(connection, self.end, &mut reading, budget)?;
        }
        self.locate_rest(connection, reading, budget)
    }

    /// Finds by the index how many batches follow those that were read.
    fn locate_rest(
        &self,
        connection: &Connection,
        mut reading: Reading,
        budget: &mut ReadBudget,
    ) -> rusqlite::Result<Reading> {
        if !reading.has_later {
            return Ok(reading);
        }
        let (mut rest, mut bytes): (Option<Span>, u64) = (None, 0);
        let mut step = |span: &Span| {
            if span.next > self.end || !budget.fits_later(bytes + span.bytes, reading.left) {
                return Step::Into;
            }
            bytes += span.bytes;
            rest = Some(rest.map_or(*span, |rest: Span| rest.and(*span)));
            Step::Over
        };
        let too_large = self.search(connection, reading.at, &mut step)?;
        // The first batch of a request is returned whatever its size.
        let is_due = |batch: &Span| batch.next <= self.end && budget.is_first();
        let rest = rest.or_else(|| too_large.filter(is_due));
        if let Some(rest) = rest {
            budget.take_later(rest.bytes as usize, &mut reading.left);
        }
        reading.rest = rest;
        Ok(reading)
    }

    /// Reads the batches in the file up to an offset; returns whether more may be read.
    fn read_file(
        &self,
        connection: &Connection,
        until: i64,
        reading: &mut Reading,
        budget: &mut ReadBudget,
    ) -> rusqlite::Result<bool> {
        if reading.at >= until {
            return Ok(true);
        }
        // The length of a batch is known without reading it.
        let sql = "SELECT id, CASE WHEN length(data) <= ?4 THEN data END FROM batches WHERE id >=
             coalesce((SELECT max(id) FROM batches WHERE id BETWEEN ?1 AND ?2), ?2) AND id < ?3 ORDER BY id";
        let mut statement = connection.prepare_cached(sql)?;
        let now_max = i64::try_from(budget.now_left()).unwrap_or(i64::MAX);
        let (from, until_id) = (pack(self.number, reading.at), pack(self.number, until));
        let mut rows = statement.query(params![pack(self.number, 0), from, until_id, now_max])?;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                // What was read before is returned; the next read begins with what cannot be read.
                Err(error) if !reading.batches.is_empty() && is_damage(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            let parts = row.get(0).and_then(|id| Ok((offset_of(id), row.get_ref(1)?.as_blob_or_null()?)));
            let (base, data) = match parts {
                // As above.
                Err(_) if !reading.batches.is_empty() => return Ok(false),
                parts => parts?,
            };
            if base > reading.at {
                break;
            }
            let Some(data) = data else {
                reading.has_later = true;
                return Ok(false);
            };
            let next = match next_offset(base, data, data.len()) {
                // As above.
                Err(_) if !reading.batches.is_empty() => return Ok(false),
                next => next?,
            };
            if next > reading.at && !reading.add(data, next, budget) {
                return Ok(false);
            }
        }
        reading.is_missing = reading.at < until;
        Ok(!reading.is_missing)
    }
}

/// The batches that were read of a partition.
#[derive(Default)]
pub(super) struct Reading {
    /// The offset after the last.
    pub(super) at: i64,
    left: usize,
    pub(super) batches: Vec<Bytes>,
    /// Whether the file lacks the next one: it was trimmed meanwhile, or the file is damaged.
    pub(super) is_missing: bool,
    /// Whether the next one is to be read later.
    has_later: bool,
    /// What is to be read later.
    pub(super) rest: Option<Span>,
}

impl Reading {
    fn at(at: i64, left: usize) -> Self {
        Self { at, left, batches: Vec::new(), is_missing: false, has_later: false, rest: None }
    }

    /// Adds a batch; returns whether more may be read.
    fn add(&mut self, data: &[u8], next: i64, budget: &mut ReadBudget) -> bool {
        match budget.take(data.len(), &mut self.left) {
            Fit::Now => {}
            Fit::Later => {
                self.has_later = true;
                return false;
            }
            Fit::No => return false,
        }
        // Copied: a reply must not keep the other batches of a commit in memory.
        self.batches.push(Bytes::copy_from_slice(data));
        self.at = next;
        self.left > 0
    }
}

/// As many items as one read can return: the first, and others up to some bytes.
pub(super) fn few<'a, T: Clone + 'a>(
    items: impl Iterator<Item = &'a T>,
    bytes_max: usize,
    bytes_of: impl Fn(&T) -> usize,
) -> Vec<T> {
    let mut bytes = 0_usize;
    let few = items.take_while(|item| {
        let is_wanted = bytes <= bytes_max;
        bytes = bytes.saturating_add(bytes_of(item));
        is_wanted
    });
    few.cloned().collect()
}

/// The offset after a stored batch of `length` bytes, by the first of them. Clients go by its base offset and its length, so these must be those of its row: with
/// others a client would see no more of the log, and no error.
pub(super) fn next_offset(base: i64, head: &[u8], length: usize) -> rusqlite::Result<i64> {
    let delta = head.get(LAST_OFFSET_DELTA).and_then(|bytes| bytes.try_into().ok());
    let delta = delta.ok_or_else(|| damaged(format!("the batch at offset {base} is cut short")))?;
    if !is_row_of(base, head, length) {
        return Err(damaged(format!("the batch at offset {base} says that it is another one")));
    }
    Ok(base + i64::from(i32::from_be_bytes(delta)) + 1)
}

/// Whether a batch says that it has this base offset and this length.
pub(super) fn is_row_of(base: i64, head: &[u8], length: usize) -> bool {
    let said = head.get(BASE_OFFSET_BYTES..PREFIX_BYTES).and_then(|bytes| bytes.try_into().ok());
    let said = said.and_then(|bytes| usize::try_from(i32::from_be_bytes(bytes)).ok());
    let has_base = head.get(..BASE_OFFSET_BYTES) == Some(&base.to_be_bytes()[..]);
    has_base && said.is_some_and(|said| said + PREFIX_BYTES == length)
}

/// Reads from an offset if all that is wanted is in memory, as it is for consumers at the end of a log.
pub(super) fn read_memory(
    document: &PartitionDocument,
    log: &Log,
    offset: i64,
    spec: &ReadSpec,
    budget: &mut ReadBudget,
) -> Option<ReadOutcome> {
    let mut reading = Reading::at(offset, spec.bytes_max);
    let mut has_room = budget.has_room(spec.bytes_max);
    let mut recent = log.recent_from(offset);
    let end = spec.isolation.end_of(document);
    while has_room && reading.at < end {
        let next = recent.next().filter(|recent| recent.base <= reading.at)?;
        has_room = reading.add(&next.data, next.next, budget);
    }
    if reading.has_later {
        return None;
    }
    Some(outcome_of(document, reading.batches, None))
}
