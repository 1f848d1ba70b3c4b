//! The calls in flight of one connection, in request order.
//!
//! Each wake-up polls all running calls. For the few calls that a connection has in flight, that is cheaper
//! than a waker and an allocation for each.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use kernel::panics::caught;
use kernel::{Hangup, Header, Reply, ReplyFuture};

/// The outcome of a call.
pub(super) enum EndedCall {
    Reply(Option<Reply>),
    HungUp(Hangup),
    Panicked(String),
}

/// Calls from the oldest to the newest.
#[derive(Default)]
pub(super) struct Calls {
    slots: VecDeque<Slot>,
}

struct Slot {
    header: Header,
    state: State,
}

enum State {
    Running(ReplyFuture),
    Ended(EndedCall),
}

impl From<Result<Option<Reply>, Hangup>> for EndedCall {
    fn from(result: Result<Option<Reply>, Hangup>) -> Self {
        match result {
            Ok(reply) => EndedCall::Reply(reply),
            Err(hangup) => EndedCall::HungUp(hangup),
        }
    }
}

impl Calls {
    /// The number of calls not yet taken.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Starts a call by entering the stack.
    pub(super) fn start(&mut self, header: Header, enter: impl FnOnce() -> ReplyFuture) {
        // The code of layers before their first await runs here.
        let state = match caught(enter) {
            Ok(future) => State::Running(future),
            Err(panic) => State::Ended(EndedCall::Panicked(panic)),
        };
        self.slots.push_back(Slot { header, state });
    }

    /// Adds a request that is answered immediately, in its order.
    pub(super) fn answer(&mut self, header: Header, answer: Result<Option<Reply>, Hangup>) {
        self.slots.push_back(Slot { header, state: State::Ended(EndedCall::from(answer)) });
    }

    /// Polls all calls until the oldest has ended. Dropping this future cancels none of them.
    pub(super) async fn oldest_ended(&mut self) {
        poll_fn(|context| self.poll_oldest(context)).await;
    }

    /// Takes the oldest call, if it has ended.
    pub(super) fn take_ended(&mut self) -> Option<(Header, EndedCall)> {
        let oldest = self.slots.pop_front()?;
        match oldest.state {
            State::Ended(outcome) => Some((oldest.header, outcome)),
            State::Running(_) => {
                self.slots.push_front(oldest);
                None
            }
        }
    }

    /// Drops all calls.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    fn poll_oldest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for slot in &mut self.slots {
            slot.poll(context);
        }
        match self.slots.front() {
            Some(Slot { state: State::Ended(_), .. }) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Slot {
    fn poll(&mut self, context: &mut Context<'_>) {
        let State::Running(future) = &mut self.state else { return };
        // A call that panicked is never polled again: its outcome replaces it.
        let outcome = match caught(|| future.as_mut().poll(context)) {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(result)) => EndedCall::from(result),
            Err(panic) => EndedCall::Panicked(panic),
        };
        self.state = State::Ended(outcome);
    }
}
