//! Control batches: the markers that end a transaction in a partition (KIP-98).
//!
//! A marker is a batch of one record, transactional and control, of the producer whose transaction ends. Its key says
//! whether the transaction was committed, its value which coordinator has decided that. Clients never see the record,
//! but it takes an offset.

use bytes::Bytes;

use super::build::seal;
use super::{Batch, CONTROL, HEADER_BYTES, TRANSACTIONAL};

/// The type in the key of a marker.
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// More than a marker needs. One that is larger is none.
const RECORD_BYTES_MAX: usize = 4 << 10;

/// What a control batch says of a transaction of its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Whether the transaction was committed; if not, it was aborted.
    pub commit: bool,
    /// The epoch of the transaction coordinator that ended it.
    pub coordinator_epoch: i32,
}

/// A control batch that ends a transaction, as Kafka writes it. Its base offset and leader epoch are 0 until it is stored
/// (see [`settle`](super::settle)).
pub fn marker(
    producer_id: i64,
    producer_epoch: i16,
    commit: bool,
    coordinator_epoch: i32,
    timestamp_ms: i64,
) -> Bytes {
    let mut batch = vec![0; HEADER_BYTES];
    batch[16] = 2;
    batch[21..23].copy_from_slice(&(TRANSACTIONAL | CONTROL).to_be_bytes());
    batch[27..35].copy_from_slice(&timestamp_ms.to_be_bytes());
    batch[35..43].copy_from_slice(&timestamp_ms.to_be_bytes());
    batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&producer_epoch.to_be_bytes());
    // A marker has no sequence number.
    batch[53..57].copy_from_slice(&(-1_i32).to_be_bytes());
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    let key_type = if commit { COMMIT } else { ABORT };
    // Zigzag lengths: 16 bytes of record; attributes and both deltas are 0; 4 bytes of key.
    batch.extend([32, 0, 0, 0, 8]);
    batch.extend(0_i16.to_be_bytes());
    batch.extend(key_type.to_be_bytes());
    // 6 bytes of value.
    batch.push(12);
    batch.extend(0_i16.to_be_bytes());
    batch.extend(coordinator_epoch.to_be_bytes());
    // No headers.
    batch.push(0);
    seal(batch)
}

/// Reads the marker in a control batch. `None` if the batch is no control batch, is of another type, or is empty because
/// a cleaner has removed its record.
pub fn read_marker(batch: &Batch) -> Option<Marker> {
    if !batch.is_control() {
        return None;
    }
    let record = batch.records(RECORD_BYTES_MAX).ok()?.next()?.ok()?;
    let (key, value) = (record.key?, record.value?);
    // Later versions of key and value append fields.
    let (key_version, key_rest) = short(&key)?;
    let (key_type, _) = short(key_rest)?;
    let (value_version, value_rest) = short(&value)?;
    let coordinator_epoch = i32::from_be_bytes(*value_rest.first_chunk()?);
    if key_version < 0 || value_version < 0 {
        return None;
    }
    match key_type {
        ABORT => Some(Marker { commit: false, coordinator_epoch }),
        COMMIT => Some(Marker { commit: true, coordinator_epoch }),
        _ => None,
    }
}

fn short(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((i16::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Codec, NewRecord, StoredHeader, settle};
    use super::*;

    #[test]
    fn a_marker_has_the_bytes_that_kafka_writes() {
        let bytes = marker(7, 3, true, 5, 0x0102_0304);
        assert_eq!(bytes.len(), 78);
        assert_eq!(bytes[61..], [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 5, 0]);
        assert_eq!(marker(7, 3, false, -1, 0)[61 + 5..], [0, 0, 0, 0, 12, 0, 0, 255, 255, 255, 255, 0]);
        let batch = Batch::check(bytes).unwrap();
        assert!(batch.is_control() && batch.is_transactional() && !batch.has_append_time());
        assert_eq!(batch.codec(), Some(Codec::None));
        assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (7, 3, -1));
        assert_eq!((batch.base_offset(), batch.next_offset(), batch.leader_epoch()), (0, 1, 0));
        assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (0x0102_0304, 0x0102_0304));
    }

    #[test]
    fn a_stored_marker_is_read_again() {
        for commit in [true, false] {
            let mut bytes = marker(i64::MAX, i16::MAX, commit, 9, 1_000).to_vec();
            let attributes = Batch::check(bytes.clone().into()).unwrap().attributes();
            let header =
                StoredHeader { base_offset: 1 << 40, leader_epoch: 4, attributes, max_timestamp: 1_000 };
            settle(&mut bytes, &header);
            let stored = Batch::check(bytes.into()).unwrap();
            assert_eq!(read_marker(&stored), Some(Marker { commit, coordinator_epoch: 9 }));
        }
    }

    /// A batch with one record, under the control bit or not.
    fn control(key: Option<&[u8]>, value: Option<&[u8]>, is_control: bool) -> Batch {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(NewRecord { key, value, ..NewRecord::default() });
        let mut bytes = builder.build().unwrap().to_vec();
        let attributes = if is_control { CONTROL | TRANSACTIONAL } else { 0 };
        settle(&mut bytes, &StoredHeader { base_offset: 0, leader_epoch: 0, attributes, max_timestamp: 0 });
        Batch::check(bytes.into()).unwrap()
    }

    #[test]
    fn what_is_no_marker_is_not_read_as_one() {
        let (commit, value) = (&[0, 0, 0, 1][..], &[0, 0, 0, 0, 0, 5][..]);
        let read = |key, value| read_marker(&control(Some(key), Some(value), true));
        let expected = Some(Marker { commit: true, coordinator_epoch: 5 });
        assert_eq!(read(commit, value), expected);
        assert_eq!(read(&[0, 1, 0, 1, 9], &[0, 1, 0, 0, 0, 5, 7]), expected, "fields of a later version");
        assert_eq!(read_marker(&control(Some(commit), Some(value), false)), None, "data");
        assert_eq!(read(&[0, 0, 0, 2], value), None, "a change of leader (KIP-595)");
        assert_eq!(read(&[0, 0, 0], value), None);
        assert_eq!(read(commit, &value[..5]), None);
        assert_eq!(read(&[255, 255, 0, 1], value), None);
        assert_eq!(read_marker(&control(None, Some(value), true)), None);
        assert_eq!(read_marker(&control(Some(commit), None, true)), None);
    }
}
