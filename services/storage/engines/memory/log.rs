//! The record batches of one partition, copied into segments of memory.
//!
//! The copy pays off: the buffer of a request can be reused at once while it is in the CPU caches, and a
//! batch of a hundred bytes does not keep a megabyte buffer allocated.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use kernel::records::{self, StoredHeader};

use rules::commands::CleanedRun;

use super::index::{Index, Span};
use super::segment::Segment;
use crate::engines::resident::Times;
use crate::engines::searched::Searched;

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
    /// Entries without bytes: batches that have become part of others.
    merged: usize,
}

/// Merged entries that may stay, beside as many as there are others.
const MERGED_MAX: usize = 1_024;

/// One batch.
pub(super) struct Entry {
    pub(super) next_offset: i64,
    pub(super) times: Times,
    segment: u64,
    place: Range<usize>,
    /// Its bytes, if a cleaner has replaced them: there are none in the segment then.
    own: Option<Bytes>,
}

/// A range of a segment.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The segment's number.
    pub(super) segment: u64,
    /// The bytes in it.
    pub(super) range: Range<usize>,
    /// The bytes themselves, if they are in no segment.
    pub(super) own: Option<Bytes>,
}

impl Entry {
    /// Bytes of the batch. Without any it is no batch, but one that has become part of the one before it.
    pub(super) fn bytes(&self) -> usize {
        self.own.as_ref().map_or(self.place.len(), Bytes::len)
    }

