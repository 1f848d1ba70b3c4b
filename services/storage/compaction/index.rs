//! Notes the latest offset of each key in the dirty part of a log.

use std::ops::{ControlFlow, Range};

use kernel::records::{BadRecords, Batch};

use super::filter::Cleaning;
use super::map::OffsetMap;
use super::transactions::{AbortedTransaction, Transactions};

/// Bounds of the memory that cleaning takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSettings {
    /// Bytes of the map of keys; 24 a key. Kafka's is `log.cleaner.dedupe.buffer.size`.
    pub map_bytes: usize,
    /// The most bytes that the records of a compressed batch may have.
    pub decompressed_bytes_max: usize,
}

/// The first part of a pass: it is fed the batches of the dirty range, in order, from the one with its first offset on.
pub struct Indexing {
    map: OffsetMap,
    transactions: Transactions,
    decompressed_bytes_max: usize,
    dirty: Range<i64>,
    /// The offset after the last record that was looked at.
    end: i64,
    is_full: bool,
}

impl Indexing {
    /// Begins a pass over the dirty offsets.
    pub fn new(dirty: Range<i64>, settings: &IndexSettings) -> Self {
        // There are no more keys than offsets.
        let offsets = usize::try_from(dirty.end.saturating_sub(dirty.start)).unwrap_or(0);
        Self {
            map: OffsetMap::new(settings.map_bytes.min(OffsetMap::bytes_for(offsets))),
            transactions: Transactions::default(),
            decompressed_bytes_max: settings.decompressed_bytes_max,
            end: dirty.start,
            dirty,
            is_full: false,
        }
    }

    /// Takes aborted transactions that reach into the dirty range, before the batches that they reach into. One may come
    /// more than once.
    pub fn add_aborted(&mut self, transactions: impl IntoIterator<Item = AbortedTransaction>) {
        self.transactions.add_aborted(transactions);
    }

    /// Takes the next batch, and says whether more are wanted: not if the map is full, or the range has ended.
    ///
    /// # Errors
    /// The batch cannot be read, and so the partition cannot be cleaned.
    pub fn batch(&mut self, batch: &Batch) -> Result<bool, BadRecords> {
        if batch.next_offset() > self.dirty.end {
            // Also a batch that only reaches beyond the range stays as it is.
            self.dirty.end = self.dirty.end.min(batch.base_offset()).max(self.dirty.start);
            return Ok(false);
        }
        if self.is_full {
            return Ok(false);
        }
        batch.check_crc()?;
        if batch.is_control() {
            self.transactions.control(batch);
        } else if !self.transactions.data(batch) {
            self.index(batch)?;
        }
        if !self.is_full {
            self.end = self.end.max(batch.next_offset());
        }
        Ok(!self.is_full && self.end < self.dirty.end)
    }

    fn index(&mut self, batch: &Batch) -> Result<(), BadRecords> {
        let mut full_at = None;
        batch.visit(self.decompressed_bytes_max, |record| {
            let key = record.key.filter(|_| record.offset >= self.dirty.start);
            if key.is_some_and(|key| !self.map.put(key, record.offset)) {
                full_at = Some(record.offset);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if let Some(offset) = full_at {
            self.end = offset;
            self.is_full = true;
        }
        Ok(())
    }

    /// The second part of the pass, once no more batches are wanted or there are none.
    pub fn cleaning(self, now_ms: i64, delete_retention_ms: i64) -> Cleaning {
        let end = if self.is_full { self.end } else { self.dirty.end };
        Cleaning::new(self.map, end..self.dirty.end, self.decompressed_bytes_max, now_ms, delete_retention_ms)
    }
}
