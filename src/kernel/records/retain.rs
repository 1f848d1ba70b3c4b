//! Writes a stored batch anew, with some of its records only.
//!
//! Offsets, sequence numbers and the last offset delta stay, so that neither consumers nor producers notice what is gone.
//! The bytes of a record are copied; only its length and its timestamp delta are written anew, and only if the batch gets
//! a delete horizon, to which timestamps are relative then (KIP-534). That can make a delta up to nine bytes longer.
//! Records are decompressed and compressed again in pieces, in the codec that the batch has.

use std::io::{self, BufWriter, Write};

use bytes::Bytes;

use super::build::{put_varint, seal};
use super::fields::{Divided, Fault, Fields, int, long};
use super::pack::Pack;
use super::{
    BadRecords, Batch, CODEC_MASK, CONTROL, CodecError, DELETE_HORIZON, HEADER_BYTES, LOG_APPEND_TIME,
    NO_TIMESTAMP, StoredRecord, TRANSACTIONAL,
};

/// Bytes of small records that are compressed at once.
const BUFFER_BYTES: usize = 16 << 10;

/// Which records of a batch stay.
#[derive(Debug, Clone)]
pub struct Selection {
    /// A bit for each record.
    bits: Vec<u64>,
    records: usize,
    selected: usize,
    max_timestamp: i64,
    has_tombstones: bool,
}

impl Default for Selection {
    fn default() -> Self {
        Self { bits: Vec::new(), records: 0, selected: 0, max_timestamp: NO_TIMESTAMP, has_tombstones: false }
    }
}

impl Selection {
    /// Says of the next record whether it stays.
    pub fn push(&mut self, record: &StoredRecord<'_>, stays: bool) {
        let (word, bit) = (self.records / 64, self.records % 64);
        if bit == 0 {
            self.bits.push(0);
        }
        if stays {
            self.bits[word] |= 1_u64 << bit;
            self.selected += 1;
            self.max_timestamp = self.max_timestamp.max(record.timestamp);
            self.has_tombstones |= !record.has_value;
        }
        self.records += 1;
    }

    /// Records of which it is said.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Records that stay.
    pub fn selected(&self) -> usize {
        self.selected
    }

    /// Whether one of those has no value.
    pub fn has_tombstones(&self) -> bool {
        self.has_tombstones
    }

    fn contains(&self, index: usize) -> bool {
        self.bits.get(index / 64).is_some_and(|word| (*word >> (index % 64)) & 1 == 1)
    }
}

impl Batch {
    /// The batch with the selected records only, at least one; see [`Batch::emptied`] for none. A delete horizon is set if
    /// one is given, and otherwise stays as it is. The greatest timestamp is that of the records that stay, unless the
    /// batch has log append time. Compressed records may be `bytes_max` bytes at most.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn retain(
        &self,
        selection: &Selection,
        delete_horizon_ms: Option<i64>,
        bytes_max: usize,
    ) -> Result<Bytes, BadRecords> {
        let codec = self.codec().ok_or(CodecError::Unknown(self.attributes() & CODEC_MASK))?;
        let stream = codec.pack(self.retained_header(selection, delete_horizon_ms))?;
        let shift = delete_horizon_ms.map_or(0, |horizon_ms| self.base_timestamp().wrapping_sub(horizon_ms));
        let (mut source, bytes_max) = self.open_records(bytes_max)?;
        let output = BufWriter::with_capacity(BUFFER_BYTES, stream);
        let mut copier =
            Copier { shift, bytes_left: bytes_max, head: Vec::new(), fields: Vec::new(), output };
        for index in 0..self.record_count() {
            let mut record = Divided { source: &mut *source, left: usize::MAX, stopped: None };
            match copier.record(&mut record, selection.contains(index as usize)) {
                Ok(()) => {}
                Err(Uncopied::Unread(fault)) => {
                    return Err(self.unread_record(index, &fault, record.stopped));
                }
                Err(Uncopied::TooLarge) => return Err(CodecError::TooLarge(bytes_max).into()),
                Err(Uncopied::Unwritten(error)) => return Err(error.into()),
            }
        }
        let stream = copier.output.into_inner().map_err(io::IntoInnerError::into_error)?;
        let mut batch = stream.finish()?;
        // It was given room for all records.
        batch.shrink_to_fit();
        Ok(seal(batch))
    }

    fn retained_header(&self, selection: &Selection, delete_horizon_ms: Option<i64>) -> Vec<u8> {
        // A compressed batch does not grow by much, an uncompressed one only by its deltas.
        let mut header = Vec::with_capacity(self.bytes().len());
        header.extend_from_slice(&self.bytes()[..HEADER_BYTES]);
        if let Some(horizon_ms) = delete_horizon_ms {
            header[21..23].copy_from_slice(&(self.attributes() | DELETE_HORIZON).to_be_bytes());
            header[27..35].copy_from_slice(&horizon_ms.to_be_bytes());
        }
        if !self.has_append_time() {
            header[35..43].copy_from_slice(&selection.max_timestamp.to_be_bytes());
        }
        header[57..61].copy_from_slice(&(selection.selected as i32).to_be_bytes());
        header
    }

    /// The batch without records. It holds the place of its offsets, and the last sequence number of its producer.
    pub fn emptied(&self) -> Bytes {
        let mut batch = self.bytes()[..HEADER_BYTES].to_vec();
        // Kafka clears the codec and the delete horizon, and keeps the greatest timestamp.
        let attributes = self.attributes() & (LOG_APPEND_TIME | TRANSACTIONAL | CONTROL);
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[27..35].copy_from_slice(&NO_TIMESTAMP.to_be_bytes());
        batch[57..61].copy_from_slice(&0_i32.to_be_bytes());
        seal(batch)
    }
}

