//! The time limit for receiving a frame.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// The time left to receive a frame. It runs only while Yagura waits for the sender, never while the sender
/// waits for Yagura; a frame that arrives in one piece never starts it, and costs no timer.
#[derive(Debug)]
pub(super) struct FrameTimeout {
    limit: Duration,
    left: Duration,
    running: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl FrameTimeout {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, left: limit, running: None }
    }

    /// Starts the clock if it is stopped, and returns whether the time is over.
    pub(super) fn poll_is_over(&mut self, context: &mut Context<'_>) -> bool {
        let left = self.left;
        let (_, alarm) = self.running.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        matches!(alarm.as_mut().poll(context), Poll::Ready(()))
    }

    /// Stops the clock, until the sender is waited for again.
    pub(super) fn pause(&mut self) {
        if let Some((since, _)) = self.running.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    /// Resets the time for the next frame.
    pub(super) fn renew(&mut self) {
        self.running = None;
        self.left = self.limit;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn is_over(frame_timeout: &mut FrameTimeout) -> bool {
        poll_fn(|context| Poll::Ready(frame_timeout.poll_is_over(context))).await
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_that_it_runs_counts() {
        let mut frame_timeout = FrameTimeout::new(10 * SECOND);
        assert!(!is_over(&mut frame_timeout).await);
        advance(6 * SECOND).await;
        frame_timeout.pause();
        advance(60 * SECOND).await;
        assert!(!is_over(&mut frame_timeout).await, "four seconds are left");
        advance(3 * SECOND).await;
        assert!(!is_over(&mut frame_timeout).await);
        advance(2 * SECOND).await;
        assert!(is_over(&mut frame_timeout).await);
        frame_timeout.renew();
        assert!(!is_over(&mut frame_timeout).await);
    }
}
