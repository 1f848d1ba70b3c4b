use super::iterate::check_records;
use super::*;

fn batch(codec: Codec) -> Batch {
    let mut builder = BatchBuilder::new(codec).producer(7, 1, 42);
    let value = vec![b'v'; 300];
    builder.push(NewRecord { timestamp: 1_000, key: Some(b"k"), value: Some(&value), headers: &[] });
    builder.push(NewRecord {
        timestamp: 1_500,
        key: None,
        value: None,
        headers: &[("h", None), ("h", Some(b""))],
    });
    builder.push(NewRecord { timestamp: 900, key: Some(b""), value: Some(b""), headers: &[] });
    Batch::check(builder.build().unwrap()).unwrap()
}

#[test]
fn what_goes_in_comes_out_in_every_codec() {
    for codec in Codec::ALL {
        let batch = batch(codec);
        assert_eq!(batch.codec(), Some(codec));
        assert_eq!((batch.record_count(), batch.base_timestamp(), batch.max_timestamp()), (3, 1_000, 1_500));
        assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (7, 1, 42));
        let records: Vec<Record> = batch.records(1 << 20).unwrap().map(Result::unwrap).collect();
        assert_eq!(records[0].value.as_ref().unwrap().len(), 300, "{codec:?}");
        assert_eq!((&records[1].key, &records[1].value), (&None, &None));
        assert_eq!(records[1].headers[0].value, None);
        assert_eq!(records[1].headers[1].value.as_deref(), Some(&b""[..]));
        assert_eq!((records[2].offset, records[2].timestamp), (2, 900));
        assert_eq!(records[2].key.as_deref(), Some(&b""[..]), "empty is not null");
    }
}

#[test]
fn decompression_is_bounded() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        assert!(matches!(batch(codec).records(100), Err(CodecError::TooLarge(100))), "{codec:?}");
    }
}

#[test]
fn raw_snappy_is_read_too() {
    let packed = snap::raw::Encoder::new().compress_vec(b"plain").unwrap();
    assert_eq!(Codec::Snappy.decompress(packed.into(), 100).unwrap(), &b"plain"[..]);
}

#[test]
fn a_new_offset_does_not_break_the_crc() {
    let mut bytes = batch(Codec::Lz4).bytes().to_vec();
    patch(&mut bytes, 1_000_000, 5);
    let patched = Batch::check(bytes.into()).unwrap();
    assert_eq!(
        (patched.base_offset(), patched.leader_epoch(), patched.next_offset()),
        (1_000_000, 5, 1_000_003)
    );
}

#[test]
fn append_time_and_recompression_keep_the_records() {
    let stamped = stamp_append_time(&batch(Codec::Gzip), 77);
    let stamped = Batch::check(stamped.bytes().clone()).unwrap();
    assert!(stamped.records(1 << 20).unwrap().all(|record| record.unwrap().timestamp == 77));
    for codec in Codec::ALL {
        let changed = recompress(&batch(Codec::Gzip), codec, None, 1 << 20).unwrap();
        let changed = Batch::check(changed.bytes().clone()).unwrap();
        assert_eq!(changed.codec(), Some(codec));
        assert_eq!(changed.records(1 << 20).unwrap().count(), 3);
    }
}

#[test]
fn a_claim_of_append_time_can_be_cleared() {
    let stamped = stamp_append_time(&batch(Codec::Gzip), 77);
    let cleared = Batch::check(clear_append_time(&stamped).bytes().clone()).unwrap();
    assert!(!cleared.has_append_time());
    assert_eq!(cleared.records(1 << 20).unwrap().next().unwrap().unwrap().timestamp, 1_000);
}

#[test]
fn records_that_no_consumer_could_read_are_noticed() {
    let good = batch(Codec::None);
    let plain = &good.bytes()[HEADER_BYTES..];
    let fault = |at: usize, byte: u8| {
        let mut records = plain.to_vec();
        records[at] = byte;
        check_records(&records, 3).unwrap_err()
    };
    assert_eq!(check_records(plain, 3), Ok(()));
    assert_eq!(check_records(plain, 4).unwrap_err(), "record 3 of 4 ends within a number");
    assert_eq!(check_records(plain, 2).unwrap_err(), "bytes follow its 2 records");
    // The second record: length, attributes, time (2), offset, no key, no value, two headers, the first one's
    // key.
    let second = plain.len() - 22;
    assert_eq!(plain[second + 7..second + 10], [4, 2, b'h'], "two headers, a name of one letter");
    assert_eq!(fault(second, 1), "record 1 of 3 has a negative length");
    assert_eq!(fault(second, 126), "record 1 of 3 passes the end");
    assert_eq!(fault(second + 5, 3), "record 1 of 3 has a field of negative length");
    assert_eq!(fault(second + 5, 126), "record 1 of 3 has a field that passes its end");
    assert_eq!(fault(second + 7, 1), "record 1 of 3 has a negative number of headers");
    assert_eq!(fault(second + 7, 2), "record 1 of 3 is longer than what is in it");
    assert_eq!(fault(second + 8, 1), "record 1 of 3 has a header without a name");
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let good = batch(Codec::None);
    for at in 16..good.bytes().len() {
        let mut bytes = good.bytes().to_vec();
        bytes[at] ^= 1;
        assert!(Batch::check(bytes.into()).is_err(), "byte {at}");
    }
    for end in 0..good.bytes().len() {
        assert!(Batch::check(good.bytes().slice(..end)).is_err(), "cut at {end}");
    }
}

#[test]
fn old_formats_are_told_apart_from_corruption() {
    let mut bytes = batch(Codec::None).bytes().to_vec();
    bytes[16] = 1;
    assert_eq!(Batch::check(bytes.into()), Err(BadBatch::Format(1)));
}

#[test]
fn counts_that_lie_are_refused() {
    let good = batch(Codec::None);
    for (at, value) in [(57usize, 4i32), (57, 0), (57, i32::MAX), (23, 7)] {
        let mut bytes = good.bytes().to_vec();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        assert!(matches!(Batch::check(bytes.into()), Err(BadBatch::Corrupt(_))), "{at} {value}");
    }
}