/// Copies records from stream to stream.
struct Copier {
    /// What is added to timestamp deltas.
    shift: i64,
    /// Bytes that may still be read.
    bytes_left: usize,
    /// The length of a record, and the fields that are written anew.
    head: Vec<u8>,
    fields: Vec<u8>,
    output: BufWriter<Box<dyn Pack>>,
}

/// Why a record was not copied.
enum Uncopied {
    Unread(Fault),
    TooLarge,
    Unwritten(io::Error),
}

impl From<Fault> for Uncopied {
    fn from(fault: Fault) -> Self {
        Uncopied::Unread(fault)
    }
}

impl From<io::Error> for Uncopied {
    fn from(error: io::Error) -> Self {
        Uncopied::Unwritten(error)
    }
}

impl Copier {
    fn record(&mut self, record: &mut Divided<'_>, stays: bool) -> Result<(), Uncopied> {
        let length = usize::try_from(int(record)?).map_err(|_| Fault::Wrong("has a negative length"))?;
        // Its length has at least a byte.
        self.bytes_left = self.bytes_left.checked_sub(length + 1).ok_or(Uncopied::TooLarge)?;
        record.left = length;
        if !stays {
            return if record.skip(length) { Ok(()) } else { Err(Fault::End.into()) };
        }
        self.head.clear();
        if self.shift == 0 {
            put_varint(&mut self.head, length as i64);
        } else {
            self.fields.clear();
            self.fields.push(record.byte().ok_or(Fault::Wrong("is empty"))?);
            put_varint(&mut self.fields, long(record)?.wrapping_add(self.shift));
            put_varint(&mut self.head, (self.fields.len() + record.left) as i64);
            self.head.extend_from_slice(&self.fields);
        }
        self.output.write_all(&self.head)?;
        self.rest(record)
    }

