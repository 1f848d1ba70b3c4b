//! Rest: a broker that is alone, and that nobody calls, leaves the store alone.
//!
//! Once it has served no call for [`QUIET_AFTER_MS`], it renews its lease only every [`REST`], for longer. The first call ends
//! that, and so does another broker that joins: it tells of itself. Of several brokers none rests: each must find out in time
//! that another has died.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// How long a lease lasts at rest: so long a broker that joins may see one whose machine has died then.
pub(super) const REST_LEASE: Duration = Duration::from_secs(55);
/// How often it is renewed.
pub(super) const REST: Duration = Duration::from_secs(45);
/// After so long without a call a broker is quiet, in ms. Consumers that wait for records, and members, call more often.
const QUIET_AFTER_MS: i64 = 30_000;

/// Whether this broker is called, and whether it rests.
#[derive(Default)]
pub(super) struct Rest {
    /// Whether somebody has called since this was last looked at.
    was_called: AtomicBool,
    /// Whether the broker rests.
    rests: AtomicBool,
    /// When a look has last found that somebody has called, in ms of store time; 0 before the first look.
    last_ms: AtomicI64,
}

impl Rest {
    /// Somebody calls. Whether the broker is to be woken. This is on the path of each call: mostly it reads one flag.
    pub(super) fn call(&self) -> bool {
        if self.was_called.load(Ordering::Relaxed) {
            return false;
        }
        // In one order with those of `goes_on`: either the call is seen there, or the rest is seen here.
        self.was_called.store(true, Ordering::SeqCst);
        self.rests.load(Ordering::SeqCst)
    }

    /// Looks whether nobody has called for a while. A broker that has just started is not quiet.
    pub(super) fn is_quiet(&self, now_ms: i64) -> bool {
        let was_called = self.was_called.swap(false, Ordering::Relaxed);
        if was_called || self.last_ms.load(Ordering::Relaxed) == 0 {
            self.last_ms.store(now_ms, Ordering::Relaxed);
        }
        now_ms - self.last_ms.load(Ordering::Relaxed) >= QUIET_AFTER_MS
    }

    /// Begins to rest, or ends it.
    pub(super) fn set(&self, rests: bool) {
        self.rests.store(rests, Ordering::SeqCst);
    }

    /// Whether the broker rests.
    pub(super) fn rests(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// Whether it may rest on: nobody has called since it began.
    pub(super) fn goes_on(&self) -> bool {
        self.rests() && !self.was_called.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_quiet_once_nobody_has_called_for_a_while() {
        let rest = Rest::default();
        assert!(!rest.is_quiet(1_000), "it has just started");
        assert!(!rest.is_quiet(1_000 + QUIET_AFTER_MS - 1));
        assert!(rest.is_quiet(1_000 + QUIET_AFTER_MS));
        assert!(!rest.call(), "it does not rest yet");
        assert!(!rest.is_quiet(50_000));
        assert!(rest.is_quiet(50_000 + QUIET_AFTER_MS));
    }

    #[test]
    fn the_first_call_wakes_it() {
        let rest = Rest::default();
        rest.set(true);
        assert!(rest.rests() && rest.goes_on());
        assert!(rest.call(), "the first wakes it");
        assert!(!rest.call(), "and no other");
        assert!(!rest.goes_on(), "nor does it go on if the call came while it was about to rest");
        rest.set(false);
        assert!(!rest.rests());
    }
}
