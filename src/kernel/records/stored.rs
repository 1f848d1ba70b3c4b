//! Visits the records of a stored batch, of which a cleaner may have removed some.
//!
//! Unlike a [walk](Batch::walk) over what a producer sends, offsets may have gaps, but they ascend; and only what a cleaner
//! asks for is read: lengths, times, keys, and whether there is a value. What follows in a record is skipped unread.
//! Compressed records are decompressed in pieces, and memory holds one piece and one key.

use std::io::BufRead;
use std::ops::ControlFlow;

use super::fields::{Divided, Fault, Fields, Stopped, int, long, skip_nullable};
use super::{BadRecords, Batch, CODEC_MASK, Codec, CodecError, HEADER_BYTES};

/// A record of a stored batch, as a cleaner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRecord<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its own timestamp, in ms since the epoch, even if the batch has log append time.
    pub timestamp: i64,
    /// Its key; null and empty differ.
    pub key: Option<&'a [u8]>,
    /// Whether it has a value, which may be empty. One without is a tombstone.
    pub has_value: bool,
}

impl Batch {
    /// Visits the records in order, until `each` breaks off. Compressed ones may be `bytes_max` bytes at most.
    ///
    /// # Errors
    /// What is wrong with the first record that cannot be read.
    pub fn visit(
        &self,
        bytes_max: usize,
        each: impl FnMut(StoredRecord<'_>) -> ControlFlow<()>,
    ) -> Result<(), BadRecords> {
        let (mut source, bytes_max) = self.open_records(bytes_max)?;
        let visit = Visit {
            batch: self,
            each,
            key: Vec::new(),
            index: 0,
            last_delta: -1,
            bytes: 0,
            bytes_max,
            has_ended: false,
        };
        visit.run(&mut *source)
    }

    /// Checks the CRC, so that what is written anew is not damage under a CRC that fits.
    ///
    /// # Errors
    /// It does not fit.
    pub fn check_crc(&self) -> Result<(), BadRecords> {
        if self.crc_fits() { Ok(()) } else { Err(BadRecords::Malformed("its CRC does not fit".to_owned())) }
    }

    /// The records as a stream, and the most bytes that may be read from it.
    pub(super) fn open_records(
        &self,
        bytes_max: usize,
    ) -> Result<(Box<dyn BufRead + '_>, usize), CodecError> {
        let codec = self.codec().ok_or(CodecError::Unknown(self.attributes() & CODEC_MASK))?;
        let records = &self.bytes()[HEADER_BYTES..];
        let bytes_max =
            if codec == Codec::None { usize::MAX } else { bytes_max.min(codec.opened_bytes_max(records)) };
        Ok((codec.open(records)?, bytes_max))
    }

    #[cold]
    pub(super) fn wrong_record(&self, index: i32, what: &str) -> BadRecords {
        BadRecords::Malformed(format!("record {index} of {} {what}", self.record_count()))
    }

    #[cold]
    pub(super) fn unread_record(&self, index: i32, fault: &Fault, stopped: Option<Stopped>) -> BadRecords {
        match stopped {
            Some(Stopped::Failed(error)) => error.into(),
            Some(Stopped::Ended) => self.wrong_record(index, "passes the end"),
            None => self.wrong_record(index, fault.what()),
        }
    }
}

struct Visit<'a, E> {
    batch: &'a Batch,
    each: E,
    /// The key of the current record.
    key: Vec<u8>,
    /// The place of the next record.
    index: i32,
    /// The offset of the record before it, from the base offset.
    last_delta: i32,
    /// Bytes of the records before it.
    bytes: usize,
    bytes_max: usize,
    has_ended: bool,
}

