//! Batches without records, which stand for records that were lost.
//!
//! A reader goes from the end of one batch to the next, here and in every client. So where a damaged batch was left out, one
//! without records says that its offsets are gone. Kafka leaves such batches too, where compaction has removed all records.

use bytes::{BufMut, Bytes};
use kernel::records::{Batch, HEADER_BYTES, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_TIMESTAMP, PREFIX_BYTES};

/// Where the header has its CRC, and what that covers begins.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// The batches that stand for a range of offsets; each has room for 2^31.
pub(super) fn gap(mut base: i64, next: i64, leader_epoch: i32) -> Vec<(i64, i64, Bytes)> {
    let mut batches = Vec::new();
    while base < next {
        let end = next.min(base + i64::from(i32::MAX));
        batches.push((base, end, empty(base, (end - base - 1) as i32, leader_epoch)));
        base = end;
    }
    batches
}

fn empty(base: i64, last_offset_delta: i32, leader_epoch: i32) -> Bytes {
    let mut batch = Vec::with_capacity(HEADER_BYTES);
    batch.put_i64(base);
    batch.put_i32((HEADER_BYTES - PREFIX_BYTES) as i32);
    batch.put_i32(leader_epoch);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(0);
    batch.put_i32(last_offset_delta);
    batch.put_i64(NO_TIMESTAMP);
    batch.put_i64(NO_TIMESTAMP);
    batch.put_i64(NO_PRODUCER_ID);
    batch.put_i16(NO_PRODUCER_EPOCH);
    batch.put_i32(-1);
    batch.put_i32(0);
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// The batch, if it is one without records.
pub(super) fn as_gap(data: &Bytes) -> Option<Batch> {
    let is_empty = |batch: &Batch| batch.bytes().len() == data.len() && batch.record_count() == 0;
    let is_sound = |batch: &Batch| batch.crc_fits() && batch.last_offset_delta() >= 0;
    let mut rest = data.clone();
    Batch::split_first(&mut rest)
        .filter(|batch| data.len() == HEADER_BYTES && data[16] == 2 && is_empty(batch) && is_sound(batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_has_its_offsets_and_no_records() {
        let batches = gap(7, 5_000_000_000, 3);
        assert_eq!(batches.len(), 3);
        let mut at = 7;
        for (base, next, data) in batches {
            let batch = as_gap(&data).unwrap();
            assert_eq!((base, batch.base_offset(), batch.next_offset()), (at, at, next));
            assert_eq!((batch.leader_epoch(), batch.max_timestamp()), (3, NO_TIMESTAMP));
            assert!(Batch::check_header(data).is_err(), "no producer may send it");
            at = next;
        }
        assert_eq!(at, 5_000_000_000);
    }

    #[test]
    fn what_is_damaged_is_no_gap() {
        let (_, _, data) = gap(7, 9, 0).remove(0);
        let mut torn = data.to_vec();
        torn[26] ^= 1;
        assert!(as_gap(&data).is_some() && as_gap(&torn.into()).is_none());
        assert!(as_gap(&data.slice(..60)).is_none());
    }
}
