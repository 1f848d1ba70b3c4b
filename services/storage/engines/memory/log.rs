//! The record batches of one partition, copied into segments of memory.
//!
//! The copy pays off: the buffer of a request can be reused at once while it is in the CPU caches, and a
//! batch of a hundred bytes does not keep a megabyte buffer allocated.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use kernel::records::{self, StoredHeader};

use super::index::{Index, Span};
use super::segment::Segment;
use crate::engines::resident::Times;

/// The batches of one partition.
#[derive(Default)]
pub(super) struct Log {
    /// Unique in this store.
    pub(super) id: u64,
    entries: VecDeque<Entry>,
    /// The number of the first entry.
    first_entry: u64,
    index: Index,
    segments: VecDeque<Segment>,
    /// The number of the first segment.
    first_segment: u64,
    /// Bytes of all batches.
    bytes: u64,
}

/// One batch.
pub(super) struct Entry {
    pub(super) next_offset: i64,
    pub(super) times: Times,
    segment: u64,
    place: Range<usize>,
}

/// A range of a segment.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The segment's number.
    pub(super) segment: u64,
    /// The bytes in it.
    pub(super) range: Range<usize>,
}

impl Entry {
    /// Bytes of the batch.
    pub(super) fn bytes(&self) -> usize {
        self.place.len()
    }
}

impl Log {
    /// An empty log with an id that is unique in its store.
    pub(super) fn new(id: u64) -> Self {
        Self { id, ..Self::default() }
    }

    /// Appends a batch of so many records, with this header.
    pub(super) fn append(&mut self, bytes: &[u8], record_count: i32, header: &StoredHeader, times: Times) {
        let place = self.place(bytes);
        if let Some(segment) = self.segments.back_mut() {
            records::settle(segment.at_mut(place.clone()), header);
        }
        self.bytes += bytes.len() as u64;
        self.index.push(Span { times, bytes: bytes.len() as u64 });
        self.entries.push_back(Entry {
            next_offset: header.base_offset + i64::from(record_count),
            times,
            segment: self.first_segment + self.segments.len() as u64 - 1,
            place,
        });
    }

    /// Bytes of all batches.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn place(&mut self, bytes: &[u8]) -> Range<usize> {
        if let Some(place) = self.segments.back_mut().and_then(|segment| segment.append(bytes)) {
            return place;
        }
        let mut segment = Segment::after(self.segments.back(), bytes.len());
        let place = segment.append(bytes).unwrap_or_default();
        self.segments.push_back(segment);
        place
    }

    /// The batches in offset order.
    pub(super) fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    /// Index of the first batch with `offset` or a later offset.
    pub(super) fn index_of(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.next_offset <= offset)
    }

    /// Index of the first batch that `is_over` does not hold for. It is asked for several batches at once, too.
    pub(super) fn search(&self, is_over: impl FnMut(&Span) -> bool) -> Option<usize> {
        self.search_from(0, is_over)
    }

    /// Index of the first batch with the greatest timestamp, of those that begin at an offset or later.
    pub(super) fn latest(&self, from: i64) -> Option<usize> {
        let is_cut = self.entries.front().is_some_and(|first| base_offset(&self.read(first)) < from);
        let (first, mut latest) = (u64::from(is_cut), None);
        self.search_from(first, |span| {
            latest = latest.max(span.times.latest);
            true
        });
        let latest = latest?;
        self.search_from(first, |span| span.times.is_before(latest))
    }

    fn search_from(&self, first: u64, is_over: impl FnMut(&Span) -> bool) -> Option<usize> {
        let batch = |number: u64| {
            let entry = &self.entries[(number - self.first_entry) as usize];
            Span { times: entry.times, bytes: entry.bytes() as u64 }
        };
        let found = self.index.search(self.first_entry + first, batch, is_over)?;
        Some((found - self.first_entry) as usize)
    }

    /// A copy of a batch.
    pub(super) fn read(&self, entry: &Entry) -> Bytes {
        let segment = &self.segments[(entry.segment - self.first_segment) as usize];
        Bytes::copy_from_slice(&segment.bytes()[entry.place.clone()])
    }

    /// Where batches are, in order; adjacent ones are one piece.
    pub(super) fn places(&self, batches: impl Iterator<Item = usize>) -> VecDeque<Place> {
        let mut places: VecDeque<Place> = VecDeque::new();
        for entry in batches.filter_map(|index| self.entries.get(index)) {
            match places.back_mut() {
                Some(last) if last.segment == entry.segment && last.range.end == entry.place.start => {
                    last.range.end = entry.place.end;
                }
                _ => places.push_back(Place { segment: entry.segment, range: entry.place.clone() }),
            }
        }
        places
    }

    /// A segment, if it is still there.
    pub(super) fn segment(&self, number: u64) -> Option<&Segment> {
        self.segments.get(usize::try_from(number.checked_sub(self.first_segment)?).ok()?)
    }

    /// Takes all segments out, with their numbers.
    pub(super) fn into_segments(self) -> impl Iterator<Item = (u64, Segment)> {
        (self.first_segment..).zip(self.segments)
    }

    /// Drops the batches that end before `log_start`, and returns the segments that become empty.
    pub(super) fn trim(&mut self, log_start: i64) -> Vec<(u64, Segment)> {
        while self.entries.front().is_some_and(|entry| entry.next_offset <= log_start) {
            self.bytes -= self.entries.pop_front().map_or(0, |entry| entry.bytes() as u64);
            self.first_entry += 1;
        }
        self.index.trim(self.first_entry);
        let in_use = self.entries.front().map_or(u64::MAX, |entry| entry.segment);
        let mut empty = Vec::new();
        while self.first_segment < in_use
            && let Some(segment) = self.segments.pop_front()
        {
            empty.push((self.first_segment, segment));
            self.first_segment += 1;
        }
        empty
    }
}

