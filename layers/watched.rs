//! A call's future that says what became of the call, without a second box for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kernel::{Hangup, Reply, ReplyFuture};

/// What a call became.
pub(crate) type Outcome = Result<Option<Reply>, Hangup>;

/// Is told, once, what became of a call; dropped untold when the call was given up.
pub(crate) trait Finish: Unpin {
    /// The call ended so.
    fn finish(self, outcome: &Outcome);
}

impl<T: Finish> Finish for Option<T> {
    fn finish(self, outcome: &Outcome) {
        if let Some(inner) = self {
            inner.finish(outcome);
        }
    }
}

/// The future of a call below, and who is told its outcome.
pub struct Watched<T> {
    call: ReplyFuture,
    watcher: Option<T>,
}

impl<T> Watched<T> {
    /// Tells `watcher` what becomes of `call`.
    pub(crate) fn new(call: ReplyFuture, watcher: T) -> Self {
        Self { call, watcher: Some(watcher) }
    }
}

impl<T: Finish> Future for Watched<T> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        let outcome = ready!(this.call.as_mut().poll(context));
        if let Some(watcher) = this.watcher.take() {
            watcher.finish(&outcome);
        }
        Poll::Ready(outcome)
    }
}
