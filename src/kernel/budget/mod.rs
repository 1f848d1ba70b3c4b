//! A pool of bytes that the requests, or the replies, of all connections draw on.
//!
//! Nobody who is slow holds up the others:
//!
//! - An eighth of the pool is for small draws (up to a bound that the pool is made with), which wait in a queue of
//!   their own. Small frames have arrived when they draw, so that no client can hold up this queue.
//! - Large frames are drawn for step by step, while their bytes arrive. As much as the largest frame has is set aside for
//!   the oldest of those that are half read, so that one can always be completed. The others share the rest, the older
//!   ones first; those that would take more than half of it wait until they are the oldest.
//!
//! Who holds memory and does not move is recognised outside, by [`Budget::is_contended`].

mod state;

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::ports::BoxFuture;
use state::{Kind, Shares, State};

/// The part of a pool that only small draws may use.
const SMALL_SHARE: usize = 8;
/// The part of the rest that they may use while larger draws wait for it.
const SMALL_IN_COMMON: isize = 4;

/// Frames up to this size are drawn for when they have arrived, larger ones in steps while they arrive.
pub const WHOLE_BYTES_MAX: usize = 16 << 10;
/// The first step of a large frame. The next ones are as large as what has arrived, so that what is drawn is at most twice
/// that: a thousand clients that announce a megabyte and send little do not use the pool up.
pub const STEP_BYTES_MIN: usize = 64 << 10;
/// The largest step.
pub const STEP_BYTES_MAX: usize = 1 << 20;
/// Records that are read while their reply is sent come in pieces of at least this size. A reply draws for one of them when
/// it draws for its body: who holds memory never waits for more, so replies cannot wait for each other.
pub const PIECE_BYTES_MIN: usize = 64 << 10;

/// The part of the memory for replies that is not drawn on. Replies come and go, and beside an attack the allocator keeps about
/// as much of them, in pieces that fit nothing; what is free in larger pieces is given back.
const KEPT_OF_REPLIES: usize = 4;

/// What replies can draw, so that a process stays within the memory that a setting allows them.
pub fn replies_within(memory_bytes: usize) -> usize {
    memory_bytes - memory_bytes / KEPT_OF_REPLIES
}

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
            // One call must not need all that others hold a little of.
            Kind::Large => common / 2,
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
    /// How many bytes it holds, without joined ones.
    pub fn bytes(&self) -> usize {
        let Shares { common, small, common_for_small, aside } = self.held;
        usize::try_from(common + small + common_for_small + aside).unwrap_or(0)
    }

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
        let held = &mut self.held;
        let over = Shares {
            common: keep(&mut held.common),
            small: keep(&mut held.small),
            common_for_small: keep(&mut held.common_for_small),
            aside: keep(&mut held.aside),
        };
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
        let free = Shares { common, small: small_share as isize, ..Shares::default() };
        let state = Mutex::new(State::of(free, common / SMALL_IN_COMMON));
        Self(Arc::new(Pool { bytes_max, small_max, small_share, state }))
    }

    /// A pool for requests: frames that are not read in steps are small. What they draw never waits for a client.
    pub fn for_requests(bytes_max: usize) -> Self {
        Self::new(bytes_max, WHOLE_BYTES_MAX)
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

    /// The largest frame if none is asked for that the pool can hold: others must be read beside it.
    pub fn frame_bytes_max_by_default(&self) -> usize {
        self.0.bytes_max / 2
    }

    /// Sets as much aside for the oldest half-read frame as the largest frame may have, if it is not yet.
    pub fn set_aside(&self, frame_bytes_max: usize) {
        let bytes = frame_bytes_max.min(self.frame_bytes_max()) as isize;
        self.0.change(|state| {
            let more = (bytes - state.aside_max).max(0);
            state.aside_max += more;
            state.free.aside += more;
            state.free.common -= more;
            state.small_in_common_max -= more / SMALL_IN_COMMON;
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
    pub fn half_read(&self, length: usize) -> HalfRead {
        let mut state = self.0.state.lock();
        let half = self.0.most(&state, Kind::Large);
        let is_giant = state.aside_max > 0 && isize::try_from(length).is_ok_and(|length| length > half);
        let frame = state.fresh_number();
        state.frames.insert(frame, is_giant);
        drop(state);
        HalfRead { pool: Arc::clone(&self.0), frame }
    }
}

#[cfg(test)]
mod tests;
