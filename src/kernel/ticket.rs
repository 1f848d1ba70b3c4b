//! The order in which the calls of one connection take effect.
//!
//! Kafka handles one call of a connection at a time; here several are in flight, to hide the latency of a
//! slow store. Clients must not notice: commands enter the engine in the order of the requests, and a read
//! waits for the earlier writes of its connection. Framing orders the replies, not this module.
//!
//! A call moves through three stages, each of which later calls may wait for. A dropped ticket has passed all
//! of them. The parts of a split call share its ticket: its stage is that of the slowest part.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::{Mutex, MutexGuard};

/// The stage of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// In the layers; its commands are not known yet.
    InLayers,
    /// Its commands are in the engine's queue.
    Entered,
    /// Its writes are durable, or it is a read.
    Settled,
    /// Its reply is being sent.
    Left,
}

/// The stage of one call.
#[derive(Debug)]
enum Progress {
    /// Not split, as nearly all calls are.
    Whole(Stage),
    /// Split: the stage of each part.
    Parts(Vec<Stage>),
}

impl Progress {
    /// The stage that all parts have reached.
    fn stage(&self) -> Stage {
        match self {
            Progress::Whole(stage) => *stage,
            Progress::Parts(stages) => stages.iter().copied().min().unwrap_or(Stage::Left),
        }
    }

    fn reach(&mut self, part: usize, stage: Stage) {
        let reached = match self {
            Progress::Whole(reached) => Some(reached),
            Progress::Parts(stages) => stages.get_mut(part),
        };
        if let Some(reached) = reached.filter(|reached| **reached < stage) {
            *reached = stage;
        }
    }
}

/// The stages of a connection's unfinished calls.
#[derive(Debug, Default)]
pub struct Lane {
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    /// The number of the first call in `stages`.
    first: u64,
    stages: VecDeque<Progress>,
    waiting: Vec<Waker>,
}

impl LaneState {
    fn all_before_are(&self, number: u64, stage: Stage) -> bool {
        let before = number.saturating_sub(self.first) as usize;
        self.stages.iter().take(before).all(|progress| progress.stage() >= stage)
    }

    fn progress(&mut self, number: u64) -> Option<&mut Progress> {
        let index = number.checked_sub(self.first)?;
        self.stages.get_mut(index as usize)
    }

    fn reach(&mut self, number: u64, part: usize, stage: Stage) {
        if let Some(progress) = self.progress(number) {
            progress.reach(part, stage);
        }
        while self.stages.front().is_some_and(|progress| progress.stage() == Stage::Left) {
            self.stages.pop_front();
            self.first += 1;
        }
    }
}

