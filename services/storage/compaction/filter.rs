//! What stays of a batch.
//!
//! The rules are those of Kafka's cleaner:
//!
//! - A record stays if no later one has its key. A tombstone, a record without a value, goes nevertheless once its time has
//!   passed, and a record without a key goes always.
//! - Records of an aborted transaction go, and a marker goes once no batch of its transaction is left and its time has
//!   passed.
//! - That time is set by the first cleaning that leaves a tombstone, or a marker that nothing else holds: now plus
//!   `delete.retention.ms`, kept in the batch itself (KIP-534). Readers that have begun before have so long to see it.
//! - A batch that has nothing left stays, empty, if it has the last sequence number of a producer that is still remembered,
//!   or is the last of the cleaned range: a reader that waits for the offset at the end would otherwise wait for ever.

use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use kernel::records::{BadRecords, Batch, NO_PRODUCER_ID, Selection, StoredRecord};

use super::map::OffsetMap;
use super::transactions::{AbortedTransaction, SeenMarker, Transactions};

/// What the log last has of a producer that is still remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// Offset of the last record of its last batch; `None` if nothing but a marker is known.
    pub last_data_offset: Option<i64>,
    /// Its epoch.
    pub producer_epoch: i16,
}

impl LastRecord {
    /// Whether it is in this batch: the last sequence number, or the marker with the last epoch.
    fn is_in(self, batch: &Batch) -> bool {
        match self.last_data_offset {
            Some(offset) => batch.next_offset() == offset.saturating_add(1),
            None => batch.is_control() && batch.producer_epoch() == self.producer_epoch,
        }
    }
}

/// What stays of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// All of it, as it is.
    Same,
    /// This batch in its place, with the same offsets.
    Rewritten(Bytes),
    /// Nothing.
    Gone,
}

/// What is to be done about a batch, in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// What stays of it.
    pub kept: Kept,
    /// The aborted transaction that this batch has ended and of which no other batch is left. It is to be forgotten in the
    /// same step: a reader that is told of it and does not find its marker would skip what the producer sent later.
    pub ended: Option<AbortedTransaction>,
}

/// What a pass has read and kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CleanerStats {
    /// Records in the batches that were looked at.
    pub records_read: u64,
    /// Records that stay.
    pub records_kept: u64,
    /// Bytes of the batches that were looked at.
    pub bytes_read: u64,
    /// Bytes that stay.
    pub bytes_kept: u64,
}

/// The second part of a pass: it is fed the batches from the log start on, in order.
pub struct Cleaning {
    map: OffsetMap,
    transactions: Transactions,
    /// Records before its start are cleaned. The map has the keys of those that are dirty.
    uncleaned: Range<i64>,
    decompressed_bytes_max: usize,
    now_ms: i64,
    delete_retention_ms: i64,
    stats: CleanerStats,
}

impl Cleaning {
    /// `uncleaned` is the rest of the dirty range that was not indexed.
    pub(super) fn new(
        map: OffsetMap,
        uncleaned: Range<i64>,
        decompressed_bytes_max: usize,
        now_ms: i64,
        delete_retention_ms: i64,
    ) -> Self {
        Self {
            map,
            transactions: Transactions::default(),
            uncleaned,
            decompressed_bytes_max,
            now_ms,
            delete_retention_ms,
            stats: CleanerStats::default(),
        }
    }

    /// The log is clean up to this offset when all batches before it have been fed and replaced.
    pub fn clean_end(&self) -> i64 {
        self.uncleaned.start
    }

    /// Whether the whole dirty range is clean then. If not, another pass follows, from [`Cleaning::clean_end`] on.
    pub fn is_last_pass(&self) -> bool {
        self.uncleaned.is_empty()
    }

    /// What was read and kept so far.
    pub fn stats(&self) -> CleanerStats {
        self.stats
    }

    /// Takes aborted transactions that reach into the part of the log that is to be cleaned, before the batches that they
    /// reach into. One may come more than once.
    pub fn add_aborted(&mut self, transactions: impl IntoIterator<Item = AbortedTransaction>) {
        self.transactions.add_aborted(transactions);
    }

