//! A pool of bytes that the requests, or the replies, of all connections draw on.
//!
//! Nobody who is slow holds up the others:
//!
//! - An eighth of the pool is for small draws (up to a bound that the pool is made with), which wait in a queue of
//!   their own.
//! - Large frames are drawn for step by step, while their bytes arrive. As much as the largest frame has is set aside for
//!   the oldest of those that are half read, so that one can always be completed. The others share the rest, the older
//!   ones first.
//!
//! Who holds memory and does not move is recognised outside, by [`Budget::is_contended`].

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::ports::BoxFuture;

/// The part of a pool that only small draws may use.
const SMALL_SHARE: usize = 8;

/// A larger frame is drawn for in steps of so many bytes.
pub const STEP_BYTES: usize = 1 << 20;
/// Records that are read while their reply is sent come in pieces of at least this size. A reply draws for one of them when
/// it draws for its body: who holds memory never waits for more, so replies cannot wait for each other.
pub const PIECE_BYTES_MIN: usize = 64 << 10;

/// A bounded pool of bytes. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    bytes_max: usize,
    /// Draws of up to so many bytes are small.
    small_max: usize,
    /// What only small draws may use.
    small_share: usize,
    state: Mutex<State>,
}

/// Free bytes, or drawn ones, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Shares {
    /// Anything. Below 0 for a while after more was set aside than was free.
    common: isize,
    /// Small draws.
    small: isize,
    /// The oldest half-read frame.
    aside: isize,
}

#[derive(Debug, Default)]
struct State {
    free: Shares,
    /// What is set aside for the oldest half-read frame, used or not.
    aside_max: isize,
    /// Draws that wait, by number.
    waiting: BTreeMap<u64, Waiting>,
    small: VecDeque<u64>,
    large: VecDeque<u64>,
    /// The half-read frames from the oldest on, and the draws that they wait for.
    frames: BTreeMap<u64, Option<u64>>,
    next_number: u64,
}

#[derive(Debug)]
struct Waiting {
    bytes: isize,
    kind: Kind,
    granted: Option<Shares>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Small,
    Large,
    /// A step of this half-read frame.
    Step(u64),
}

impl State {
    /// Takes bytes, if they are free for this kind.
    fn take(&mut self, bytes: isize, kind: Kind) -> Option<Shares> {
        let reserve = match kind {
            Kind::Small => self.free.small,
            Kind::Step(frame) if self.frames.keys().next() == Some(&frame) => self.free.aside,
            Kind::Large | Kind::Step(_) => 0,
        };
        let common = bytes.min(self.free.common.max(0));
        let reserved = bytes - common;
        if reserved > reserve {
            return None;
        }
        let mut taken = Shares { common, ..Shares::default() };
        match kind {
            Kind::Small => taken.small = reserved,
            _ => taken.aside = reserved,
        }
        self.free.common -= taken.common;
        self.free.small -= taken.small;
        self.free.aside -= taken.aside;
        Some(taken)
    }

    fn give_back(&mut self, shares: Shares) {
        self.free.common += shares.common;
        self.free.small += shares.small;
        self.free.aside += shares.aside;
    }

    /// Whether a draw would overtake others of its kind.
    fn must_queue(&self, kind: Kind) -> bool {
        match kind {
            Kind::Small => !self.small.is_empty(),
            Kind::Large => !self.large.is_empty(),
            Kind::Step(frame) => self.frames.range(..frame).any(|(_, waiting)| waiting.is_some()),
        }
    }

    fn queue(&mut self, bytes: isize, kind: Kind) -> u64 {
        let number = self.fresh_number();
        self.waiting.insert(number, Waiting { bytes, kind, granted: None, waker: None });
        match kind {
            Kind::Small => self.small.push_back(number),
            Kind::Large => self.large.push_back(number),
            Kind::Step(frame) => {
                self.frames.insert(frame, Some(number));
            }
        }
        number
    }

    fn fresh_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn forget(&mut self, number: u64) {
        let Some(gone) = self.waiting.remove(&number) else { return };
        match gone.kind {
            Kind::Small => self.small.retain(|other| *other != number),
            Kind::Large => self.large.retain(|other| *other != number),
            Kind::Step(frame) => {
                if let Some(waiting) = self.frames.get_mut(&frame) {
                    *waiting = None;
                }
            }
        }
        self.give_back(gone.granted.unwrap_or_default());
    }

