//! Holds a log line that anybody on the network can cause to one a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(1);

/// Decides whether a line may be written now.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Pace {
    /// `Some` if the line may be written, with the number of lines held back since the one before it.
    pub(crate) fn allow(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_and_it_counts_the_others() {
        let pace = Pace::default();
        assert_eq!(pace.allow(), Some(0));
        assert_eq!(pace.allow(), None);
        assert_eq!(pace.allow(), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(pace.allow(), Some(2));
        assert_eq!(pace.allow(), None);
    }
}
