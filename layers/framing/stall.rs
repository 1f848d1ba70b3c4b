//! Recognises a peer that holds memory and does not move.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use kernel::clock::SPAN_MAX;
use tokio::time::{Instant, Sleep, sleep};

/// A peer that moves so many bytes per `stall_timeout` may take as long as it likes.
pub(super) const PROGRESS_BYTES: usize = 64 << 10;

/// The time in which a peer has to move [`PROGRESS_BYTES`]. It runs only while Yagura waits for the peer, never while the
/// peer waits for Yagura; a frame that arrives in one piece never starts it, and costs no timer.
#[derive(Debug)]
pub(super) struct Stall {
    limit: Duration,
    moved: usize,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, moved: 0, alarm: None }
    }

    /// Counts bytes that the peer has sent or taken.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.moved += bytes;
        if self.moved >= PROGRESS_BYTES {
            self.reset();
        }
    }

    /// Begins again: what follows is not the peer's fault, or another frame.
    pub(super) fn reset(&mut self) {
        self.moved = 0;
        self.alarm = None;
    }

    /// Whether the peer has had its time, and others wait for the memory that it holds. Until then the task is woken when
    /// that is to be looked at again.
    pub(super) fn poll_is_over(
        &mut self,
        context: &mut Context<'_>,
        is_contended: impl Fn() -> bool,
    ) -> bool {
        let mut time = self.limit;
        loop {
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(time)));
            if alarm.as_mut().poll(context).is_pending() {
                return false;
            }
            let late = Instant::now().saturating_duration_since(alarm.deadline());
            self.alarm = None;
            time = if late > SPAN_MAX {
                // This process stood still, and its timers fire before it has looked at its sockets again. The peer may
                // have moved, and has its time anew.
                self.limit
            } else if is_contended() {
                return true;
            } else {
                // Nobody waits yet.
                self.limit / 4
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn is_over(stall: &mut Stall, is_contended: bool) -> bool {
        poll_fn(|context| Poll::Ready(stall.poll_is_over(context, || is_contended))).await
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_does_not_move_while_others_wait_is_closed() {
        let mut stall = Stall::new(10 * SECOND);
        assert!(!is_over(&mut stall, true).await);
        advance(9 * SECOND).await;
        stall.moved(PROGRESS_BYTES - 1);
        assert!(!is_over(&mut stall, true).await);
        advance(2 * SECOND).await;
        assert!(!is_over(&mut stall, false).await, "nobody waits");
        assert!(!is_over(&mut stall, true).await, "it is looked at again after a while");
        advance(3 * SECOND).await;
        assert!(is_over(&mut stall, true).await);
        stall.moved(1);
        assert!(!is_over(&mut stall, true).await, "it has moved enough, and has its time again");
        advance(9 * SECOND).await;
        stall.reset();
        assert!(!is_over(&mut stall, true).await);
        advance(9 * SECOND).await;
        assert!(!is_over(&mut stall, true).await);
        advance(2 * SECOND).await;
        assert!(is_over(&mut stall, true).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_of_this_process_is_not_held_against_the_peer() {
        let mut stall = Stall::new(10 * SECOND);
        assert!(!is_over(&mut stall, true).await);
        advance(60 * SECOND).await;
        assert!(!is_over(&mut stall, true).await, "the timer fired 50 s late");
        advance(9 * SECOND).await;
        assert!(!is_over(&mut stall, true).await);
        advance(2 * SECOND).await;
        assert!(is_over(&mut stall, true).await);
    }
}
