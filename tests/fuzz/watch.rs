//! Ends the process when one input takes too long.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than the slowest input takes, also unoptimized and on a machine that is busy with others.
const INPUT_TIME_MAX: Duration = Duration::from_secs(60);

/// When the current input began, in ms since the first look at the clock; 0 if there is none.
static BEGAN_MS: AtomicU64 = AtomicU64::new(0);

fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64 + 1
}

/// Starts to watch.
pub(crate) fn start() {
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(500));
            let began = BEGAN_MS.load(Ordering::Relaxed);
            if began != 0 && now_ms().saturating_sub(began) > INPUT_TIME_MAX.as_millis() as u64 {
                eprintln!("fuzz: the input takes longer than {INPUT_TIME_MAX:?}");
                std::process::abort();
            }
        }
    });
}

/// An input begins.
pub(crate) fn begin() {
    BEGAN_MS.store(now_ms(), Ordering::Relaxed);
}

/// It has ended.
pub(crate) fn end() {
    BEGAN_MS.store(0, Ordering::Relaxed);
}
