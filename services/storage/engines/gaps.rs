//! Batches without records, which stand for records that were lost.
//!
//! A reader goes from the end of one batch to the next, here and in every client. So where a damaged batch was left out, one
//! without records says that its offsets are gone. Kafka leaves such batches too, where compaction has removed all records.

use std::ops::ControlFlow;

use bytes::Bytes;
use kernel::records::{Batch, HEADER_BYTES, NO_TIMESTAMP};

pub(in crate::engines) use crate::compaction::gap;

/// The batch, if it is one without records.
pub(in crate::engines) fn as_gap(data: &Bytes) -> Option<Batch> {
    let is_empty = |batch: &Batch| batch.bytes().len() == data.len() && batch.record_count() == 0;
    let is_sound = |batch: &Batch| batch.crc_fits() && batch.last_offset_delta() >= 0;
    let mut rest = data.clone();
    Batch::split_first(&mut rest)
        .filter(|batch| data.len() == HEADER_BYTES && data[16] == 2 && is_empty(batch) && is_sound(batch))
}

/// Checks a batch as it is stored, and its records, of which a cleaner may have removed some or all. Also tells whether one of
/// them has no timestamp.
///
/// # Errors
/// What is wrong with it.
pub(in crate::engines) fn check_stored(data: &Bytes) -> Result<(Batch, bool), String> {
    let mut rest = data.clone();
    let cleaned = Batch::split_first(&mut rest).filter(|batch| {
        let is_whole = batch.bytes().len() == data.len() && data.get(16) == Some(&2);
        is_whole && (0..=batch.last_offset_delta()).contains(&batch.record_count())
    });
    let Some(batch) = cleaned else {
        let batch = Batch::check_header(data.clone()).map_err(|error| error.to_string())?;
        let times = batch.walk(usize::MAX, |_| {}).map_err(|error| error.to_string())?;
        return Ok((batch, times.has_undated));
    };
    batch.check_crc().map_err(|error| error.to_string())?;
    let mut has_undated = false;
    let visited = batch.visit(usize::MAX, |record| {
        has_undated |= record.timestamp == NO_TIMESTAMP;
        ControlFlow::Continue(())
    });
    visited.map_err(|error| error.to_string())?;
    Ok((batch, has_undated))
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
