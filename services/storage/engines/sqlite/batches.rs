//! Reading batches from an offset: from the file, and the small ones that are not in it yet from memory.

use bytes::Bytes;
use rules::documents::PartitionDocument;
use rusqlite::{Connection, params};

use super::logs::{Log, Recent};
use super::schema::{damaged, offset_of, pack};
use crate::engines::ReadOutcome;
use crate::engines::resident::empty;

/// Where a batch's header has the offset of its last record, relative to its first.
const LAST_OFFSET_DELTA: std::ops::Range<usize> = 23..27;

/// Remaining bytes of one request; its first batch is returned whatever its size (KIP-74).
pub(super) struct ReadBudget {
    left: usize,
    is_first: bool,
}

impl ReadBudget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { left: bytes_max, is_first: true }
    }

    /// What may be read. The first batch may be larger.
    pub(super) fn left(&self) -> usize {
        if self.is_first { self.left.max(1) } else { self.left }
    }

    /// Whether any batch may be read.
    fn has_room(&self, bytes_max: usize) -> bool {
        self.is_first || self.left.min(bytes_max) > 0
    }

    /// Whether a batch of these bytes may be read; then it counts, here and for its partition.
    fn take(&mut self, bytes: usize, left: &mut usize) -> bool {
        let fits = bytes <= self.left && bytes <= *left;
        if !fits && !self.is_first {
            return false;
        }
        self.is_first = false;
        self.left = self.left.saturating_sub(bytes);
        *left = left.saturating_sub(bytes);
        true
    }
}

/// A partition at the moment of a read.
pub(super) struct View {
    pub(super) document: PartitionDocument,
    number: u32,
    from: i64,
    /// The small batches that are not in the file, as many as one read can return.
    recent: Vec<Recent>,
}

impl View {
    pub(super) fn of(document: &PartitionDocument, log: &Log, from: i64, bytes_max: usize) -> Self {
        let mut bytes = 0;
        let few = log.recent_from(from).take_while(|recent| {
            let is_wanted = bytes <= bytes_max;
            bytes += recent.data.len();
            is_wanted
        });
        Self { document: *document, number: log.number, from, recent: few.cloned().collect() }
    }

    /// The result if no batch has to be read for it.
    pub(super) fn outcome_without_log(&self) -> Option<ReadOutcome> {
        outcome_without_log(&self.document, self.from)
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
            if !may_go_on || !reading.add(&recent.data, recent.next, budget) {
                return Ok(reading);
            }
        }
        self.read_file(connection, self.document.end, &mut reading, budget)?;
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
        let sql = "SELECT id, data FROM batches WHERE id >=
             coalesce((SELECT max(id) FROM batches WHERE id BETWEEN ?1 AND ?2), ?2) AND id < ?3 ORDER BY id";
        let mut statement = connection.prepare_cached(sql)?;
        let bounds = params![pack(self.number, 0), pack(self.number, reading.at), pack(self.number, until)];
        let mut rows = statement.query(bounds)?;
        while let Some(row) = rows.next()? {
            let (base, data) = (offset_of(row.get(0)?), row.get_ref(1)?.as_blob()?);
            let next = next_offset(base, data)?;
            if base > reading.at {
                break;
            }
            if next > reading.at && !reading.add(data, next, budget) {
                return Ok(false);
            }
        }
        reading.is_missing = reading.at < until;
        Ok(!reading.is_missing)
    }
}

/// The batches that were read of a partition.
pub(super) struct Reading {
    /// The offset after the last.
    pub(super) at: i64,
    left: usize,
    pub(super) batches: Vec<Bytes>,
    /// Whether the file lacks the next one: it was trimmed meanwhile, or the file is damaged.
    pub(super) is_missing: bool,
}

impl Reading {
    fn at(at: i64, left: usize) -> Self {
        Self { at, left, batches: Vec::new(), is_missing: false }
    }

    /// Adds a batch; returns whether more may be read.
    fn add(&mut self, data: &[u8], next: i64, budget: &mut ReadBudget) -> bool {
        if !budget.take(data.len(), &mut self.left) {
            return false;
        }
        // Copied: a reply must not keep the other batches of a commit in memory.
        self.batches.push(Bytes::copy_from_slice(data));
        self.at = next;
        self.left > 0
    }
}

/// The offset after a stored batch.
pub(super) fn next_offset(base: i64, data: &[u8]) -> rusqlite::Result<i64> {
    let delta = data.get(LAST_OFFSET_DELTA).and_then(|bytes| bytes.try_into().ok());
    let delta = delta.ok_or_else(|| damaged(format!("the batch at offset {base} is cut short")))?;
    Ok(base + i64::from(i32::from_be_bytes(delta)) + 1)
}

/// The result of a read at an offset if no batch has to be read for it.
pub(super) fn outcome_without_log(document: &PartitionDocument, offset: i64) -> Option<ReadOutcome> {
    let PartitionDocument { log_start, end: high_watermark, .. } = *document;
    if offset < log_start || offset > high_watermark {
        return Some(ReadOutcome::OutOfRange { log_start, high_watermark });
    }
    (offset == high_watermark).then(|| empty(document))
}

/// Reads from an offset if all that is wanted is in memory, as it is for consumers at the end of a log.
pub(super) fn read_memory(
    document: &PartitionDocument,
    log: &Log,
    offset: i64,
    bytes_max: usize,
    budget: &mut ReadBudget,
) -> Option<ReadOutcome> {
    let mut reading = Reading::at(offset, bytes_max);
    let mut has_room = budget.has_room(bytes_max);
    let mut recent = log.recent_from(offset);
    while has_room && reading.at < document.end {
        let next = recent.next().filter(|recent| recent.base <= reading.at)?;
        has_room = reading.add(&next.data, next.next, budget);
    }
    let PartitionDocument { log_start, end: high_watermark, .. } = *document;
    Some(ReadOutcome::Read { log_start, high_watermark, batches: reading.batches })
}
