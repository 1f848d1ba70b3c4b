//! Salvages one log: its batches, at their offsets.

use std::collections::BTreeMap;

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::records::{Batch, NO_TIMESTAMP};
use rules::documents::{DocumentKind, PartitionDocument};
use rusqlite::{Connection, params};

use super::around::{Batches, ReadBatch};
use super::index::{Span, block_of};
use super::logs::{Log, LogChange};
use super::salvage::{Salvage, writing};
use super::salvage_source::Source;
use super::schema::{OFFSET_MAX, failed, pack, rows_of};
use crate::engines::StoreError;
use crate::engines::gaps::{as_gap, check_stored, gap};
use crate::engines::resident::Times;

/// Entries of a log that are kept in memory before they become blocks.
const TAIL_MAX: usize = 8_192;

/// Copies the batches of a partition under a new number, and returns its document; `document` is `None` if it is lost.
pub(super) fn salvage_log(
    salvage: &mut Salvage<'_>,
    at: TopicPartition,
    name: &str,
    document: Option<PartitionDocument>,
    new_number: u32,
) -> Result<PartitionDocument, StoreError> {
    let Source { connection: source, journal, .. } = salvage.source;
    let old = Log::load(source, at).ok().flatten();
    let journalled = journal.logs.get(&at);
    let number = find_number(salvage, at, name, document);
    let log_start = match (&document, &old) {
        (Some(document), _) => document.log_start,
        (None, Some(old)) => old.log_start,
        (None, None) => 0,
    };
    let times = OldTimes { number, old: old.as_ref(), connection: source };
    let mut copy = NewLog {
        at,
        name,
        new: salvage.new,
        number: new_number,
        log: Log::after(None, LogChange::Created { number: new_number }, 0),
        log_start,
        next: log_start,
        leader_epoch: document.map_or(0, |document| document.leader_epoch),
        lost: Vec::new(),
        copied: (0, 0),
    };
    let mut recent = journalled.map(|log| log.recent.clone()).unwrap_or_default();
    let undated = |base: i64| {
        journalled.and_then(|log| log.undated.get(&base).copied()).or_else(|| times.undated(base))
    };
    let mut batches = number.map(|number| Batches::of(source, number));
    while let Some(batches) = &mut batches
        && let Some(read) = batches.next_batch().map_err(|error| failed("reading batches", &error))?
    {
        let ReadBatch::Batch(base, data) = read else { continue };
        for (earlier, small) in before(&mut recent, base) {
            copy.batch(earlier, &small, &undated)?;
        }
        // A fold may have put it into its place; of two, the sound one is taken.
        let small = recent.remove(&base);
        if !copy.batch(base, &data, &undated)?
            && let Some(small) = small
        {
            copy.batch(base, &small, &undated)?;
        }
        let bytes = copy.take_bytes(salvage);
        salvage.wrote(bytes)?;
    }
    for (base, small) in before(&mut recent, OFFSET_MAX) {
        copy.batch(base, &small, &undated)?;
    }
    let end = document.map_or(copy.next, |document| document.end.max(copy.next));
    let document = copy.finish(document, end)?;
    let bytes = copy.take_bytes(salvage);
    copy.lost.into_iter().for_each(|lost| salvage.report.lost(lost));
    salvage.wrote(bytes)?;
    Ok(document)
}

/// The number of a partition's batches, which nobody else can claim then.
fn find_number(
    salvage: &mut Salvage<'_>,
    at: TopicPartition,
    name: &str,
    document: Option<PartitionDocument>,
) -> Option<u32> {
    let source = salvage.source;
    let number = known_number(source, at).or_else(|| {
        let document = document?;
        let first_small = source.journal.logs.get(&at).and_then(|log| log.recent.keys().next().copied());
        claim(salvage, &document, first_small.unwrap_or(document.end))
    });
    if number.is_none() && document.is_none_or(|document| !document.is_empty()) {
        let key = PartitionDocument::key(&at);
        let what = format!("the records of {name}: nothing says which of the batches are those of {key}");
        salvage.report.lost(what);
    }
    salvage.unclaimed.retain(|unclaimed| Some(*unclaimed) != number);
    number
}

/// The number of a partition, if a row of its log or the journal says it.
pub(super) fn known_number(source: &Source, at: TopicPartition) -> Option<u32> {
    let journalled = source.journal.logs.get(&at).and_then(|log| log.number);
    journalled.or_else(|| Log::load(&source.connection, at).ok().flatten().map(|log| log.number))
}

/// The unclaimed number whose batches end where those of a log do, if there is only one.
fn claim(salvage: &Salvage<'_>, document: &PartitionDocument, end: i64) -> Option<u32> {
    if document.is_empty() {
        return None;
    }
    let is_it = |number: &&u32| last_end(&salvage.source.connection, **number) == Some(end);
    let mut fitting = salvage.unclaimed.iter().filter(is_it);
    fitting.next().copied().filter(|_| fitting.next().is_none())
}

/// Where the last batch of a partition number ends.
fn last_end(connection: &Connection, number: u32) -> Option<i64> {
    let (first, last) = rows_of(number);
    let sql = "SELECT data FROM batches WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1";
    let data = connection
        .query_row(sql, [first, last], |row| Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?)));
    check_stored(&data.ok()?).ok().map(|(batch, _)| batch.next_offset())
}

