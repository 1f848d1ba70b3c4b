//! Retries, limited by time and number.

use std::time::Duration;

use kernel::ErrorCode;
use tokio::time::Instant;

use super::error::Error;

/// The wait before the second attempt; it doubles up to [`BACKOFF_MAX`].
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The attempts at one operation, bounded by time. An unknown topic is retried a few times only: a broker
/// with stale metadata catches up quickly, and a misspelt name should fail fast.
#[derive(Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    backoff: Duration,
    unknown_topics_left: u32,
}

impl Retry {
    /// Attempts for this long.
    pub(crate) fn within(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, backoff: BACKOFF, unknown_topics_left: 2 }
    }

    /// Retries an unknown topic this many more times: it may be about to be created.
    pub(crate) fn unknown_topics(mut self, attempts: u32) -> Self {
        self.unknown_topics_left = attempts;
        self
    }

    /// Waits before the next attempt, or returns the error when there is none.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if error.code() == Some(ErrorCode::UnknownTopicOrPartition) {
            match self.unknown_topics_left.checked_sub(1) {
                Some(left) => self.unknown_topics_left = left,
                None => return Err(error),
            }
        }
        if !error.is_retriable() || Instant::now() + self.backoff > self.deadline {
            return Err(error);
        }
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::error::About;

    #[tokio::test]
    async fn an_unknown_topic_is_not_waited_for_until_the_timeout() {
        let mut retry = Retry::within(Duration::from_secs(3600));
        let error = Error::kafka(ErrorCode::UnknownTopicOrPartition, About::default());
        assert_eq!(retry.pause(error.clone()).await, Ok(()));
        assert_eq!(retry.pause(error.clone()).await, Ok(()));
        assert_eq!(retry.pause(error.clone()).await, Err(error));
    }

    #[tokio::test]
    async fn what_cannot_succeed_later_is_not_tried_again() {
        let mut retry = Retry::within(Duration::from_secs(3600));
        let error = Error::misused("no");
        assert_eq!(retry.pause(error.clone()).await, Err(error));
        let mut over = Retry::within(Duration::ZERO);
        let error = Error::disconnected("a:1", "gone");
        assert_eq!(over.pause(error.clone()).await, Err(error));
    }
}