    /// Copies what is left of a record.
    fn rest(&mut self, record: &mut Divided<'_>) -> Result<(), Uncopied> {
        while record.left > 0 {
            let left = record.left;
            let Some(piece) = record.piece() else { return Err(Fault::End.into()) };
            let step = piece.len().min(left);
            self.output.write_all(&piece[..step])?;
            record.consume(step);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::super::{BatchBuilder, Codec, NewRecord, Record, StoredHeader, settle};
    use super::*;

    const BYTES_MAX: usize = 64 << 20;
    const HEADERS: &[(&str, Option<&[u8]>)] = &[("h", Some(b"x")), ("", None)];

    fn split(mut bytes: Bytes) -> Batch {
        let batch = Batch::split_first(&mut bytes).unwrap();
        assert!(bytes.is_empty() && batch.crc_fits());
        batch
    }

    /// A stored batch: every third record is a tombstone, some are longer than a piece of a stream.
    fn stored(codec: Codec, count: i64, more_attributes: i16) -> Batch {
        let mut builder = BatchBuilder::new(codec).producer(7, 1, 42);
        for index in 0..count {
            let key = format!("key-{index}").into_bytes();
            let length = (index * index % 701) * if index % 97 == 5 { 100 } else { 1 };
            let value = vec![index as u8; length as usize];
            builder.push(NewRecord {
                timestamp: 1_000_000 + index * 37 % 1_009,
                key: (index % 11 != 10).then_some(&key[..]),
                value: (index % 3 != 0).then_some(&value[..]),
                headers: if index % 2 == 0 { HEADERS } else { &[] },
            });
        }
        let mut bytes = builder.build().unwrap().to_vec();
        let attributes = codec.bits() | more_attributes;
        let max_timestamp = 1_002_000;
        settle(
            &mut bytes,
            &StoredHeader { base_offset: 1 << 33, leader_epoch: 5, attributes, max_timestamp },
        );
        split(bytes.into())
    }

    fn records(batch: &Batch) -> Vec<Record> {
        batch.records(BYTES_MAX).unwrap().map(Result::unwrap).collect()
    }

    fn select(batch: &Batch, stays: impl Fn(i64) -> bool) -> Selection {
        let mut selection = Selection::default();
        let each = |record: StoredRecord<'_>| {
            selection.push(&record, stays(record.offset - batch.base_offset()));
            ControlFlow::Continue(())
        };
        batch.visit(BYTES_MAX, each).unwrap();
        selection
    }

    fn is_same_but_for_records(before: &Batch, after: &Batch) {
        let facts = |batch: &Batch| {
            let producer = (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
            (batch.base_offset(), batch.next_offset(), batch.leader_epoch(), producer, batch.codec())
        };
        assert_eq!(facts(after), facts(before));
        assert_eq!(after.has_append_time(), before.has_append_time());
    }

    #[test]
    fn records_that_stay_are_what_they_were() {
        for codec in Codec::ALL {
            for more in [0, LOG_APPEND_TIME, TRANSACTIONAL] {
                let before = stored(codec, 500, more);
                let stays = |delta: i64| delta * delta % 7 == 2;
                let selection = select(&before, stays);
                let expected: Vec<_> = records(&before)
                    .into_iter()
                    .filter(|record| stays(record.offset - before.base_offset()))
                    .collect();
                assert_eq!((selection.records(), selection.selected()), (500, expected.len()));
                assert!(selection.has_tombstones());
                let plain = split(before.retain(&selection, None, BYTES_MAX).unwrap());
                is_same_but_for_records(&before, &plain);
                assert_eq!(records(&plain), expected, "{codec:?}");
                assert_eq!(plain.delete_horizon_ms(), None);
                assert_eq!((plain.attributes(), plain.base_timestamp()), (before.attributes(), 1_000_000));
                let latest = expected.iter().map(|record| record.timestamp).max().unwrap();
                assert_eq!(plain.max_timestamp(), latest);
                assert!(plain.bytes().len() < before.bytes().len());
                for horizon_ms in [1_000_001, 1_800_000_000_000, 0] {
                    let dated = split(before.retain(&selection, Some(horizon_ms), BYTES_MAX).unwrap());
                    is_same_but_for_records(&before, &dated);
                    assert_eq!(records(&dated), expected, "{codec:?}");
                    assert_eq!(dated.delete_horizon_ms(), Some(horizon_ms));
                    assert_eq!(
                        (dated.attributes(), dated.max_timestamp()),
                        (before.attributes() | 0x40, latest)
                    );
                    // Cleaned again, it keeps its horizon.
                    let again = dated.retain(&select(&dated, |_| true), None, BYTES_MAX).unwrap();
                    assert_eq!(records(&split(again.clone())), expected);
                    assert_eq!(split(again).delete_horizon_ms(), Some(horizon_ms));
                }
            }
        }
    }

    #[test]
    fn of_an_uncompressed_batch_the_very_bytes_stay() {
        let before = stored(Codec::None, 300, 0);
        let all = before.retain(&select(&before, |_| true), None, BYTES_MAX).unwrap();
        assert_eq!(all[HEADER_BYTES..], before.bytes()[HEADER_BYTES..]);
    }

    #[test]
    fn an_emptied_batch_holds_its_place() {
        for more in [0, LOG_APPEND_TIME, TRANSACTIONAL | CONTROL | DELETE_HORIZON] {
            let before = stored(Codec::Zstd, 20, more);
            let after = split(before.emptied());
            assert_eq!(after.bytes().len(), HEADER_BYTES);
            assert_eq!(after.attributes(), more & !DELETE_HORIZON);
            assert_eq!(
                (after.record_count(), after.base_timestamp(), after.delete_horizon_ms()),
                (0, -1, None)
            );
            assert_eq!(after.max_timestamp(), before.max_timestamp());
            assert_eq!(
                (after.base_offset(), after.next_offset()),
                (before.base_offset(), before.next_offset())
            );
            assert_eq!((after.producer_id(), after.base_sequence(), after.leader_epoch()), (7, 42, 5));
            assert!(records(&after).is_empty());
            assert_eq!(after.emptied(), after.bytes());
            after.visit(0, |_| panic!("there is no record")).unwrap();
        }
    }

    #[test]
    fn a_visit_sees_what_the_records_are() {
        for codec in Codec::ALL {
            let batch = stored(codec, 500, 0);
            let batch =
                split(batch.retain(&select(&batch, |delta| delta % 5 != 1), None, BYTES_MAX).unwrap());
            let mut left = records(&batch).into_iter();
            let each = |seen: StoredRecord<'_>| {
                let record = left.next().unwrap();
                assert_eq!((seen.offset, seen.timestamp), (record.offset, record.timestamp));
                assert_eq!((seen.key, seen.has_value), (record.key.as_deref(), record.value.is_some()));
                ControlFlow::Continue(())
            };
            batch.visit(BYTES_MAX, each).unwrap();
            assert_eq!(left.next(), None);
            let mut visited = 0;
            let each = |_: StoredRecord<'_>| {
                visited += 1;
                if visited == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            batch.visit(BYTES_MAX, each).unwrap();
            assert_eq!(visited, 3);
        }
    }

    #[test]
    fn records_that_are_too_many_bytes_or_broken_are_refused() {
        let go_on = |_: StoredRecord<'_>| ControlFlow::Continue(());
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = stored(codec, 500, 0);
            let selection = select(&batch, |_| true);
            let is_too_large =
                |bad: BadRecords| matches!(bad, BadRecords::Unreadable(CodecError::TooLarge(5_000)));
            assert!(is_too_large(batch.visit(5_000, go_on).unwrap_err()), "{codec:?}");
            assert!(is_too_large(batch.retain(&selection, None, 5_000).unwrap_err()), "{codec:?}");
        }
        let good = stored(Codec::None, 4, 0);
        // Length, attributes, time, offset: both deltas have one byte in the first record.
        let with = |at: usize, byte: u8| {
            let mut bytes = good.bytes().to_vec();
            bytes[at] = byte;
            Batch::split_first(&mut bytes.into()).unwrap().visit(BYTES_MAX, go_on)
        };
        assert!(with(HEADER_BYTES + 3, 0).is_ok());
        let offset = "record 1 of 4 has an offset that is out of order";
        assert!(with(HEADER_BYTES + 3, 2).unwrap_err().to_string().ends_with(offset));
        let offset = "record 0 of 4 has an offset that is out of order";
        assert!(with(HEADER_BYTES + 3, 1).unwrap_err().to_string().ends_with(offset));
        assert!(with(HEADER_BYTES + 3, 8).unwrap_err().to_string().ends_with(offset));
        assert!(with(HEADER_BYTES, 1).unwrap_err().to_string().ends_with("has a negative length"));
        assert!(with(60, 5).unwrap_err().to_string().ends_with("record 4 of 5 passes the end"));
        assert!(with(60, 3).unwrap_err().to_string().ends_with("bytes follow its 3 records"));
    }

    #[test]
    fn what_can_be_visited_can_be_written_anew() {
        let good = stored(Codec::None, 6, 0);
        let mut refused = 0;
        for at in HEADER_BYTES..good.bytes().len() {
            for bit in 0..8 {
                let mut bytes = good.bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let batch = Batch::split_first(&mut bytes.into()).unwrap();
                let mut selection = Selection::default();
                let visited = batch.visit(BYTES_MAX, |record| {
                    selection.push(&record, record.offset % 2 == 0);
                    ControlFlow::Continue(())
                });
                if visited.is_err() {
                    refused += 1;
                    continue;
                }
                let kept = split(batch.retain(&selection, Some(5), BYTES_MAX).unwrap());
                assert_eq!(select(&kept, |_| true).records(), selection.selected(), "byte {at}, bit {bit}");
            }
        }
        assert!(refused > 0);
    }
}
