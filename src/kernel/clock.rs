//! The one place that reads clocks.
//!
//! There are two. The wall clock ([`Clock`]) dates what is stored: records, committed offsets, retention. People and
//! programs set it, an hour forward or back. Whatever waits, such as a session, goes by *store time* ([`StoreClock`]):
//! it never goes back, nobody can set it, and it stands still while the process does not run.
//!
//! Brokers that share a store go by the store's clock instead ([`FollowedClock`]), for both: then they agree, whatever their
//! own clocks show.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::watch;

/// The time source; a simulation supplies its own.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch, which is what Kafka's timestamps count.
    fn now_ms(&self) -> i64;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's wall clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // This is the clock that everybody else is sent to.
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        }
    }
}

/// Store time: milliseconds that only go forward, and only while the process runs. They begin somewhere, and nothing
/// follows from the store time of an earlier run.
pub trait StoreClock: Clock {
    /// How often it was noticed that the process had stood still, for longer than [`SPAN_MAX`].
    fn pauses(&self) -> watch::Receiver<u64>;
}

/// A shared store clock.
pub type SharedStoreClock = Arc<dyn StoreClock>;

/// The longest span between two looks at the machine's clock that counts as time in which the process ran. What is
/// longer was a stop: SIGSTOP, a debugger, a frozen container.
pub const SPAN_MAX: Duration = Duration::from_secs(2);

/// How often a [`SteadyClock`] looks, also if nobody asks it.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The store time of one process.
///
/// The machine's monotonic clock goes on while a process is stopped. So a thread looks at it twice a second, and of a
/// longer span only [`SPAN_MAX`] counts. On a machine without processor time to spare, store time runs slow, and waits
/// become longer; it never runs fast.
#[derive(Debug)]
pub struct SteadyClock {
    running: Mutex<Running>,
    pauses: watch::Sender<u64>,
}

impl SteadyClock {
    /// A clock that begins at the wall clock's time, and looks until it is dropped.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn start(wall: &dyn Clock) -> std::io::Result<Arc<Self>> {
        let running = Mutex::new(Running::new(wall.now_ms(), Instant::now()));
        let clock = Arc::new(Self { running, pauses: watch::Sender::new(0) });
        let weak = Arc::downgrade(&clock);
        // A thread of its own, because a busy runtime would look like a stop.
        thread::Builder::new().name("clock".to_owned()).spawn(move || look_on(&weak))?;
        Ok(clock)
    }
}

fn look_on<C: Clock>(clock: &Weak<C>) {
    while let Some(clock) = clock.upgrade() {
        clock.now_ms();
        drop(clock);
        thread::sleep(LOOK_INTERVAL);
    }
}

impl Clock for SteadyClock {
    fn now_ms(&self) -> i64 {
        let mut running = self.running.lock();
        let is_pause = running.look(Instant::now());
        if is_pause {
            // Within the lock: whoever is told a later time can see the pause.
            self.pauses.send_modify(|pauses| *pauses += 1);
        }
        running.now_ms()
    }
}

impl StoreClock for SteadyClock {
    fn pauses(&self) -> watch::Receiver<u64> {
        self.pauses.subscribe()
    }
}

/// The time in which a process ran.
#[derive(Debug)]
struct Running {
    began_ms: i64,
    ran: Duration,
    looked: Instant,
}

impl Running {
    fn new(began_ms: i64, now: Instant) -> Self {
        Self { began_ms, ran: Duration::ZERO, looked: now }
    }

    /// Counts the span since the last look. Returns whether the process has stood still in it.
    fn look(&mut self, now: Instant) -> bool {
        let span = now.saturating_duration_since(self.looked);
        self.ran += span.min(SPAN_MAX);
        self.looked = self.looked.max(now);
        span > SPAN_MAX
    }

    fn now_ms(&self) -> i64 {
        self.began_ms.saturating_add(i64::try_from(self.ran.as_millis()).unwrap_or(i64::MAX))
    }
}

/// How far two measurements of a followed clock may differ from the time in between: beyond that, somebody has set it.
const SET_BY: Duration = Duration::from_secs(2);

/// The clock of a store that several brokers share, as one of them follows it.
///
/// Between two measurements, the machine's monotonic clock goes on. Whoever stands still for long, or finds that somebody has
/// set the clock, notes a pause: waits of before mean nothing then.
#[derive(Debug)]
pub struct FollowedClock {
    followed: Mutex<Followed>,
    pauses: watch::Sender<u64>,
}