/// Takes out the small batches before an offset.
fn before(recent: &mut BTreeMap<i64, Bytes>, offset: i64) -> BTreeMap<i64, Bytes> {
    let rest = recent.split_off(&offset);
    std::mem::replace(recent, rest)
}

/// When batches with records without a timestamp were appended, as the old index has it.
struct OldTimes<'a> {
    number: Option<u32>,
    old: Option<&'a Log>,
    connection: &'a Connection,
}

impl OldTimes<'_> {
    fn undated(&self, base: i64) -> Option<i64> {
        let entry = |entries: &[Span]| entries.iter().find(|entry| entry.base == base)?.times.undated;
        let in_block = || entry(&block_of(self.connection, self.number?, base).ok()?[..]);
        self.old.and_then(|old| entry(&old.tail[..])).or_else(in_block)
    }
}

/// A log that is being written.
struct NewLog<'a> {
    at: TopicPartition,
    name: &'a str,
    new: &'a Connection,
    number: u32,
    log: Option<Log>,
    log_start: i64,
    /// The offset after the last batch.
    next: i64,
    leader_epoch: i32,
    lost: Vec<String>,
    /// Batches and bytes since they were last counted.
    copied: (u64, u64),
}

impl NewLog<'_> {
    /// Copies a batch if it is sound; returns whether it is, or is not wanted.
    fn batch(
        &mut self,
        base: i64,
        data: &Bytes,
        undated: &impl Fn(i64) -> Option<i64>,
    ) -> Result<bool, StoreError> {
        if let Some(gap) = as_gap(data).filter(|gap| gap.base_offset() == base) {
            // An earlier salvage has lost it.
            let undated = undated(base).unwrap_or(NO_TIMESTAMP);
            return self.put(&gap, Times::read(NO_TIMESTAMP, undated), data);
        }
        let Ok((batch, has_undated)) = check_stored(data) else { return Ok(false) };
        if batch.base_offset() != base {
            return Ok(false);
        }
        // Retention goes by the greatest timestamp in the header, as the log does.
        let has_undated = has_undated && !batch.has_append_time();
        let undated = if has_undated { undated(base).unwrap_or(NO_TIMESTAMP) } else { NO_TIMESTAMP };
        self.put(&batch, Times::read(batch.max_timestamp(), undated), data)
    }

    fn put(&mut self, batch: &Batch, times: Times, data: &Bytes) -> Result<bool, StoreError> {
        let (base, next) = (batch.base_offset(), batch.next_offset());
        if next <= self.log_start {
            // It was deleted.
            return Ok(true);
        }
        let is_first = self.next == self.log_start;
        if next > OFFSET_MAX || (base < self.next && !is_first) {
            return Ok(false);
        }
        self.fill(base, batch.leader_epoch())?;
        self.append(Span { base, next, times, bytes: data.len() as u64 }, data)?;
        self.leader_epoch = batch.leader_epoch();
        self.copied = (self.copied.0 + 1, self.copied.1 + data.len() as u64);
        Ok(true)
    }

    /// Puts batches without records in place of those that are lost.
    fn fill(&mut self, until: i64, leader_epoch: i32) -> Result<(), StoreError> {
        if self.next >= until {
            return Ok(());
        }
        self.lost.push(format!("{}: offsets {} to {}", self.name, self.next, until - 1));
        for (base, next, data) in gap(self.next, until, leader_epoch) {
            self.append(Span { base, next, times: Times::default(), bytes: data.len() as u64 }, &data)?;
        }
        Ok(())
    }

    fn append(&mut self, entry: Span, data: &Bytes) -> Result<(), StoreError> {
        let mut insert = self.new.prepare_cached("INSERT INTO batches VALUES (?1, ?2)").map_err(writing)?;
        insert.execute(params![pack(self.number, entry.base), &data[..]]).map_err(writing)?;
        self.next = entry.next;
        self.log = Log::after(self.log.take(), LogChange::Appended { entry, data: None }, 0);
        if self.log.as_ref().is_some_and(|log| log.tail.len() >= TAIL_MAX) {
            self.fold()?;
        }
        Ok(())
    }

    /// Moves entries to blocks.
    fn fold(&mut self) -> Result<(), StoreError> {
        if let Some(log) = self.log.take() {
            self.log = Some(log.fold(self.new, self.at).map_err(writing)?);
        }
        Ok(())
    }

    /// Ends the log; returns the partition's document.
    fn finish(
        &mut self,
        document: Option<PartitionDocument>,
        end: i64,
    ) -> Result<PartitionDocument, StoreError> {
        self.fill(end, self.leader_epoch)?;
        self.log = self.log.take().map(|log| log.starting_at(self.log_start, end));
        self.fold()?;
        let new = PartitionDocument {
            log_start: self.log_start,
            end,
            leader_epoch: self.leader_epoch,
            look_after_append: true,
            append_time_ms: None,
            first_unstable: None,
            last_aborted: None,
            cleaning: None,
        };
        Ok(document.map_or(new, |document| PartitionDocument {
            end,
            leader_epoch: document.leader_epoch.max(self.leader_epoch),
            ..document
        }))
    }

    /// Counts what was copied; returns its bytes.
    fn take_bytes(&mut self, salvage: &mut Salvage<'_>) -> u64 {
        let (batches, bytes) = std::mem::take(&mut self.copied);
        salvage.report.batches += batches;
        salvage.report.bytes += bytes;
        bytes
    }
}
