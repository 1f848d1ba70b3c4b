//! Which branches a run has taken, where the compiler was asked to count them (`make fuzz`).
//!
//! LLVM puts an eight-bit counter on each edge of what is built with `-C passes=sancov-module`, and says at start where
//! they are. All are set to zero before a run and looked at after it, so what the mutator does counts for nothing.
//! Without those flags there are none, and inputs are mutated blindly.
#![allow(unsafe_code)] // The counters are raw memory that the compiler's own code writes; the proofs are at the uses.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static STOP: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Called before `main`, with the same range, by each part that has counters.
// SAFETY: nobody else defines this name: it belongs to the sanitizers' run-time library, which is not linked.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    STOP.store(stop, Ordering::Relaxed);
}

/// The first counter, and how many there are.
fn counters() -> (*mut u8, usize) {
    let (start, stop) = (START.load(Ordering::Relaxed), STOP.load(Ordering::Relaxed));
    (start, (stop as usize).saturating_sub(start as usize))
}

/// Whether there are counters.
pub(crate) fn is_on() -> bool {
    counters().1 > 0
}

/// Sets all counters to zero.
pub(crate) fn clear() {
    let (start, length) = counters();
    if length > 0 {
        // SAFETY: the range is the section of counters that the linker has made of this program: writable, and there
        // as long as the process is. Any value is a counter's; a count that is lost meanwhile is no harm.
        unsafe { ptr::write_bytes(start, 0, length) };
    }
}

/// What all runs so far have covered.
#[derive(Default)]
pub(crate) struct Covered {
    /// The classes of counts of each counter that were seen, a bit each.
    seen: Vec<u8>,
    edges: usize,
}

impl Covered {
    /// Adds what the last run covered; returns whether any of it is new.
    pub(crate) fn merge(&mut self) -> bool {
        let (start, length) = counters();
        self.seen.resize(length, 0);
        let (mut is_new, mut at) = (false, 0);
        while at + 8 <= length {
            // SAFETY: eight bytes within the section, see `clear`; they need not be aligned.
            let eight = unsafe { start.add(at).cast::<u64>().read_unaligned() };
            if eight != 0 {
                for (step, count) in eight.to_ne_bytes().into_iter().enumerate() {
                    is_new |= self.note(at + step, count);
                }
            }
            at += 8;
        }
        while at < length {
            // SAFETY: a byte within the section.
            let count = unsafe { start.add(at).read() };
            is_new |= self.note(at, count);
            at += 1;
        }
        is_new
    }

    fn note(&mut self, counter: usize, count: u8) -> bool {
        let class = class(count);
        let seen = &mut self.seen[counter];
        if class & !*seen == 0 {
            return false;
        }
        self.edges += usize::from(*seen == 0);
        *seen |= class;
        true
    }

    /// Edges that were taken.
    pub(crate) fn edges(&self) -> usize {
        self.edges
    }
}

/// Counts that are told apart: once is not twice, but 40 times is 41 times.
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 1 << 1,
        3 => 1 << 2,
        4..=7 => 1 << 3,
        8..=15 => 1 << 4,
        16..=31 => 1 << 5,
        32..=127 => 1 << 6,
        _ => 1 << 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_new_once_for_each_class() {
        let mut covered = Covered { seen: vec![0; 2], edges: 0 };
        assert!(covered.note(0, 1) && !covered.note(0, 1));
        assert!(covered.note(0, 5) && !covered.note(0, 7));
        assert!(!covered.note(1, 0) && covered.note(1, 255));
        assert_eq!(covered.edges(), 2);
    }
}
