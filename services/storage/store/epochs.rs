//! The leader epoch of the store (KIP-320): one for all partitions, taken anew each time that the store is opened; one that
//! brokers share keeps it until it is found to be another, because it was restored.
//!
//! It is the number of seconds since 2024, or one more than the last. So a store that was restored from a backup has a
//! greater epoch than any that the original has used meanwhile, of which the backup knows nothing; a consumer that was
//! ahead of the backup asks where its epoch has ended, and learns that the log was truncated.
//!
//! An opening that appends nothing writes nothing. The first append of all records the epoch for the store, and the first
//! to each partition records it there, together with the batch. Clients are only told an epoch that is recorded, so that
//! none that they know is ever taken back. A client of the original of a restored store knows a later one, and believes
//! no metadata with an earlier one: so the epoch is recorded, too, once a client shows that it knows a later one than is
//! recorded. It need not wait until somebody appends.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::TopicPartition;
use rules::commands::Command;
use rules::documents::{Counters, DocumentKind, EpochHistory};

use super::engine::Store;
use crate::engines::{Engine, Holds, StoreError};

/// 2024-01-01, in ms since the Unix epoch.
const FIRST_MS: i64 = 1_704_067_200_000;
/// The epoch before the first one.
const NO_EPOCH: i32 = -1;

/// The epoch that is appended with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Epoch {
    /// How often the store has become another one.
    number: u64,
    /// Once it was taken.
    taken: Option<i32>,
}

impl Store {
    /// The leader epoch of every partition, as clients see it.
    pub(crate) async fn leader_epoch(&self) -> Result<i32, StoreError> {
        Ok(self.get_one::<Counters>(&()).await?.map_or(0, |counters| counters.leader_epoch))
    }

    /// The leader epoch of every partition, for a call whose client takes `believed` for it. If that is later, this
    /// opening's epoch is recorded, so that the client finds it when it asks for metadata, as it does on UNKNOWN_LEADER_EPOCH.
    pub(crate) async fn leader_epoch_against(
        &self,
        believed: Option<i32>,
        now_ms: i64,
    ) -> Result<i32, StoreError> {
        let recorded = self.leader_epoch().await?;
        if believed.is_some_and(|believed| believed > recorded) {
            let epoch = self.epoch_to_append(now_ms).await?;
            // At most once for an opening, whatever clients send.
            if epoch > recorded {
                let record = vec![Command::RecordEpoch { epoch }];
                self.engine().await?.commit(record, Holds::new()).await?;
            }
        }
        Ok(recorded)
    }

    /// The leader epoch that this opening of the store appends with.
    pub(crate) async fn epoch_to_append(&self, now_ms: i64) -> Result<i32, StoreError> {
        let began = match *self.epoch.lock() {
            Epoch { taken: Some(epoch), .. } => return Ok(epoch),
            Epoch { number, .. } => number,
        };
        let engine = self.engine().await?;
        let last = last_epoch(&*engine).await?;
        // Before anything was appended, it is 0.
        let is_kept = engine.sharing().is_some() && last > 0;
        let taken = if is_kept { last } else { next_epoch(last, now_ms) };
        let mut epoch = self.epoch.lock();
        if epoch.number != began {
            // The store has become another one meanwhile: this is not its epoch, but harmless once.
            return Ok(taken);
        }
        // Whoever was first has set it.
        Ok(*epoch.taken.get_or_insert(taken))
    }

    /// Begins another epoch of a store that brokers share.
    pub(crate) async fn begin_epoch(&self, engine: &dyn Engine, now_ms: i64) -> Result<(), StoreError> {
        let last = last_epoch(engine).await?;
        if last > 0 {
            let record = Command::RecordEpoch { epoch: next_epoch(last, now_ms) };
            engine.commit(vec![record], Holds::new()).await?;
        }
        self.forget_epoch();
        Ok(())
    }

    /// Some broker has begun an epoch for the store as it is, if this is another copy than before.
    pub(crate) fn follow_instance(&self, instance: Option<Arc<str>>) {
        let mut known = self.instance.lock();
        if *known != instance {
            *known = instance;
            drop(known);
            self.forget_epoch();
        }
    }

    fn forget_epoch(&self) {
        let mut epoch = self.epoch.lock();
        *epoch = Epoch { number: epoch.number + 1, taken: None };
    }

    /// The earlier epochs of those partitions that have had several.
    pub(crate) async fn epoch_histories(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<HashMap<TopicPartition, Arc<EpochHistory>>, StoreError> {
        // Without a history that is damaged, a consumer of its partition is told of no truncation.
        let found = self.get_each::<EpochHistory>(&partitions).await?;
        Ok(partitions.into_iter().zip(found).filter_map(|(at, history)| Some((at, history.ok()??))).collect())
    }
}

/// The epoch after that of a store.
pub(crate) async fn next_epoch_of(engine: &dyn Engine, now_ms: i64) -> Result<i32, StoreError> {
    Ok(next_epoch(last_epoch(engine).await?, now_ms))
}

/// The epoch that was last recorded.
async fn last_epoch(engine: &dyn Engine) -> Result<i32, StoreError> {
    let found = engine.get(vec![Counters::key(&())]).await?.into_iter().next().flatten();
    Ok(found.and_then(|found| found.get_arc::<Counters>()).map_or(NO_EPOCH, |counters| counters.leader_epoch))
}

fn next_epoch(last: i32, now_ms: i64) -> i32 {
    // A clock that is far off, in the next century or before 2024, must not use up all epochs.
    let seconds = i32::try_from((now_ms - FIRST_MS).div_euclid(1_000)).unwrap_or(0);
    seconds.max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_follow_the_clock_and_never_go_back() {
        let at = |seconds: i64| FIRST_MS + seconds * 1_000;
        assert_eq!(next_epoch(NO_EPOCH, at(70_000_000)), 70_000_000);
        assert_eq!(next_epoch(70_000_000, at(70_000_000)), 70_000_001, "twice within a second");
        assert_eq!(next_epoch(70_000_000, at(60_000_000)), 70_000_001, "the clock was set back");
        assert_eq!(next_epoch(NO_EPOCH, at(-5)), 0, "a clock before 2024");
        assert_eq!(next_epoch(7, at(1 << 40)), 8, "a clock in another age");
        assert_eq!(next_epoch(i32::MAX, at(0)), i32::MAX);
    }
}
