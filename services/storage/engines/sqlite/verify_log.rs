//! Checks one log: its batches, and what the index says of them.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::vec::IntoIter;

use bytes::Bytes;
use kernel::records::{Batch, NO_TIMESTAMP};
use rusqlite::{Connection, params};

use super::around::{Batches, ReadBatch};
use super::index::{Span, joined, spans, unpack_entries};
use super::schema::{OFFSET_MAX, offset_of, pack, rows_of};
use super::verify::Partition;
use crate::engines::gaps::{as_gap, check_stored};
use crate::engines::resident::Times;
use crate::engines::verified::VerifyReport;

/// Checks a log. `progress` gets the batches that were read so far.
pub(super) fn verify_log(
    connection: &Connection,
    number: u32,
    partition: &Partition,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64),
) -> rusqlite::Result<()> {
    let mut log = VerifiedLog {
        partition,
        entries: Entries::new(connection, number, partition),
        has_index: true,
        next: None,
        bytes: 0,
        report,
    };
    let mut recent = partition.log.recent_from(0).peekable();
    let mut batches = Batches::of(connection, number);
    while let Some(read) = batches.next_batch()? {
        let (base, data) = match read {
            ReadBatch::Batch(base, data) => (base, data),
            ReadBatch::Damaged(offset, error) => {
                log.damaged(offset, &error);
                continue;
            }
        };
        while let Some(small) = recent.next_if(|small| small.base < base) {
            log.batch(small.base, &small.data);
        }
        if let Some(small) = recent.peek().filter(|small| small.base == base) {
            // A fold that has not ended has put it into its place already. It is checked with the others of the journal.
            if small.data != data {
                let key = &partition.key;
                log.report.fault(format!("{key}, the batch at offset {base}: the journal has another one"));
            }
            continue;
        }
        log.batch(base, &data);
        progress(log.report.batches);
    }
    recent.for_each(|small| log.batch(small.base, &small.data));
    log.end();
    verify_spans(connection, number, partition, report)
}

/// A log as far as it was read.
struct VerifiedLog<'a> {
    partition: &'a Partition,
    entries: Entries<'a>,
    /// Whether all of the index so far could be read.
    has_index: bool,
    /// The offset after the last batch that is not before the log start.
    next: Option<i64>,
    bytes: u64,
    report: &'a mut VerifyReport,
}

/// Checks a batch and all of its records, also of a compressed one. One without records stands for what a salvage has lost.
fn check(data: &Bytes) -> Result<Batch, String> {
    if let Some(gap) = as_gap(data) {
        return Ok(gap);
    }
    check_stored(data).map(|(batch, _)| batch)
}

impl VerifiedLog<'_> {
    /// Batches cannot be read, from an offset on.
    fn damaged(&mut self, offset: i64, error: &rusqlite::Error) {
        let key = &self.partition.key;
        self.report.fault(format!("{key}: the batches from offset {offset} on cannot be read: {error}"));
    }

    fn batch(&mut self, base: i64, data: &Bytes) {
        let Partition { key, document, .. } = self.partition;
        self.report.batches += 1;
        self.report.bytes += data.len() as u64;
        let batch = match check(data) {
            Ok(batch) => batch,
            Err(error) => {
                self.report.fault(format!("{key}, the batch at offset {base}: {error}"));
                // Its entry says where the next one begins.
                self.next = self.entry(base).map(|entry| entry.next).or(self.next);
                return;
            }
        };
        // One without records has no time, whatever its header says.
        let latest = if batch.record_count() == 0 { NO_TIMESTAMP } else { batch.max_timestamp() };
        let mut own = Span {
            base: batch.base_offset(),
            next: batch.next_offset(),
            times: Times::read(latest, NO_TIMESTAMP),
            bytes: data.len() as u64,
        };
        self.report.records += u64::try_from(batch.record_count()).unwrap_or(0);
        if own.next <= document.log_start {
            // It is not deleted yet.
            return;
        }
        let entry = self.entry(own.base);
        // Only the index knows when records without a timestamp were appended.
        own.times.undated = entry.and_then(|entry| entry.times.undated);
        if (self.has_index && entry != Some(own)) || own.base != base {
            let entry = entry.map_or_else(|| "there is none".to_owned(), |entry| format!("{entry:?}"));
            self.report
                .fault(format!("{key}, the batch at offset {base}: it is {own:?}, in the index {entry}"));
        }
        match self.next {
            Some(next) if next != base => {
                self.report.fault(format!("{key}: offsets {next} to {} are missing", base - 1));
            }
            None if base > document.log_start => {
                let start = document.log_start;
                self.report.fault(format!("{key} begins at {start}, but its first batch is later"));
            }
            _ => {}
        }
        self.next = Some(own.next);
        self.bytes += own.bytes;
    }

    /// The entry of a batch: those before it are of batches that are missing.
    fn entry(&mut self, base: i64) -> Option<Span> {
        let log_start = self.partition.document.log_start;
        while self.has_index {
            match self.entries.next_from(log_start) {
                Ok(Some(entry)) if entry.next <= base => {}
                Ok(entry) => return entry,
                Err(error) => {
                    self.has_index = false;
                    let key = &self.partition.key;
                    self.report.fault(format!("{key}: its index cannot be read: {error}"));
                }
            }
        }
        None
    }

    fn end(&mut self) {
        let Partition { key, document, log } = self.partition;
        if log.log_start() != document.log_start {
            let (own, other) = (log.log_start(), document.log_start);
            self.report.fault(format!("{key} begins at {other}, but its log at {own}"));
        }
        let next = self.next.unwrap_or(document.log_start);
        if next != document.end {
            self.report.fault(format!("{key} ends at {}, but its last batch at {next}", document.end));
        }
        if log.bytes != self.bytes {
            self.report.fault(format!("{key} says {} bytes, but its batches have {}", log.bytes, self.bytes));
        }
        if let Some(entry) = self.entry(document.log_start) {
            self.report.fault(format!("{key}: the index has {entry:?}, which is not there"));
        }
    }
}

