//! Tuning of the C library's allocator for a broker.
//!
//! Requests and transactions use allocations of about a megabyte. By default glibc returns these to the
//! kernel when they are freed and maps them again on the next allocation; under a producing load the
//! resulting page faults were a quarter of all work. So freed memory is kept, up to a bound per thread, and
//! [`give_back`] returns it later.
#![allow(unsafe_code)] // glibc has no safe interface for this; the proofs are at the calls.

/// Allocations of at least this size are mapped individually, and unmapped when freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES_MIN: i32 = 4 << 20;
/// The free memory kept at the end of a thread's arena.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES_MAX: i32 = 4 << 20;
/// On one core, too, a thread that waits for memory should not hold up all others.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_MIN: i32 = 2;

/// Must be called before the first thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn set_up() {
    let arenas = arenas();
    // SAFETY: mallopt takes two numbers and touches no memory of ours. It must not run concurrently with
    // another thread, and there is none yet. If it rejects a value, by returning 0, the default stays, which
    // is only slower.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
        libc::mallopt(libc::M_ARENA_MAX, arenas);
    }
}

/// One arena per core, and no more: glibc would make eight. Each keeps free memory of its own, so that what a reader's
/// thread has freed is not used again by one that serves connections. Beside many clients that took an eighth of all
/// memory, and consumers were served a tenth slower, from memory that was not in the processor's cache.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn arenas() -> i32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i32::try_from(cores).unwrap_or(i32::MAX).max(ARENAS_MIN)
}

/// Returns free memory to the system. It takes some milliseconds, during which allocations of other threads
/// may block.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn give_back() {
    // SAFETY: malloc_trim may be called by any thread at any time, and only touches free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes of all allocations.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn bytes_in_use() -> usize {
    // SAFETY: mallinfo2 has no arguments, and locks what it reads; any thread may call it at any time.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Other C libraries do not say, and return free memory on their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn bytes_in_use() -> usize {
    usize::MAX / 2
}

/// Other C libraries have no such settings.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn set_up() {}

/// Other C libraries do this on their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back() {}
