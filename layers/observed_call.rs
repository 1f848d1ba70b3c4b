//! A call's future that reports the call's outcome, without a second box.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use kernel::{Hangup, Reply, ReplyFuture};

/// The outcome of a call.
pub(crate) type CallOutcome = Result<Option<Reply>, Hangup>;

/// Gets the outcome of a call once; dropped without it when the call is dropped.
pub(crate) trait Finish: Unpin {
    /// Reports the outcome.
    fn finish(self, outcome: &CallOutcome);
}

impl<T: Finish> Finish for Option<T> {
    fn finish(self, outcome: &CallOutcome) {
        if let Some(inner) = self {
            inner.finish(outcome);
        }
    }
}

/// The future of a call below, with an observer that gets its outcome.
pub struct ObservedCall<T> {
    call: ReplyFuture,
    observer: Option<T>,
}

impl<T> ObservedCall<T> {
    /// Reports the outcome of `call` to `observer`.
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
