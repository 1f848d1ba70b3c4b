use std::io::Read;

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

fn stored(batch: &Batch, header: &StoredHeader) -> Batch {
    let mut bytes = batch.bytes().to_vec();
    settle(&mut bytes, header);
    Batch::check(bytes.into()).unwrap()
}

#[test]
fn what_a_broker_sets_does_not_break_the_crc() {
    for codec in Codec::ALL {
        let sent = batch(codec);
        let attributes = sent.attributes();
        let header =
            StoredHeader { base_offset: 1_000_000, leader_epoch: 5, attributes, max_timestamp: 1_500 };
        let same = stored(&sent, &header);
        assert_eq!((same.base_offset(), same.leader_epoch(), same.next_offset()), (1_000_000, 5, 1_000_003));
        assert_eq!(same.bytes()[16..], sent.bytes()[16..], "the CRC is the producer's");
        let appended = StoredHeader { attributes: attributes | LOG_APPEND_TIME, max_timestamp: 77, ..header };
        let appended = stored(&sent, &appended);
        assert!(appended.records(1 << 20).unwrap().all(|record| record.unwrap().timestamp == 77));
        let times = appended.walk(1 << 20, |_| {}).unwrap();
        assert_eq!(times, RecordTimes { latest: Some(1_500), has_undated: false }, "the records' own");
        let cleared = stored(&appended, &header);
        assert_eq!(cleared.records(1 << 20).unwrap().next().unwrap().unwrap().timestamp, 1_000);
    }
}

#[test]
fn recompression_keeps_the_records() {
    for codec in Codec::ALL {
        let changed = recompress(&batch(Codec::Gzip), codec, None, 1 << 20).unwrap();
        let changed = Batch::check(changed.bytes().clone()).unwrap();
        assert_eq!(changed.codec(), Some(codec));
        assert_eq!(changed.records(1 << 20).unwrap().count(), 3);
    }
}

/// A batch whose header announces so many records, with any payload.
fn announcing(count: i32, codec: Codec, payload: &[u8]) -> Batch {
    let mut bytes = batch(Codec::None).bytes()[..HEADER_BYTES].to_vec();
    bytes.extend(payload);
    let length = (bytes.len() - PREFIX_BYTES) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[21..23].copy_from_slice(&codec.bits().to_be_bytes());
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::check_header(bytes.into()).unwrap()
}

/// What is wrong with records, which is the same in all codecs.
fn fault(count: i32, records: &[u8]) -> String {
    let in_codec = |codec: Codec| {
        let packed = codec.compress(records, None).unwrap();
        match announcing(count, codec, &packed).walk(1 << 20, |_| {}) {
            Ok(_) => "nothing".to_owned(),
            Err(BadRecords::Malformed(what)) => what,
            Err(other) => panic!("{codec:?}: {other}"),
        }
    };
    let [plain, others @ ..] = Codec::ALL.map(in_codec);
    others.iter().for_each(|other| assert_eq!(*other, plain));
    plain
}

#[test]
fn records_that_no_consumer_could_read_are_noticed() {
    let good = batch(Codec::None);
    let plain = &good.bytes()[HEADER_BYTES..];
    let with = |at: usize, byte: u8| {
        let mut records = plain.to_vec();
        records[at] = byte;
        fault(3, &records)
    };
    assert_eq!(fault(3, plain), "nothing");
    assert_eq!(fault(4, plain), "record 3 of 4 passes the end");
    assert_eq!(fault(i32::MAX, plain), "record 3 of 2147483647 passes the end");
    assert_eq!(fault(2, plain), "bytes follow its 2 records");
    assert_eq!(fault(3, &plain[..plain.len() - 1]), "record 2 of 3 passes the end");
    // The second record: length, attributes, time (2), offset, no key, no value, two headers, the first one's
    // key.
    let second = plain.len() - 22;
    assert_eq!(plain[second + 7..second + 10], [4, 2, b'h'], "two headers, a name of one letter");
    assert_eq!(with(second, 1), "record 1 of 3 has a negative length");
    assert_eq!(with(second, 126), "record 1 of 3 is longer than what is in it");
    assert_eq!(with(second, 0), "record 1 of 3 is empty");
    assert_eq!(with(second + 4, 4), "record 1 of 3 has an offset that is not its place");
    assert_eq!(with(second + 4, 0), "record 1 of 3 has an offset that is not its place");
    assert_eq!(with(second + 5, 3), "record 1 of 3 has a field of negative length");
    assert_eq!(with(second + 5, 126), "record 1 of 3 has a field that passes its end");
    assert_eq!(with(second + 7, 1), "record 1 of 3 has a negative number of headers");
    assert_eq!(with(second + 7, 2), "record 1 of 3 is longer than what is in it");
    assert_eq!(with(second + 8, 1), "record 1 of 3 has a header without a name");
}

