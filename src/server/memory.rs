//! Returns free memory to the system.
//!
//! What requests and replies take is bounded by their budgets, but what they have freed is not: the allocator keeps it
//! for the next ones, in pieces that may fit none of them. So the process looks at its own size as well.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use super::allocator;
use super::watchdog::Watchdog;

/// How often free memory is returned whatever the size of the process.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(10);
/// A load keeps about as much free memory between two of its requests; more is left of a load that is over.
const FREE_BYTES_KEPT: usize = 24 << 20;
/// How often the size of the process is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same while it is large.
const LOOK_INTERVAL_WHEN_LARGE: Duration = Duration::from_millis(50);
/// What a large process keeps.
const FREE_BYTES_KEPT_WHEN_LARGE: usize = 2 << 20;
/// What is in memory of the program itself under load.
const PROGRAM_BYTES: usize = 8 << 20;

/// Starts to return free memory periodically, and goes on as long as the process does. `bytes_max` is what requests and
/// replies may take.
///
/// It has a thread of its own: a task would wait its turn, for most of a second beside the very load that it is there for.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(bytes_max: usize, watchdog: &Watchdog) -> std::io::Result<()> {
    watchdog.spawn_thread("memory", move || give_back(bytes_max))
}

fn give_back(bytes_max: usize) -> String {
    // Before it is at its bound, because it grows until the next look.
    let large_bytes = bytes_max / 4 * 3 + FREE_BYTES_KEPT;
    let (size, mut given_back) = (Size::open(), Instant::now());
    loop {
        let resident_bytes = size.resident_bytes();
        let is_large = resident_bytes > large_bytes;
        let is_due = given_back.elapsed() >= GIVE_BACK_INTERVAL;
        let kept = if is_large { FREE_BYTES_KEPT_WHEN_LARGE } else { FREE_BYTES_KEPT };
        // To count what is in use costs more than to look at the size.
        if is_large || is_due {
            given_back = Instant::now();
            // What the allocator counts as free is not that: some of it the system has already got back.
            let free_bytes = resident_bytes.saturating_sub(allocator::bytes_in_use() + PROGRAM_BYTES);
            if free_bytes > kept {
                allocator::give_back();
            }
        }
        thread::sleep(if is_large { LOOK_INTERVAL_WHEN_LARGE } else { LOOK_INTERVAL });
    }
}

/// The size of the process, as the system counts it.
struct Size(Option<File>);

impl Size {
    fn open() -> Self {
        // Kept open: a broker at rest does little else than to look at this.
        Self(File::open("/proc/self/statm").ok())
    }

    /// Bytes of the process in memory; 0 where the system does not say.
    fn resident_bytes(&self) -> usize {
        let mut text = [0; 128];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let pages = read.and_then(|length| pages_in_memory(std::str::from_utf8(&text[..length]).ok()?));
        pages.map_or(0, |pages| pages.saturating_mul(PAGE_BYTES))
    }
}

/// Linux counts in pages of 4 KiB on all systems that we build for, but for a few that use larger ones: there the
/// process only seems smaller than it is.
const PAGE_BYTES: usize = 4096;

/// The second number of `statm`.
fn pages_in_memory(statm: &str) -> Option<usize> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_pages_in_memory() {
        assert_eq!(pages_in_memory("9000 1234 800 2 0 500 0\n"), Some(1234));
        assert_eq!(pages_in_memory(""), None);
        assert_eq!(pages_in_memory("9000 many"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_has_a_size() {
        assert!(Size::open().resident_bytes() > 100 << 10);
    }
}
