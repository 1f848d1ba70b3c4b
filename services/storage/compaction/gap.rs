//! Batches without records, which hold the place of others.
//!
//! A reader goes from the end of one batch to the next. So batches of which nothing is left become one that has their offsets:
//! then a log has no gaps, and what is missing in it is damage. Kafka leaves such batches as well, here and there.

use bytes::{BufMut, Bytes};
use kernel::records::{HEADER_BYTES, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_TIMESTAMP, PREFIX_BYTES};

/// Where the header has its CRC, and what that covers begins.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// The batches that stand for a range of offsets; each has room for 2^31.
pub fn gap(mut base: i64, next: i64, leader_epoch: i32) -> Vec<(i64, i64, Bytes)> {
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
