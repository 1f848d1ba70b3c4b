//! Whose turn it is to compute the target assignment of a group of the consumer protocol (KIP-848).
//!
//! Computing one takes a while if the group has a thousand members, so it happens aside: once per group at a time, on a
//! thread of its own. Calls that need the target of the same group wait for it, and find it installed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rules::commands::InstallTarget;
use rules::groups::{GroupView, target_assignment};
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::engines::StoreError;

/// Targets that are computed at once, of all groups.
const AT_ONCE_MAX: usize = 2;

type Turn = tokio::sync::Mutex<()>;

/// The groups whose target is being computed.
pub(crate) struct Targets {
    turns: Mutex<HashMap<Arc<str>, Weak<Turn>>>,
    threads: Arc<Semaphore>,
}

impl Default for Targets {
    fn default() -> Self {
        Self { turns: Mutex::default(), threads: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }
}

impl Targets {
    /// Waits until nobody else is at work on the target of a group.
    pub(crate) async fn turn(&self, group: &Arc<str>) -> OwnedMutexGuard<()> {
        let turn = self.turn_of(group);
        turn.lock_owned().await
    }

    fn turn_of(&self, group: &Arc<str>) -> Arc<Turn> {
        let mut turns = self.turns.lock();
        if let Some(turn) = turns.get(group).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::<Turn>::default();
        turns.insert(Arc::clone(group), Arc::downgrade(&turn));
        turn
    }

    /// Computes the target assignment of a group; `None` if it has the one of its epoch.
    pub(crate) async fn compute(
        &self,
        view: GroupView,
        now_ms: i64,
    ) -> Result<Option<InstallTarget>, StoreError> {
        let closing = |_| StoreError("the broker is closing".to_owned());
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(closing)?;
        let computed = tokio::task::spawn_blocking(move || {
            let target = target_assignment(&view, now_ms);
            // The thread is free once the work is done, also if nobody waits for it any more.
            drop(thread);
            target
        });
        computed.await.map_err(|error| StoreError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_call_at_a_time_computes_the_target_of_a_group() {
        let targets = Targets::default();
        let (one, other): (Arc<str>, Arc<str>) = (Arc::from("g"), Arc::from("h"));
        let turn = targets.turn(&one).await;
        drop(targets.turn(&other).await);
        let waits = tokio::time::timeout(Duration::from_millis(20), targets.turn(&one)).await;
        assert!(waits.is_err());
        drop(turn);
        drop(targets.turn(&one).await);
        drop(targets.turn(&other).await);
        assert!(targets.turns.lock().len() <= 2, "nothing is kept of groups at rest");
    }
}
