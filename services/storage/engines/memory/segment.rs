//! A block of memory that batches are appended to.
//!
//! A log in memory constantly touches new pages, and with pages of 4 KiB the page faults take nearly half of
//! a broker's CPU time. So later segments of a log use huge pages (`MADV_HUGEPAGE`), which fault 512 times
//! less often. A small log has small segments, so that a topic of a few records does not take megabytes.

use std::ops::Range;

use memmap2::{Advice, MmapMut};

/// Size of the first segment of a log.
const BYTES_MIN: usize = 16 << 10;
/// From this size on a segment is a mapping with huge pages. Only a larger batch makes a segment larger.
const HUGE_BYTES: usize = 4 << 20;
/// A segment of which less than this part is of use is given back.
const LIVE_PART_MIN: usize = 4;

/// Memory of a fixed size, filled from its beginning.
pub(super) struct Segment {
    memory: Memory,
    used: usize,
    /// Bytes of the batches that are still of use.
    live: usize,
}

enum Memory {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Segment {
    /// The segment after a log's last one, for at least `bytes`: twice as large, up to [`HUGE_BYTES`].
    pub(super) fn after(last: Option<&Segment>, bytes: usize) -> Self {
        let wanted = last.map_or(BYTES_MIN, |last| 2 * last.bytes().len()).min(HUGE_BYTES).max(bytes);
        Self { memory: Memory::of(wanted), used: 0, live: 0 }
    }

    /// Appends if there is room, and returns where the bytes are.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Option<Range<usize>> {
        let place = self.used..self.used + bytes.len();
        self.memory.bytes_mut().get_mut(place.clone())?.copy_from_slice(bytes);
        self.used = place.end;
        self.live += bytes.len();
        Some(place)
    }

    /// Some of its bytes are of no use any more; returns whether so few are left that they should be moved.
    pub(super) fn release(&mut self, bytes: usize) -> bool {
        self.live = self.live.saturating_sub(bytes);
        LIVE_PART_MIN * self.live < self.bytes().len()
    }

    /// Takes its memory out, and leaves none.
    pub(super) fn take(&mut self) -> Segment {
        std::mem::replace(self, Self { memory: Memory::Heap(Vec::new()), used: 0, live: 0 })
    }

    /// The whole segment, including unused bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Heap(bytes) => bytes,
            Memory::Mapped(bytes) => bytes,
        }
    }

    /// The bytes at `place`, to be modified.
    pub(super) fn at_mut(&mut self, place: Range<usize>) -> &mut [u8] {
        &mut self.memory.bytes_mut()[place]
    }
}

impl Memory {
    fn of(bytes: usize) -> Self {
        // If mapping fails, or the kernel has no huge pages, the segment is only slower.
        let mapped = (bytes >= HUGE_BYTES).then(|| MmapMut::map_anon(bytes).ok()).flatten();
        let Some(mapped) = mapped else { return Memory::Heap(vec![0; bytes]) };
        #[cfg(target_os = "linux")]
        let _ = mapped.advise(Advice::HugePage);
        Memory::Mapped(mapped)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Heap(bytes) => bytes,
            Memory::Mapped(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_grow_up_to_their_bound_and_hold_any_batch() {
        let mut segment = Segment::after(None, 1);
        assert_eq!(segment.bytes().len(), BYTES_MIN);
        for _ in 0..10 {
            segment = Segment::after(Some(&segment), 1);
        }
        assert_eq!(segment.bytes().len(), HUGE_BYTES);
        assert_eq!(Segment::after(Some(&segment), HUGE_BYTES + 1).bytes().len(), HUGE_BYTES + 1);
        assert_eq!(Segment::after(None, BYTES_MIN + 1).bytes().len(), BYTES_MIN + 1);
    }

    #[test]
    fn a_segment_takes_what_has_room() {
        let mut segment = Segment::after(None, 1);
        let half = vec![7; BYTES_MIN / 2];
        assert_eq!(segment.append(&half), Some(0..half.len()));
        assert_eq!(segment.append(&vec![8; BYTES_MIN]), None);
        assert_eq!(segment.append(&half), Some(half.len()..BYTES_MIN));
        assert_eq!(segment.append(&[9]), None);
        assert_eq!(segment.bytes(), vec![7; BYTES_MIN]);
    }
}
