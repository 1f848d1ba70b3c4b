//! What a run holds of the heap, counted in the allocator.
//!
//! Memory that C code takes for itself (zstd's windows) is not seen.
#![allow(unsafe_code)] // An allocator is unsafe by its trait; the proofs are at the calls.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// More than any run may hold: an allocation beyond it fails, which ends the process before the machine suffers.
const LIVE_BYTES_MAX: usize = 1 << 30;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts bytes on their way to the system's allocator.
#[derive(Debug)]
pub struct Counting;

/// Counts more bytes, unless they would be too many.
fn grow(bytes: usize) -> bool {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if live > LIVE_BYTES_MAX {
        shrink(bytes);
        return false;
    }
    PEAK.fetch_max(live, Ordering::Relaxed);
    true
}

fn shrink(bytes: usize) {
    LIVE.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator with the caller's own arguments, so what that one promises
// is what the caller gets. A null pointer is how an allocator may refuse. Counting touches two atomics only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !grow(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's layout, of which it promises that its size is not zero.
        let pointer = unsafe { System.alloc(layout) };
        if pointer.is_null() {
            shrink(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !grow(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if pointer.is_null() {
            shrink(layout.size());
        }
        pointer
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Both may be held while the one is copied to the other.
        if !grow(bytes) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's pointer, which is from the system's allocator as all of ours are, with its layout.
        let moved = unsafe { System.realloc(pointer, layout, bytes) };
        shrink(if moved.is_null() { bytes } else { layout.size() });
        moved
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(pointer, layout) };
        shrink(layout.size());
    }
}

/// Bytes that are held now. 0 in a process whose allocator is another.
pub(crate) fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Begins to look for the most that is held; returns what is now.
pub(crate) fn mark() -> usize {
    let live = live();
    PEAK.store(live, Ordering::Relaxed);
    live
}

/// The most that was held since the mark beyond what was then.
pub(crate) fn peak_since(mark: usize) -> usize {
    PEAK.load(Ordering::Relaxed).saturating_sub(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_run_may_hold_is_refused() {
        assert!(!grow(LIVE_BYTES_MAX + 1));
        assert!(grow(100));
        assert!(live() >= 100);
        shrink(100);
    }
}
