//! Maintenance: folding the journal and deleting garbage, in small steps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::Shared;
use super::garbage::Purged;
use super::writer::{Job, ask};
use crate::engines::StoreError;

/// One run.
pub(super) struct Maintenance {
    pub(super) jobs: Sender<Job>,
    pub(super) now_ms: i64,
    pub(super) shared: Arc<Shared>,
}

/// How many times as long as it took nothing should follow a step while the store takes no records.
const REST_IF_FULL: u32 = 1;

impl Maintenance {
    /// Returns the bytes that were freed.
    pub(super) async fn run(self) -> Result<u64, StoreError> {
        let mut bytes_freed = 0;
        // What can be freed is freed first: on a full disk nothing else may work. Each part fails by itself.
        let purged = self.purge(&mut bytes_freed).await;
        let folded = self.fold().await;
        let again = self.purge(&mut bytes_freed).await;
        purged.and(folded).and(again).map(|()| bytes_freed)
    }

    /// Deletes what was garbage long enough ago; without room for records, all garbage, and faster.
    async fn purge(&self, bytes_freed: &mut u64) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        ask(&self.jobs, |answer| Job::NoteGarbage { now_ms, answer }).await?;
        let until_ms = now_ms.saturating_sub_unsigned(self.shared.delete_delay.as_millis() as u64);
        let begun = Instant::now();
        loop {
            let started = Instant::now();
            // What it does last may be late by then.
            let is_full = self.shared.room.is_full();
            let until_ms = if is_full { now_ms } else { until_ms };
            let until_ms = until_ms.saturating_add_unsigned(begun.elapsed().as_millis() as u64);
            if is_full {
                self.shared.is_purged_early.store(true, Ordering::Relaxed);
            }
            let purged = ask(&self.jobs, |answer| Job::Purge { until_ms, answer }).await?;
            let Some(Purged { bytes, rest }) = purged else { return Ok(()) };
            *bytes_freed += bytes;
            let rest = if is_full { REST_IF_FULL } else { rest };
            tokio::time::sleep(rest * started.elapsed()).await;
        }
    }

    /// Folds what is in the journal now. What is added meanwhile is for the next time.
    async fn fold(&self) -> Result<(), StoreError> {
        let (mut folded, last) = self.fold_step().await?;
        while folded < last {
            (folded, _) = self.fold_step().await?;
        }
        Ok(())
    }

    /// Runs a step, and waits three times as long as it took: commits have most of the time.
    async fn fold_step(&self) -> Result<(i64, i64), StoreError> {
        let started = Instant::now();
        let folded = ask(&self.jobs, |answer| Job::Fold { answer }).await?;
        tokio::time::sleep(3 * started.elapsed()).await;
        Ok(folded)
    }
}