impl Lane {
    /// A lane with no calls.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The ticket of the next call.
    pub fn issue(self: &Arc<Self>) -> Ticket {
        let mut state = self.lock();
        let number = state.first + state.stages.len() as u64;
        state.stages.push_back(Progress::Whole(Stage::InLayers));
        Ticket { lane: Arc::clone(self), number, part: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock()
    }

    fn advance(&self, number: u64, part: usize, stage: Stage) {
        let wakers = {
            let mut state = self.lock();
            state.reach(number, part, stage);
            std::mem::take(&mut state.waiting)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    async fn all_before(&self, number: u64, stage: Stage) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.all_before_are(number, stage) {
                return Poll::Ready(());
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// One call's position in its connection's lane.
#[derive(Debug)]
pub struct Ticket {
    lane: Arc<Lane>,
    number: u64,
    /// The part's index, if the call was split.
    part: usize,
}

impl Ticket {
    /// A ticket of a lane with no other calls; for tests and for calls that Yagura makes itself.
    pub fn only() -> Ticket {
        Lane::new().issue()
    }

    /// Counts the calls of a connection from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Splits the ticket for the parts of one call, at least one: later calls wait for all of them.
    pub fn split(self, parts: usize) -> Vec<Ticket> {
        let part_of = |part| Ticket { lane: Arc::clone(&self.lane), number: self.number, part };
        let others: Vec<Ticket> = (1..parts).map(part_of).collect();
        if let Some(progress) = self.lane.lock().progress(self.number) {
            *progress = Progress::Parts(vec![progress.stage(); parts.max(1)]);
        }
        std::iter::once(self).chain(others).collect()
    }

    /// Whether it is that of a part of a split call.
    pub fn is_part(&self) -> bool {
        let mut state = self.lane.lock();
        state.progress(self.number).is_some_and(|progress| matches!(progress, Progress::Parts(_)))
    }

    /// Waits until every earlier call has put its commands into the engine's queue (or has none).
    pub async fn turn(&self) {
        self.lane.all_before(self.number, Stage::Entered).await;
    }

    /// Lets the next call enqueue its commands.
    pub fn entered(&self) {
        self.lane.advance(self.number, self.part, Stage::Entered);
    }

    /// Declares that this call writes nothing more: for one that waits for others before it is answered.
    pub fn settled(&self) {
        self.lane.advance(self.number, self.part, Stage::Settled);
    }

    /// Waits until all earlier writes of its connection are durable; for a write that depends on them.
    pub async fn after_earlier_writes(&self) {
        self.lane.all_before(self.number, Stage::Settled).await;
    }

    /// Declares that this call writes nothing, and waits until all earlier writes of its connection are
    /// durable.
    pub async fn after_writes(&self) {
        self.lane.advance(self.number, self.part, Stage::Settled);
        self.lane.all_before(self.number, Stage::Settled).await;
    }

    /// Waits until this call's reply is the next to be sent. A large reply is built only then, so that
    /// finished replies do not accumulate behind a slow one.
    pub async fn front(&self) {
        self.lane.all_before(self.number, Stage::Left).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.lane.advance(self.number, self.part, Stage::Left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn commands_enter_in_ticket_order_and_reads_wait_for_writes() {
        let lane = Lane::new();
        let (first, second, read) = (lane.issue(), lane.issue(), lane.issue());
        let (log, mut seen) = mpsc::unbounded_channel();

        let second_log = log.clone();
        let second = tokio::spawn(async move {
            second.turn().await;
            second_log.send("second").unwrap();
            second.entered();
        });
        let read_log = log.clone();
        let read = tokio::spawn(async move {
            read.after_writes().await;
            read_log.send("read").unwrap();
        });
        tokio::task::yield_now().await;
        assert!(seen.try_recv().is_err(), "nobody overtakes the first call");

        log.send("first").unwrap();
        first.entered();
        second.await.unwrap();
        assert!(!read.is_finished(), "the first write is not durable yet");
        drop(first);
        read.await.unwrap();
        let order: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
        assert_eq!(order, ["first", "second", "read"]);
    }

    #[tokio::test]
    async fn a_call_that_ends_early_holds_nobody_up() {
        let lane = Lane::new();
        let refused = lane.issue();
        let next = lane.issue();
        drop(refused);
        next.turn().await;
        next.after_writes().await;
        next.front().await;
    }

    #[tokio::test]
    async fn later_calls_wait_for_every_part_of_a_split_call() {
        let lane = Lane::new();
        let split = lane.issue();
        let next = Arc::new(lane.issue());
        let mut parts = split.split(2).into_iter();
        let (one, other) = (parts.next().unwrap(), parts.next().unwrap());
        let later = Arc::clone(&next);
        let later = tokio::spawn(async move { later.turn().await });
        one.entered();
        drop(one);
        tokio::task::yield_now().await;
        assert!(!later.is_finished(), "the other part has not entered");
        other.entered();
        later.await.unwrap();
        let later = tokio::spawn(async move { next.front().await });
        tokio::task::yield_now().await;
        assert!(!later.is_finished(), "the other part has not left");
        drop(other);
        later.await.unwrap();
    }
}
