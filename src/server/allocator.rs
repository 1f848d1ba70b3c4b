//! How the C library's allocator is set for a broker.
//!
//! Requests and transactions come and go in pieces of about a megabyte. By default glibc hands such pieces back to the
//! kernel as soon as they are free and asks for them again at once; under a producing load the page faults of that were a
//! quarter of all work. So freed memory is kept, up to a bound per thread, and [`give_back`] returns it when there is time.
#![allow(unsafe_code)] // glibc has no safe interface for this; the proofs stand with the calls.

/// From this size on a piece is mapped for itself, and unmapped when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES_MIN: i32 = 4 << 20;
/// So much may lie free at the end of a thread's memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES_MAX: i32 = 16 << 20;

/// To be called before the first thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn set_up() {
    // SAFETY: mallopt takes two numbers and touches no memory of ours. It must not run beside another thread, and there
    // is none yet. Should it refuse a number, which it says by 0, the default stays, which is only slower.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
    }
}

/// Gives memory that is free back to the system. It takes some milliseconds, during which other threads may have to wait
/// for memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn give_back() {
    // SAFETY: malloc_trim may be called by any thread at any time, and only touches memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries have no such settings.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn set_up() {}

/// Other C libraries decide this for themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn give_back() {}