    /// Takes the next batch, and what the log last has of its producer, if that is still remembered. Batches after the
    /// cleaned part stay as they are, and need not be fed.
    ///
    /// # Errors
    /// The batch cannot be read. Nothing is known of what follows it, so the pass ends.
    pub fn batch(&mut self, batch: &Batch, producer: Option<LastRecord>) -> Result<Cleaned, BadRecords> {
        if batch.base_offset() >= self.uncleaned.start || batch.next_offset() > self.uncleaned.end {
            return Ok(Cleaned { kept: Kept::Same, ended: None });
        }
        batch.check_crc()?;
        let is_last_of_producer = batch.producer_id() > NO_PRODUCER_ID
            && producer.is_some_and(|last_record| last_record.is_in(batch));
        let is_needed = is_last_of_producer || batch.next_offset() == self.uncleaned.end;
        let marker = batch.is_control().then(|| self.transactions.control(batch));
        let is_discarded = match marker {
            Some(marker) => marker.can_go && self.has_passed(batch),
            None => self.transactions.data(batch),
        };
        let selection = if is_discarded { Selection::default() } else { self.select(batch)? };
        let kept = if selection.selected() > 0 {
            self.rewritten(batch, &selection, marker)?
        } else if !is_needed {
            Kept::Gone
        } else if batch.record_count() == 0 {
            Kept::Same
        } else {
            Kept::Rewritten(batch.emptied())
        };
        self.count(batch, &selection, &kept);
        Ok(Cleaned { kept, ended: marker.and_then(|marker| marker.ended) })
    }

    /// Whether the delete horizon of a batch has passed.
    fn has_passed(&self, batch: &Batch) -> bool {
        batch.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= self.now_ms)
    }

    fn select(&self, batch: &Batch) -> Result<Selection, BadRecords> {
        let mut selection = Selection::default();
        let keeps_tombstones = !self.has_passed(batch);
        batch.visit(self.decompressed_bytes_max, |record| {
            let stays = batch.is_control() || self.stays(&record, keeps_tombstones);
            selection.push(&record, stays);
            ControlFlow::Continue(())
        })?;
        Ok(selection)
    }

    fn stays(&self, record: &StoredRecord<'_>, keeps_tombstones: bool) -> bool {
        if record.offset >= self.uncleaned.start {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_latest = self.map.get(key).is_none_or(|latest| record.offset >= latest);
        is_latest && (record.has_value || keeps_tombstones)
    }

    /// A batch of which something stays.
    fn rewritten(
        &self,
        batch: &Batch,
        selection: &Selection,
        marker: Option<SeenMarker>,
    ) -> Result<Kept, BadRecords> {
        let could_go = marker.map_or(selection.has_tombstones(), |marker| marker.can_go);
        // The time of a tombstone begins when it was cleaned.
        let is_cleaned = batch.next_offset() <= self.uncleaned.start;
        let needs_horizon = could_go && is_cleaned && batch.delete_horizon_ms().is_none();
        if selection.selected() == selection.records() && !needs_horizon {
            return Ok(Kept::Same);
        }
        let horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms);
        let horizon_ms = needs_horizon.then_some(horizon_ms);
        Ok(Kept::Rewritten(batch.retain(selection, horizon_ms, self.decompressed_bytes_max)?))
    }

    fn count(&mut self, batch: &Batch, selection: &Selection, kept: &Kept) {
        let bytes_kept = match kept {
            Kept::Same => batch.bytes().len(),
            Kept::Rewritten(bytes) => bytes.len(),
            Kept::Gone => 0,
        };
        let stats = &mut self.stats;
        stats.records_read += u64::try_from(batch.record_count()).unwrap_or(0);
        stats.records_kept += selection.selected() as u64;
        stats.bytes_read += batch.bytes().len() as u64;
        stats.bytes_kept += bytes_kept as u64;
    }
}