/// Where a stored batch begins.
fn base_offset(batch: &[u8]) -> i64 {
    batch.first_chunk().copied().map_or(0, i64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
    use rules::commands::BatchFacts;

    use super::*;

    fn batch(bytes: usize) -> Batch {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(NewRecord { value: Some(&vec![b'v'; bytes]), ..NewRecord::default() });
        Batch::check(builder.build().unwrap()).unwrap()
    }

    fn append(log: &mut Log, batch: &Batch, offset: i64, epoch: i32) {
        let facts = BatchFacts::of(batch);
        let header = facts.stored(offset, epoch);
        log.append(batch.bytes(), facts.record_count, &header, Times::of(&facts, 0));
    }

    #[test]
    fn what_was_appended_is_read_across_segments() {
        let mut log = Log::default();
        let sizes = [10, 9_000, 9_000, 100_000, 10, 5 << 20, 20];
        for (offset, size) in (0..).zip(sizes) {
            append(&mut log, &batch(size), offset, 7);
        }
        assert!(log.segments.len() > 3);
        for (offset, size) in (0..).zip(sizes) {
            let entry = &log.entries()[log.index_of(offset)];
            let read = Batch::check(log.read(entry)).unwrap();
            assert_eq!((read.base_offset(), read.leader_epoch()), (offset, 7));
            assert_eq!(read.bytes()[16..], batch(size).bytes()[16..]);
        }
    }

    #[test]
    fn trimming_gives_segments_back() {
        let mut log = Log::default();
        for offset in 0..100 {
            append(&mut log, &batch(10_000), offset, 0);
        }
        let segments = log.segments.len();
        let size = batch(10_000).bytes().len() as u64;
        drop(log.trim(0));
        assert_eq!(log.bytes(), 100 * size);
        drop(log.trim(98));
        assert_eq!(log.bytes(), 2 * size);
        assert!(log.segments.len() < segments);
        let last = log.read(&log.entries()[log.index_of(99)]);
        assert_eq!(Batch::check(last).unwrap().base_offset(), 99);
        drop(log.trim(100));
        assert_eq!(log.bytes(), 0);
        assert_eq!((log.entries.len(), log.segments.len()), (0, 0));
        append(&mut log, &batch(10), 100, 0);
        assert_eq!(log.read(&log.entries()[0]).len(), batch(10).bytes().len());
    }
}