    fn span(&self) -> Span {
        Span { times: self.times, bytes: self.bytes() as u64, next: self.next_offset }
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
        let entry = Entry {
            next_offset: header.base_offset + i64::from(record_count),
            times,
            segment: self.first_segment + self.segments.len() as u64 - 1,
            place,
            own: None,
        };
        self.index.push(entry.span());
        self.entries.push_back(entry);
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

    /// The same from the batch on that holds an offset; returns what is known of the batch.
    pub(super) fn search_at(
        &self,
        offset: i64,
        mut is_over: impl FnMut(&Searched) -> bool,
    ) -> Option<Searched> {
        let searched = |span: &Span| Searched { times: span.times, bytes: span.bytes, next: span.next };
        let from = self.index_of(offset) as u64;
        let found = self.search_from(from, |span| is_over(&searched(span)))?;
        self.entries.get(found).map(|entry| searched(&entry.span()))
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
        let batch = |number: u64| self.entries[(number - self.first_entry) as usize].span();
        let found = self.index.search(self.first_entry + first, batch, is_over)?;
        Some((found - self.first_entry) as usize)
    }

    /// A copy of a batch.
    pub(super) fn read(&self, entry: &Entry) -> Bytes {
        if let Some(own) = &entry.own {
            return own.clone();
        }
        let segment = &self.segments[(entry.segment - self.first_segment) as usize];
        Bytes::copy_from_slice(&segment.bytes()[entry.place.clone()])
    }

    /// Where batches are, in order; adjacent ones are one piece.
    pub(super) fn places(&self, batches: impl Iterator<Item = usize>) -> VecDeque<Place> {
        let mut places: VecDeque<Place> = VecDeque::new();
        for entry in batches.filter_map(|index| self.entries.get(index)) {
            match places.back_mut() {
                _ if entry.bytes() == 0 => {}
                Some(last)
                    if last.segment == entry.segment
                        && last.range.end == entry.place.start
                        && last.own.is_none()
                        && entry.own.is_none() =>
                {
                    last.range.end = entry.place.end;
                }
                _ => places.push_back(Place {
                    segment: entry.segment,
                    range: entry.own.as_ref().map_or(entry.place.clone(), |own| 0..own.len()),
                    own: entry.own.clone(),
                }),
            }
        }
        places
    }

    /// A segment, if it is still there.
    pub(super) fn segment(&self, number: u64) -> Option<&Segment> {
        let segment = self.segments.get(usize::try_from(number.checked_sub(self.first_segment)?).ok()?);
        segment.filter(|segment| !segment.bytes().is_empty())
    }

    /// Takes all segments out, with their numbers.
    pub(super) fn into_segments(self) -> impl Iterator<Item = (u64, Segment)> {
        (self.first_segment..).zip(self.segments).filter(|(_, segment)| !segment.bytes().is_empty())
    }

    /// Replaces batches, and returns the segments of which too little is left. Of several that become one, the others stay as
    /// entries without bytes, so that the numbers of those that follow do not change.
    pub(super) fn clean(&mut self, run: &CleanedRun) -> Vec<(u64, Segment)> {
        let changed = self.index_of(run.from)..self.index_of(run.until);
        let mut released = Vec::new();
        let mut batches = run.batches.iter().peekable();
        // Where the old batch begins, and where the new one before it ends.
        let (mut base, mut end) = (run.from, run.from);
        for entry in self.entries.range_mut(changed.clone()) {
            let (bytes_was, next_was) = (entry.bytes() as u64, entry.next_offset);
            if bytes_was == 0 {
                entry.next_offset = end;
                continue;
            }
            if entry.own.take().is_none() {
                released.push((entry.segment, std::mem::replace(&mut entry.place, 0..0).len()));
            }
            if let Some(batch) = batches.next_if(|batch| batch.base_offset <= base) {
                entry.own = Some(Bytes::copy_from_slice(&batch.payload.0));
                entry.times = entry.times.replaced(batch.max_timestamp, batch.has_records);
                end = batch.next_offset;
            } else {
                entry.times = Times::default();
                self.merged += 1;
            }
            entry.next_offset = end;
            self.bytes = self.bytes + entry.bytes() as u64 - bytes_was;
            base = next_was;
        }
        let numbers = self.first_entry + changed.start as u64..self.first_entry + changed.end as u64;
        let (first, entries) = (self.first_entry, &self.entries);
        let span = |number: u64| Some(entries.get(usize::try_from(number.checked_sub(first)?).ok()?)?.span());
        self.index.refresh(&numbers, span);
        self.drop_merged();
        self.give_back(released)
    }

    /// Drops merged entries once most are, so that a log that is cleaned again and again does not grow, and searches do not
    /// step over ever more of them. Nothing but the index knows numbers of entries.
    fn drop_merged(&mut self) {
        if self.merged <= MERGED_MAX.max(self.entries.len() / 2) {
            return;
        }
        self.entries.retain(|entry| entry.bytes() > 0);
        (self.first_entry, self.merged, self.index) = (0, 0, Index::default());
        self.entries.iter().for_each(|entry| self.index.push(entry.span()));
    }

    /// Moves what is left of segments of which little is of use any more, and returns these.
    fn give_back(&mut self, released: Vec<(u64, usize)>) -> Vec<(u64, Segment)> {
        let mut given_back = Vec::new();
        for (number, bytes) in released {
            let last = self.segments.len().saturating_sub(1);
            let Some(index) = number.checked_sub(self.first_segment).map(|index| index as usize) else {
                continue;
            };
            let Some(segment) = self.segments.get_mut(index) else { continue };
            // The last one is still appended to.
            if !segment.release(bytes) || index == last || segment.bytes().is_empty() {
                continue;
            }
            let taken = segment.take();
            let from = self.entries.partition_point(|entry| entry.segment < number);
            let until = self.entries.partition_point(|entry| entry.segment <= number);
            for entry in self.entries.range_mut(from..until).filter(|entry| !entry.place.is_empty()) {
                let place = std::mem::replace(&mut entry.place, 0..0);
                entry.own = Some(Bytes::copy_from_slice(&taken.bytes()[place]));
            }
            given_back.push((number, taken));
        }
        given_back
    }

    /// Drops the batches that end before `log_start`, and returns the segments that become empty.
    pub(super) fn trim(&mut self, log_start: i64) -> Vec<(u64, Segment)> {
        while self.entries.front().is_some_and(|entry| entry.next_offset <= log_start) {
            let bytes = self.entries.pop_front().map_or(0, |entry| entry.bytes());
            self.bytes -= bytes as u64;
            self.merged -= usize::from(bytes == 0);
            self.first_entry += 1;
        }
        self.index.trim(self.first_entry);
        let in_use = self.entries.front().map_or(u64::MAX, |entry| entry.segment);
        let mut empty = Vec::new();
        while self.first_segment < in_use
            && let Some(segment) = self.segments.pop_front()
        {
            // One that was given back may be kept already.
            if !segment.bytes().is_empty() {
                empty.push((self.first_segment, segment));
            }
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