/// The entries of a log, block by block.
struct Entries<'a> {
    connection: &'a Connection,
    number: u32,
    after_block: i64,
    entries: Peekable<IntoIter<Span>>,
    tail: Option<Vec<Span>>,
}

impl<'a> Entries<'a> {
    fn new(connection: &'a Connection, number: u32, partition: &Partition) -> Self {
        let tail = Some(partition.log.tail().to_vec());
        let entries = Vec::new().into_iter().peekable();
        Self { connection, number, after_block: pack(number, 0) - 1, entries, tail }
    }

    /// The next entry that ends after an offset.
    fn next_from(&mut self, offset: i64) -> rusqlite::Result<Option<Span>> {
        loop {
            match self.entries.next() {
                Some(entry) if entry.next > offset => return Ok(Some(entry)),
                Some(_) => {}
                None => match self.next_block()? {
                    Some(entries) => self.entries = entries.into_iter().peekable(),
                    None => return Ok(None),
                },
            }
        }
    }

    fn next_block(&mut self) -> rusqlite::Result<Option<Vec<Span>>> {
        let sql = "SELECT id, entries FROM blocks WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.after_block, rows_of(self.number).1])?;
        let Some(row) = rows.next()? else { return Ok(self.tail.take()) };
        self.after_block = row.get(0)?;
        unpack_entries(offset_of(self.after_block), row.get_ref(1)?.as_blob()?).map(Some)
    }
}

/// Checks that each span says what those under it say together.
fn verify_spans(
    connection: &Connection,
    number: u32,
    partition: &Partition,
    report: &mut VerifyReport,
) -> rusqlite::Result<()> {
    let mut under = VecDeque::new();
    let mut blocks = Entries::new(connection, number, partition);
    blocks.tail = None;
    while let Some(entries) = blocks.next_block()? {
        under.extend(joined(&entries));
    }
    for level in 1..=super::index::LEVELS {
        let mut these = VecDeque::new();
        for span in spans(connection, level, number, (0, OFFSET_MAX))? {
            these.push_back(span);
            let children: Vec<Span> = std::iter::from_fn(|| {
                let is_under = under.front().is_some_and(|child: &Span| child.next <= span.next);
                is_under.then(|| under.pop_front()).flatten()
            })
            .collect();
            // The first ones may be deleted before the span itself.
            let is_whole = children.first().is_some_and(|child| child.base == span.base);
            if is_whole && joined(&children) != Some(span) {
                report.fault(format!(
                    "{}: a span of level {level} says {span:?}, those under it something else",
                    partition.key
                ));
            }
        }
        if let Some(left) = under.front() {
            report.fault(format!("{}: no span of level {level} holds {left:?}", partition.key));
        }
        under = these;
    }
    Ok(())
}