    /// Grants what can be granted, and returns who is to be woken.
    fn serve(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(number) = self.small.front().copied()
            && self.grant(number, &mut woken)
        {
            self.small.pop_front();
        }
        while let Some((frame, number)) = self.first_step()
            && self.grant(number, &mut woken)
        {
            self.frames.insert(frame, None);
        }
        while let Some(number) = self.large.front().copied()
            && self.grant(number, &mut woken)
        {
            self.large.pop_front();
        }
        woken
    }

    fn first_step(&self) -> Option<(u64, u64)> {
        self.frames.iter().find_map(|(frame, waiting)| Some((*frame, (*waiting)?)))
    }

    fn grant(&mut self, number: u64, woken: &mut Vec<Waker>) -> bool {
        let Some((bytes, kind)) = self.waiting.get(&number).map(|waiting| (waiting.bytes, waiting.kind))
        else {
            return true;
        };
        let Some(taken) = self.take(bytes, kind) else { return false };
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.granted = Some(taken);
            woken.extend(waiting.waker.take());
        }
        true
    }
}

impl Pool {
    /// Changes the state, and wakes those who can go on.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, woken) = {
            let mut state = self.state.lock();
            let result = change(&mut state);
            let woken = if state.waiting.is_empty() { Vec::new() } else { state.serve() };
            (result, woken)
        };
        woken.into_iter().for_each(Waker::wake);
        result
    }

    /// The most that a draw of this kind can ever get.
    fn most(&self, state: &State, kind: Kind) -> isize {
        let small = self.small_share as isize;
        let common = self.bytes_max as isize - small - state.aside_max;
        match kind {
            Kind::Small => common + small,
            Kind::Large => common,
            Kind::Step(_) => common + state.aside_max,
        }
    }

    fn lease(self: &Arc<Self>, held: Shares) -> Lease {
        Lease { pool: Some(Arc::clone(self)), held, others: Vec::new() }
    }

    async fn draw(self: Arc<Self>, bytes: usize, kind: Kind) -> Lease {
        let drawn = {
            let mut state = self.state.lock();
            let bytes = isize::try_from(bytes).unwrap_or(isize::MAX).min(self.most(&state, kind));
            let taken = if state.must_queue(kind) { None } else { state.take(bytes, kind) };
            taken.ok_or_else(|| state.queue(bytes, kind))
        };
        match drawn {
            Ok(held) => self.lease(held),
            Err(number) => InQueue { pool: self, number }.granted().await,
        }
    }
}

/// A place in a queue; dropping it leaves the queue.
struct InQueue {
    pool: Arc<Pool>,
    number: u64,
}

