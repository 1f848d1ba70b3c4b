//! A call's future that says what became of the call, without a second box for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kernel::{Hangup, Reply, ReplyFuture};

/// What a call became.
pub(crate) type CallOutcome = Result<Option<Reply>, Hangup>;

/// Is told, once, what became of a call; dropped untold when the call was given up.
pub(crate) trait Finish: Unpin {
    /// The call ended so.
    fn finish(self, outcome: &CallOutcome);
}

impl<T: Finish> Finish for Option<T> {
    fn finish(self, outcome: &CallOutcome) {
        if let Some(inner) = self {
            inner.finish(outcome);
        }
    }
}

/// The future of a call below, with an observer that is told its outcome.
pub struct ObservedCall<T> {
    call: ReplyFuture,
    observer: Option<T>,
}

impl<T> ObservedCall<T> {
    /// Tells `observer` what becomes of `call`.
    pub(crate) fn new(call: ReplyFuture, observer: T) -> Self {
        Self { call, observer: Some(observer) }
    }
}

impl<T: Finish> Future for ObservedCall<T> {
    type Output = CallOutcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CallOutcome> {
        let this = self.get_mut();
        let outcome = ready!(this.call.as_mut().poll(context));
        if let Some(observer) = this.observer.take() {
            observer.finish(&outcome);
        }
        Poll::Ready(outcome)
    }
}