/// Kafka stores them: `DefaultRecord` decodes the name of a header only when a client asks for it, with `Utils.utf8`, which
/// replaces malformed bytes and fails at none.
#[test]
fn names_of_headers_need_not_be_utf_8() {
    let good = batch(Codec::None);
    let mut records = good.bytes()[HEADER_BYTES..].to_vec();
    let name = records.len() - 22 + 9;
    assert_eq!(records[name], b'h');
    records[name] = 0xff;
    assert_eq!(fault(3, &records), "nothing");
    let read: Vec<Record> =
        announcing(3, Codec::None, &records).records(1 << 20).unwrap().map(Result::unwrap).collect();
    assert_eq!(read[1].headers[0].key, &b"\xff"[..], "it is given back as it came");
}

#[test]
fn numbers_are_as_long_as_every_client_reads_them() {
    // Length, attributes, time, offset, no key, no value, no headers.
    let record = |time: &[u8], offset: &[u8]| {
        let fields = [&[0][..], time, offset, &[1, 1, 0]].concat();
        fault(1, &[&[fields.len() as u8 * 2][..], &fields].concat())
    };
    assert_eq!(record(&[0], &[0]), "nothing");
    assert_eq!(record(&[0], &[0x80, 0x80, 0x80, 0x80, 0]), "nothing");
    assert_eq!(record(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1], &[0]), "nothing");
    let too_long = "record 0 of 1 has a number of more than 32 bits";
    assert_eq!(record(&[0], &[0x80, 0x80, 0x80, 0x80, 0x80, 0]), too_long);
    assert_eq!(record(&[0], &[0x80, 0x80, 0x80, 0x80, 0x10]), too_long);
    let too_long = "record 0 of 1 has a number of more than 64 bits";
    assert_eq!(record(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0], &[0]), too_long);
}

#[test]
fn a_walk_sees_every_record_wherever_pieces_end() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(codec);
        let mut sent = Vec::new();
        for index in 0..2_000_i64 {
            // Of all lengths, some longer than a piece.
            let value =
                vec![index as u8; (index * index % 701) as usize * if index % 97 == 0 { 400 } else { 1 }];
            let timestamp = if index % 5 == 0 { NO_TIMESTAMP } else { 1_000 + index * 7 % 1_009 };
            let key = (index % 3 > 0).then(|| vec![b'k'; (index % 3 - 1) as usize]);
            builder.push(NewRecord {
                timestamp,
                key: key.as_deref(),
                value: Some(&value),
                ..NewRecord::default()
            });
            sent.push(WalkedRecord { index: index as i32, timestamp, has_key: key.is_some() });
        }
        let batch = Batch::check_header(builder.build().unwrap()).unwrap();
        let mut seen = Vec::new();
        let times = batch.walk(100 << 20, |record| seen.push(record)).unwrap();
        assert_eq!(seen, sent, "{codec:?}");
        assert_eq!(times, RecordTimes { latest: Some(2_008), has_undated: true });
    }
}

#[test]
fn times_are_those_of_the_records() {
    let of = |timestamps: &[i64]| {
        let mut builder = BatchBuilder::new(Codec::Lz4);
        for timestamp in timestamps {
            builder.push(NewRecord { timestamp: *timestamp, ..NewRecord::default() });
        }
        let times = Batch::check(builder.build().unwrap()).unwrap().walk(1 << 20, |_| {}).unwrap();
        (times.latest, times.has_undated)
    };
    assert_eq!(of(&[5, 9, 7]), (Some(9), false));
    assert_eq!(of(&[-1, 9, -1]), (Some(9), true));
    assert_eq!(of(&[-1, -1]), (None, true));
    assert_eq!(of(&[-7]), (None, true), "before 1970 is no time that anything is deleted by");
    assert_eq!(of(&[0]), (Some(0), false));
}