#[derive(Debug)]
struct Followed {
    /// What it showed at `at`.
    shown_ms: i64,
    at: Instant,
    looked: Instant,
    /// What was told last. It goes back only if the clock was set.
    told_ms: i64,
}

impl Followed {
    fn now_ms(&self, now: Instant) -> i64 {
        let since = now.saturating_duration_since(self.at);
        self.shown_ms.saturating_add(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl FollowedClock {
    /// A clock that showed this in ms between two moments; it looks until it is dropped.
    ///
    /// # Errors
    /// Its thread cannot be started.
    pub fn start(shown_ms: i64, asked: Instant, answered: Instant) -> std::io::Result<Arc<Self>> {
        let at = middle(asked, answered);
        let followed = Followed { shown_ms, at, looked: answered, told_ms: shown_ms };
        let clock = Arc::new(Self { followed: Mutex::new(followed), pauses: watch::Sender::new(0) });
        let weak = Arc::downgrade(&clock);
        thread::Builder::new().name("clock".to_owned()).spawn(move || look_on(&weak))?;
        Ok(clock)
    }

    /// It showed this in ms, between two moments.
    pub fn measured(&self, shown_ms: i64, asked: Instant, answered: Instant) {
        let mut followed = self.followed.lock();
        let took = answered.saturating_duration_since(asked);
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        // It showed that at some moment in between: what fits is as good as anything else that does.
        let expected_ms = followed.now_ms(answered);
        let now_ms = expected_ms.clamp(shown_ms, shown_ms.saturating_add(took_ms));
        let is_set = u128::from(now_ms.abs_diff(expected_ms)) > SET_BY.as_millis();
        (followed.shown_ms, followed.at) = (now_ms, answered);
        if is_set {
            followed.told_ms = now_ms;
            self.pauses.send_modify(|pauses| *pauses += 1);
        }
    }
}

fn middle(asked: Instant, answered: Instant) -> Instant {
    asked + answered.saturating_duration_since(asked) / 2
}

impl Clock for FollowedClock {
    fn now_ms(&self) -> i64 {
        let now = Instant::now();
        let mut followed = self.followed.lock();
        if now.saturating_duration_since(followed.looked) > SPAN_MAX {
            self.pauses.send_modify(|pauses| *pauses += 1);
        }
        followed.looked = followed.looked.max(now);
        followed.told_ms = followed.told_ms.max(followed.now_ms(now));
        followed.told_ms
    }
}

impl StoreClock for FollowedClock {
    fn pauses(&self) -> watch::Receiver<u64> {
        self.pauses.subscribe()
    }
}

/// A clock of the process until that of the store is known, if the store has one.
pub struct LaterClock<C: ?Sized> {
    own: Arc<C>,
    of_store: OnceLock<SharedStoreClock>,
}

impl<C: ?Sized> LaterClock<C> {
    /// The process's clock, for now.
    pub fn new(own: Arc<C>) -> Self {
        Self { own, of_store: OnceLock::new() }
    }

    /// The store's clock from now on; a second one changes nothing.
    pub fn set(&self, clock: SharedStoreClock) {
        let _ = self.of_store.set(clock);
    }
}

impl<C: Clock + ?Sized> Clock for LaterClock<C> {
    fn now_ms(&self) -> i64 {
        self.of_store.get().map_or_else(|| self.own.now_ms(), |clock| clock.now_ms())
    }
}

impl<C: StoreClock + ?Sized> StoreClock for LaterClock<C> {
    fn pauses(&self) -> watch::Receiver<u64> {
        self.of_store.get().map_or_else(|| self.own.pauses(), |clock| clock.pauses())
    }
}

/// A clock that changes only when advanced; for tests. It is a wall clock and a store clock.
#[derive(Debug, Default)]
pub struct ManualClock {
    now_ms: AtomicI64,
    pauses: watch::Sender<u64>,
}

impl ManualClock {
    /// A clock that shows `now_ms`.
    pub fn at(now_ms: i64) -> Self {
        Self { now_ms: AtomicI64::new(now_ms), pauses: watch::Sender::new(0) }
    }

    /// Advances the clock by `ms`, which may be negative.
    pub fn advance(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// The process has stood still, and has noticed.
    pub fn pause(&self) {
        self.pauses.send_modify(|pauses| *pauses += 1);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }
}

impl StoreClock for ManualClock {
    fn pauses(&self) -> watch::Receiver<u64> {
        self.pauses.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn time_in_which_the_process_runs_counts_whole() {
        let start = Instant::now();
        let mut running = Running::new(1_000, start);
        for step in 1..=100_u32 {
            assert!(!running.look(start + step * 500 * MS));
            assert_eq!(running.now_ms(), 1_000 + i64::from(step) * 500);
        }
        assert!(!running.look(start + 100 * 500 * MS + SPAN_MAX), "a late look is no stop");
        assert_eq!(running.now_ms(), 1_000 + 50_000 + 2_000);
    }

    #[test]
    fn a_stop_counts_little_and_is_noticed_once() {
        let start = Instant::now();
        let mut running = Running::new(0, start);
        running.look(start + 400 * MS);
        let after = start + Duration::from_secs(3_600);
        assert!(running.look(after));
        assert_eq!(running.now_ms(), 2_400);
        assert!(!running.look(after));
        assert!(!running.look(after + 100 * MS));
        assert_eq!(running.now_ms(), 2_500);
    }

    #[test]
    fn parts_of_a_millisecond_add_up_and_time_never_goes_back() {
        let start = Instant::now();
        let mut running = Running::new(7, start);
        for step in 1..=1_000_u32 {
            running.look(start + step * MS / 10);
        }
        assert_eq!(running.now_ms(), 107);
        // Two threads may look in the other order.
        assert!(!running.look(start));
        assert_eq!(running.now_ms(), 107);
        running.look(start + 101 * MS);
        assert_eq!(running.now_ms(), 108, "no span counts twice");
    }

    #[test]
    fn a_steady_clock_begins_at_the_wall_clock_and_leaves_it() {
        let wall = ManualClock::at(5_000);
        let start = Instant::now();
        let clock = SteadyClock::start(&wall).unwrap();
        let first = clock.now_ms();
        // A test may stand still at any place, on a machine that is busy with others.
        let passed_ms = start.elapsed().as_millis() as i64;
        assert!((5_000..=5_000 + passed_ms).contains(&first), "{first} after {passed_ms} ms");
        wall.advance(-3_600_000);
        assert!(clock.now_ms() >= first);
        let pauses = *clock.pauses().borrow();
        assert!(pauses == 0 || start.elapsed() > SPAN_MAX, "{pauses} pauses in {:?}", start.elapsed());
    }

    #[test]
    fn a_followed_clock_is_corrected_and_goes_back_only_if_it_was_set() {
        let start = Instant::now();
        let clock = FollowedClock::start(1_000_000, start, start).unwrap();
        let passed_ms = || start.elapsed().as_millis() as i64;
        // It was a little fast: time stands still until the store's has caught up.
        let before = clock.now_ms();
        clock.measured(1_000_000 - 1_000, start, start);
        assert_eq!(clock.now_ms(), before);
        assert_eq!(*clock.pauses().borrow(), 0);
        clock.measured(1_000_000 + 500, start, start);
        let now = clock.now_ms();
        assert!((1_000_500..=1_000_500 + passed_ms()).contains(&now), "{now}");
        // Somebody has set it an hour back.
        clock.measured(1_000_000 - 3_600_000, start, start);
        let now = clock.now_ms();
        assert!((-2_600_000..=-2_600_000 + passed_ms()).contains(&now), "{now}");
        assert_eq!(*clock.pauses().borrow(), 1);
        // An answer that took long says little: it does not move the clock as long as it fits.
        let (began, before) = (Instant::now(), clock.now_ms());
        clock.measured(before - 20_000, began, began + Duration::from_secs(30));
        let now = clock.now_ms();
        let passed_ms = began.elapsed().as_millis() as i64;
        assert!((before..=before + 30_000 + passed_ms).contains(&now), "{before} {now}");
    }

    #[test]
    fn the_stores_clock_takes_the_place_of_the_process_s() {
        let (own, of_store) = (Arc::new(ManualClock::at(5)), Arc::new(ManualClock::at(9_000)));
        let (wall, time) = (
            LaterClock::<dyn Clock>::new(Arc::clone(&own) as _),
            LaterClock::<dyn StoreClock>::new(Arc::clone(&own) as _),
        );
        assert_eq!((wall.now_ms(), time.now_ms()), (5, 5));
        wall.set(Arc::clone(&of_store) as _);
        time.set(Arc::clone(&of_store) as _);
        of_store.pause();
        assert_eq!((wall.now_ms(), time.now_ms(), *time.pauses().borrow()), (9_000, 9_000, 1));
    }

    #[test]
    fn the_thread_of_a_steady_clock_ends_with_it() {
        let clock = SteadyClock::start(&SystemClock).unwrap();
        let weak = Arc::downgrade(&clock);
        drop(clock);
        // The thread may hold it for the moment of a look.
        while weak.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
