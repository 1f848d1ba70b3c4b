//! Record batches: what producers send, and what the client and the store read.

use std::ops::ControlFlow;

use bytes::Bytes;
use kernel::records::{self, Batch, BatchBuilder, Codec, NewRecord, Selection, StoredHeader};

use super::seeds;
use super::{Bounds, Target};
use crate::random::Random;
use crate::repair;

/// The most that is decompressed.
const OPENED_BYTES_MAX: usize = 256 << 10;
/// A walk counts a byte for the length of a record, which has up to five.
const READ_BYTES_MAX: usize = 4 * OPENED_BYTES_MAX;

/// The target.
pub(super) struct Batches;

impl Target for Batches {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds: Vec<Vec<u8>> = Codec::ALL.into_iter().map(seeds::batch).collect();
        for codec in Codec::ALL {
            // Small as sent, large when opened.
            let zeros = vec![0; if codec == Codec::None { 300 } else { 200 << 10 }];
            let mut builder = BatchBuilder::new(codec).producer(7, 1, 42);
            builder.push(NewRecord { value: Some(&zeros), ..NewRecord::default() });
            seeds.extend(builder.build().map(|batch| batch.to_vec()));
        }
        // Two, as a response of Fetch has them.
        seeds.push([seeds[0].clone(), seeds[4].clone()].concat());
        seeds
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let magics: [&[u8]; 5] = [
            &[0x1f, 0x8b, 8],
            &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1],
            &[0x04, 0x22, 0x4d, 0x18, 0x60, 0x40],
            &[0x28, 0xb5, 0x2f, 0xfd],
            // A skippable frame of zstd.
            &[0x50, 0x2a, 0x4d, 0x18],
        ];
        magics.iter().map(|magic| magic.to_vec()).collect()
    }

    /// A record may be nothing but headers, which take some 40 times as much in memory as when sent.
    fn bounds(&self) -> Bounds {
        Bounds { input_bytes_max: 64 << 10, constant: 64 << 20, per_byte: 200 }
    }

    fn repair(&self, input: &mut [u8], random: &mut Random) {
        repair::batch(input, random);
    }

    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        let bytes = Bytes::copy_from_slice(input);
        for batch in Batch::split_all(bytes.clone()) {
            let (_, _) = (batch.crc_fits(), batch.next_offset());
            // As a consumer reads them, and as a search does.
            batch.records(OPENED_BYTES_MAX).into_iter().flatten().for_each(drop);
            let _ = batch.walk(OPENED_BYTES_MAX, |_| {});
            // As a cleaner does.
            let _ = batch.visit(OPENED_BYTES_MAX, |_| ControlFlow::Continue(()));
            let (_, _) = (records::control::read_marker(&batch), batch.emptied());
        }
        match Batch::check(bytes) {
            Ok(batch) => accepted(&batch),
            Err(_) => Ok(()),
        }
    }
}

/// What the broker stores, every consumer can read.
fn accepted(batch: &Batch) -> Result<(), String> {
    let mut walked = Vec::new();
    if batch.walk(OPENED_BYTES_MAX, |record| walked.push(record.timestamp)).is_err() {
        return Ok(());
    }
    let records = batch.records(READ_BYTES_MAX);
    let records = records.map_err(|error| format!("it was walked over, and cannot be opened: {error}"))?;
    let mut count = 0;
    for record in records {
        let record = record.map_err(|why| format!("it was walked over, and record {count} is bad: {why}"))?;
        if record.offset != batch.base_offset().wrapping_add(count as i64) {
            return Err(format!("record {count} has the offset {}", record.offset));
        }
        if !batch.has_append_time() && walked.get(count) != Some(&record.timestamp) {
            return Err(format!("record {count} has another timestamp when it is walked over"));
        }
        count += 1;
    }
    if count != walked.len() {
        return Err(format!("{} records were walked over, and {count} read", walked.len()));
    }
    stored(batch)?;
    cleaned(batch, walked.len())?;
    recompressed(batch, walked.len())
}

/// What the broker sets in a header leaves the batch whole.
fn stored(batch: &Batch) -> Result<(), String> {
    let mut bytes = batch.bytes().to_vec();
    let attributes = batch.attributes() ^ records::LOG_APPEND_TIME;
    let header = StoredHeader { base_offset: 7, leader_epoch: 3, attributes, max_timestamp: 9 };
    records::settle(&mut bytes, &header);
    match Batch::check(bytes.into()) {
        Ok(stored) if (stored.base_offset(), stored.attributes()) == (7, attributes) => Ok(()),
        Ok(_) => Err("it was stored with another header".to_owned()),
        Err(bad) => Err(format!("stored, it is refused: {bad}")),
    }
}

/// What a cleaner leaves of a batch has the records that stay. One in eight, because compressing takes long.
fn cleaned(batch: &Batch, count: usize) -> Result<(), String> {
    let chance = crc32c::crc32c(batch.bytes()) >> 16;
    if !chance.is_multiple_of(8) {
        return Ok(());
    }
    let failed = |why: &dyn std::fmt::Display| format!("cleaned: {why}");
    let (mut selection, mut expected) = (Selection::default(), Vec::new());
    let visited = batch.visit(OPENED_BYTES_MAX, |record| {
        let stays = record.offset % 3 != 1;
        selection.push(&record, stays);
        if stays {
            expected.push((record.offset, record.timestamp));
        }
        ControlFlow::Continue(())
    });
    visited.map_err(|bad| failed(&bad))?;
    if selection.records() != count {
        return Err(format!("{count} records were walked over, and {} visited", selection.records()));
    }
    if selection.selected() == 0 {
        return Ok(());
    }
    let horizon_ms = (chance & 8 == 0).then_some(1_800_000_000_000);
    let mut bytes = batch.retain(&selection, horizon_ms, OPENED_BYTES_MAX).map_err(|bad| failed(&bad))?;
    let left = Batch::split_first(&mut bytes).filter(Batch::crc_fits).ok_or("cleaned, it is no batch")?;
    let mut found = Vec::new();
    let visited = left.visit(READ_BYTES_MAX, |record| {
        found.push((record.offset, record.timestamp));
        ControlFlow::Continue(())
    });
    visited.map_err(|bad| failed(&bad))?;
    if found == expected { Ok(()) } else { Err("cleaned, it has other records".to_owned()) }
}

/// What a topic's own codec makes of a batch has the same records. One in eight, because compressing takes long.
fn recompressed(batch: &Batch, count: usize) -> Result<(), String> {
    let chance = crc32c::crc32c(batch.bytes());
    if !chance.is_multiple_of(8) {
        return Ok(());
    }
    let codec = Codec::ALL[(chance / 8) as usize % Codec::ALL.len()];
    let failed = |why: &dyn std::fmt::Display| format!("recompressed with {}: {why}", codec.name());
    let batch = records::recompress(batch, codec, None, READ_BYTES_MAX).map_err(|error| failed(&error))?;
    let batch = Batch::check_header(batch.bytes().clone()).map_err(|bad| failed(&bad))?;
    let mut walked = 0;
    batch.walk(usize::MAX, |_| walked += 1).map_err(|bad| failed(&bad))?;
    if walked == count { Ok(()) } else { Err(failed(&format!("{walked} records instead of {count}"))) }
}