impl InQueue {
    async fn granted(self) -> Lease {
        let held = poll_fn(|context| self.poll(context)).await;
        self.pool.lease(held)
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Shares> {
        let mut state = self.pool.state.lock();
        // Nobody else removes it.
        let Some(waiting) = state.waiting.get_mut(&self.number) else { return Poll::Pending };
        match waiting.granted.take() {
            Some(held) => {
                state.waiting.remove(&self.number);
                Poll::Ready(held)
            }
            None => {
                waiting.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for InQueue {
    fn drop(&mut self) {
        self.pool.change(|state| state.forget(self.number));
    }
}

/// Bytes drawn from a [`Budget`]; released on drop.
#[derive(Debug, Default)]
pub struct Lease {
    pool: Option<Arc<Pool>>,
    held: Shares,
    others: Vec<Lease>,
}

impl Lease {
    /// Whether nothing was drawn.
    pub fn is_empty(&self) -> bool {
        self.pool.is_none() && self.others.is_empty()
    }

    /// Holds another lease, too.
    pub fn join(&mut self, other: Lease) {
        if !other.is_empty() {
            self.others.push(other);
        }
    }

    /// Gives back what is above `bytes`. Joined leases do not count.
    pub fn shrink(&mut self, bytes: usize) {
        let Some(pool) = &self.pool else { return };
        let mut kept = isize::try_from(bytes).unwrap_or(isize::MAX);
        let mut keep = |held: &mut isize| {
            let over = *held - kept.min(*held);
            *held -= over;
            kept -= *held;
            over
        };
        // Of what is scarce, the least is kept.
        let common = keep(&mut self.held.common);
        let over = Shares { common, small: keep(&mut self.held.small), aside: keep(&mut self.held.aside) };
        if over != Shares::default() {
            pool.change(|state| state.give_back(over));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            let held = mem::take(&mut self.held);
            pool.change(|state| state.give_back(held));
        }
    }
}

/// A large frame that is being read: it draws for more and more of its bytes.
#[derive(Debug)]
pub struct HalfRead {
    pool: Arc<Pool>,
    frame: u64,
}

impl HalfRead {
    /// Draws for the next bytes of the frame.
    pub fn step(&self, bytes: usize) -> BoxFuture<'static, Lease> {
        Box::pin(Arc::clone(&self.pool).draw(bytes, Kind::Step(self.frame)))
    }
}

impl Drop for HalfRead {
    fn drop(&mut self) {
        self.pool.change(|state| state.frames.remove(&self.frame));
    }
}

impl Budget {
    /// A pool of `bytes_max` bytes, in which draws of up to `small_max` are small; 0 for one queue for all.
    pub fn new(bytes_max: usize, small_max: usize) -> Self {
        let bytes_max = bytes_max.min(isize::MAX as usize);
        let small_share = if small_max == 0 { 0 } else { bytes_max / SMALL_SHARE };
        let common = (bytes_max - small_share) as isize;
        let free = Shares { common, small: small_share as isize, aside: 0 };
        let state = Mutex::new(State { free, ..State::default() });
        Self(Arc::new(Pool { bytes_max, small_max, small_share, state }))
    }

    /// A pool for requests: frames that are not read in steps are small.
    pub fn for_requests(bytes_max: usize) -> Self {
        Self::new(bytes_max, STEP_BYTES)
    }

    /// A pool for replies: the records that are read at once, and the smallest piece of those read later, are small.
    pub fn for_replies(bytes_max: usize) -> Self {
        Self::new(bytes_max, 2 * PIECE_BYTES_MIN)
    }

    /// The size of the whole pool.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// The largest frame that can be read in steps.
    pub fn frame_bytes_max(&self) -> usize {
        self.0.bytes_max - self.0.small_share
    }

    /// The largest frame that is drawn for at once.
    pub fn at_once_max(&self) -> usize {
        let most = self.0.most(&self.0.state.lock(), Kind::Small);
        usize::try_from(most).unwrap_or(0).min(self.0.small_max)
    }

    /// Bytes drawn at the moment.
    pub fn bytes_in_use(&self) -> usize {
        let free = self.0.state.lock().free;
        self.0.bytes_max.saturating_add_signed(-(free.common + free.small + free.aside))
    }

    /// Whether somebody waits for memory. Who holds some and does not move has to give way then.
    pub fn is_contended(&self) -> bool {
        !self.0.state.lock().waiting.is_empty()
    }

    /// Whether more than half of it is drawn.
    pub fn is_scarce(&self) -> bool {
        2 * self.bytes_in_use() > self.0.bytes_max
    }

    /// Sets as much aside for the oldest half-read frame as the largest frame may have, if it is not yet.
    pub fn set_aside(&self, frame_bytes_max: usize) {
        let bytes = frame_bytes_max.min(self.frame_bytes_max()) as isize;
        self.0.change(|state| {
            let more = (bytes - state.aside_max).max(0);
            state.aside_max += more;
            state.free.aside += more;
            state.free.common -= more;
        });
    }

    fn kind(&self, bytes: usize) -> Kind {
        if bytes <= self.0.small_max { Kind::Small } else { Kind::Large }
    }

    /// Waits until `bytes` are free and takes them. More than the pool can give waits for all that it can.
    pub fn take(&self, bytes: usize) -> BoxFuture<'static, Lease> {
        Box::pin(Arc::clone(&self.0).draw(bytes, self.kind(bytes)))
    }

    /// Takes `bytes` if they are free and nobody waits for them.
    pub fn try_take(&self, bytes: usize) -> Option<Lease> {
        let kind = self.kind(bytes);
        let mut state = self.0.state.lock();
        if state.must_queue(kind) {
            return None;
        }
        let bytes = isize::try_from(bytes).ok()?;
        let taken = state.take(bytes, kind)?;
        drop(state);
        Some(self.0.lease(taken))
    }

    /// A large frame of which a part has arrived: the youngest of those that are half read.
    pub fn half_read(&self) -> HalfRead {
        let mut state = self.0.state.lock();
        let frame = state.fresh_number();
        state.frames.insert(frame, None);
        drop(state);
        HalfRead { pool: Arc::clone(&self.0), frame }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    fn is_ready(future: &mut Pin<Box<dyn Future<Output = Lease> + Send>>) -> Option<Lease> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lease) => Some(lease),
            Poll::Pending => None,
        }
    }

    #[test]
    fn bytes_come_back_and_each_queue_is_fair() {
        let budget = Budget::new(16, 4);
        let first = is_ready(&mut budget.take(10)).unwrap();
        let mut large = budget.take(14);
        assert!(is_ready(&mut large).is_none() && budget.is_contended());
        let mut next = budget.take(5);
        assert!(is_ready(&mut next).is_none(), "a draw must not overtake a larger one");
        let small = is_ready(&mut budget.take(4)).unwrap();
        assert!(budget.try_take(4).is_none());
        drop(small);
        drop(first);
        let large = is_ready(&mut large).unwrap();
        assert!(is_ready(&mut next).is_none());
        drop(large);
        drop(is_ready(&mut next).unwrap());
        assert_eq!((budget.bytes_in_use(), budget.is_contended()), (0, false));
    }

    #[test]
    fn who_leaves_a_queue_leaves_nothing_behind() {
        let budget = Budget::new(16, 4);
        let first = is_ready(&mut budget.take(14)).unwrap();
        let (mut gone, mut granted, mut waits) = (budget.take(14), budget.take(14), budget.take(14));
        for future in [&mut gone, &mut granted, &mut waits] {
            assert!(is_ready(future).is_none());
        }
        drop(gone);
        drop(first);
        drop(granted); // Granted, and never looked at.
        drop(is_ready(&mut waits).unwrap());
        assert_eq!((budget.bytes_in_use(), budget.is_contended()), (0, false));
    }

    #[test]
    fn the_oldest_half_read_frame_can_always_be_completed() {
        let budget = Budget::new(160, 10);
        budget.set_aside(60); // 20 for small draws, 80 for all.
        let (old, young, third) = (budget.half_read(), budget.half_read(), budget.half_read());
        let mut held: Vec<Lease> = Vec::new();
        let mut step = |frame: &HalfRead| is_ready(&mut frame.step(10)).map(|lease| held.push(lease));
        for _ in 0..4 {
            step(&young).unwrap();
            step(&third).unwrap();
        }
        let count = (0..9).filter(|_| step(&old).is_some()).count();
        assert_eq!(count, 6, "all that was set aside");
        assert!(step(&young).is_none() && step(&third).is_none());
        assert!(is_ready(&mut budget.take(10)).is_some(), "small draws go on");
        let mut next = young.step(10);
        assert!(is_ready(&mut next).is_none());
        drop(old);
        assert!(is_ready(&mut next).is_none(), "its call may still run");
        held.clear();
        drop(is_ready(&mut next).unwrap());
        drop((young, third));
        assert_eq!(budget.bytes_in_use(), 0);
    }

    #[test]
    fn more_than_the_pool_has_is_all_that_it_can_give() {
        let budget = Budget::new(16, 4);
        assert!(budget.try_take(100).is_none());
        let mut all = is_ready(&mut budget.take(100)).unwrap();
        assert_eq!(budget.bytes_in_use(), 14);
        all.shrink(3);
        assert_eq!(budget.bytes_in_use(), 3);
        all.join(budget.try_take(2).unwrap());
        assert_eq!(budget.bytes_in_use(), 5);
        drop(all);
        assert_eq!(budget.bytes_in_use(), 0);
    }
}