#[test]
fn compressed_records_that_do_not_end_as_they_must_are_refused() {
    let whole = batch(Codec::None);
    let plain = &whole.bytes()[HEADER_BYTES..];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let packed = codec.compress(plain, None).unwrap();
        let walk = |payload: &[u8]| announcing(3, codec, payload).walk(1 << 20, |_| {});
        assert!(walk(&packed).is_ok());
        for end in 0..packed.len() {
            assert!(walk(&packed[..end]).is_err(), "{codec:?} cut at {end}");
        }
        for behind in [&b"x"[..], b"nonsense behind it", &[0; 4]] {
            assert!(walk(&[&packed[..], behind].concat()).is_err(), "{codec:?} with bytes behind");
        }
        assert!(walk(b"nonsense that is not compressed").is_err(), "{codec:?}");
    }
}

/// librdkafka reads one member only: of these it would lose records, or abort its process.
#[test]
fn gzip_of_several_members_is_refused() {
    let whole = batch(Codec::None);
    let plain = &whole.bytes()[HEADER_BYTES..];
    let packed = |part: &[u8]| Codec::Gzip.compress(part, None).unwrap();
    let (head, tail) = plain.split_at(plain.len() / 2);
    let walk = |payload: &[u8]| announcing(3, Codec::Gzip, payload).walk(1 << 20, |_| {});
    assert!(walk(&packed(plain)).is_ok());
    assert!(walk(&[packed(head), packed(tail)].concat()).is_err());
    assert!(walk(&[packed(&[]), packed(plain)].concat()).is_err());
}

/// The fault is Kafka's: its consumers refuse such a frame.
#[test]
fn lz4_blocks_that_depend_on_each_other_are_refused() {
    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};
    use std::io::Write;
    let whole = batch(Codec::None);
    let plain = &whole.bytes()[HEADER_BYTES..];
    for (mode, is_taken) in [(BlockMode::Independent, true), (BlockMode::Linked, false)] {
        let mut encoder = FrameEncoder::with_frame_info(FrameInfo::new().block_mode(mode), Vec::new());
        encoder.write_all(plain).unwrap();
        let packed = encoder.finish().unwrap();
        assert_eq!(announcing(3, Codec::Lz4, &packed).walk(1 << 20, |_| {}).is_ok(), is_taken);
    }
}

#[test]
fn a_bomb_costs_what_its_records_announce() {
    let zeros = vec![0; 8 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        // One record of length 0, which cannot be, and eight megabytes of the same.
        let packed = codec.compress(&zeros, None).unwrap();
        let refused = announcing(1_000_000, codec, &packed).walk(1 << 20, |_| {});
        assert!(matches!(refused, Err(BadRecords::Malformed(_))), "{codec:?}");
        // One record that says it is eight megabytes long.
        let mut long = vec![0x80, 0x80, 0x80, 0x08];
        long.extend(&zeros);
        let packed = codec.compress(&long, None).unwrap();
        let refused = announcing(1, codec, &packed).walk(1 << 20, |_| {});
        assert!(matches!(refused, Err(BadRecords::Unreadable(CodecError::TooLarge(_)))), "{codec:?}");
    }
}

#[test]
fn a_large_zstd_window_takes_what_fits_into_memory() {
    let of = |bytes: usize| {
        let mut builder = BatchBuilder::new(Codec::None);
        let value = vec![b'v'; bytes];
        builder.push(NewRecord { value: Some(&value), ..NewRecord::default() });
        let plain = builder.build().unwrap();
        let mut encoder = zstd::stream::read::Encoder::with_buffer(&plain[HEADER_BYTES..], 1).unwrap();
        encoder.window_log(27).unwrap();
        let mut packed = Vec::new();
        encoder.read_to_end(&mut packed).unwrap();
        announcing(1, Codec::Zstd, &packed).walk(100 << 20, |_| {})
    };
    assert!(of(1_000).is_ok());
    assert!(of(31 << 20).is_ok());
    assert!(matches!(of(33 << 20), Err(BadRecords::Unreadable(CodecError::TooLarge(_)))));
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