impl<E: FnMut(StoredRecord<'_>) -> ControlFlow<()>> Visit<'_, E> {
    fn run(mut self, source: &mut dyn BufRead) -> Result<(), BadRecords> {
        while self.is_going_on() {
            let visited = self.whole_records(source.fill_buf()?)?;
            source.consume(visited);
            if self.is_going_on() {
                self.divided_record(source)?;
            }
        }
        if !self.has_ended && !source.fill_buf()?.is_empty() {
            let count = self.batch.record_count();
            return Err(BadRecords::Malformed(format!("bytes follow its {count} records")));
        }
        Ok(())
    }

    fn is_going_on(&self) -> bool {
        !self.has_ended && self.index < self.batch.record_count()
    }

    /// Visits the records that lie whole in a piece, and returns their bytes.
    fn whole_records(&mut self, piece: &[u8]) -> Result<usize, BadRecords> {
        let mut rest = piece;
        while self.is_going_on() {
            let mut ahead = rest;
            let length = match int(&mut ahead) {
                Ok(length) => self.admit(length)?,
                Err(Fault::End) => break,
                Err(Fault::Wrong(what)) => return Err(self.batch.wrong_record(self.index, what)),
            };
            let Some(mut record) = ahead.split_off(..length) else { break };
            match head(&mut record, &mut self.key) {
                Ok(head) => self.record(&head, length)?,
                Err(fault) => return Err(self.batch.wrong_record(self.index, fault.what())),
            }
            rest = ahead;
        }
        Ok(piece.len() - rest.len())
    }

    /// Visits the next record, of which the source has only the beginning at hand.
    fn divided_record(&mut self, source: &mut dyn BufRead) -> Result<(), BadRecords> {
        let mut divided = Divided { source, left: usize::MAX, stopped: None };
        let length = match int(&mut divided) {
            Ok(length) => self.admit(length)?,
            Err(fault) => return Err(self.batch.unread_record(self.index, &fault, divided.stopped)),
        };
        divided.left = length;
        let found = head(&mut divided, &mut self.key).and_then(|head| {
            let rest = divided.left;
            if divided.skip(rest) { Ok(head) } else { Err(Fault::End) }
        });
        match found {
            Ok(head) => self.record(&head, length),
            Err(fault) => Err(self.batch.unread_record(self.index, &fault, divided.stopped)),
        }
    }

    /// Checks the length of a record before any of it is read.
    fn admit(&self, length: i32) -> Result<usize, BadRecords> {
        let length = usize::try_from(length)
            .map_err(|_| self.batch.wrong_record(self.index, "has a negative length"))?;
        if length >= self.bytes_max.saturating_sub(self.bytes) {
            return Err(CodecError::TooLarge(self.bytes_max).into());
        }
        Ok(length)
    }

    fn record(&mut self, head: &Head, length: usize) -> Result<(), BadRecords> {
        if head.offset_delta <= self.last_delta || head.offset_delta > self.batch.last_offset_delta() {
            return Err(self.batch.wrong_record(self.index, "has an offset that is out of order"));
        }
        let record = StoredRecord {
            offset: self.batch.base_offset().saturating_add(i64::from(head.offset_delta)),
            timestamp: self.batch.base_timestamp().wrapping_add(head.timestamp_delta),
            key: head.has_key.then_some(&self.key[..]),
            has_value: head.has_value,
        };
        self.has_ended = (self.each)(record).is_break();
        self.last_delta = head.offset_delta;
        // Its length has at least a byte.
        self.bytes += length + 1;
        self.index += 1;
        Ok(())
    }
}

/// What is read of a record, beside its key.
struct Head {
    timestamp_delta: i64,
    offset_delta: i32,
    has_key: bool,
    has_value: bool,
}

/// Reads a record up to the end of its value.
#[inline]
fn head(record: &mut impl Fields, key: &mut Vec<u8>) -> Result<Head, Fault> {
    record.byte().ok_or(Fault::Wrong("is empty"))?; // The attributes of a record are unused.
    let timestamp_delta = long(record)?;
    let offset_delta = int(record)?;
    key.clear();
    let has_key = match int(record)? {
        -1 => false,
        length => {
            let length =
                usize::try_from(length).map_err(|_| Fault::Wrong("has a field of negative length"))?;
            if !record.copy(length, key) {
                return Err(Fault::Wrong("has a field that passes its end"));
            }
            true
        }
    };
    Ok(Head { timestamp_delta, offset_delta, has_key, has_value: skip_nullable(record)? })
}
