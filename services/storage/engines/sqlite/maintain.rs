//! Maintenance: folding the journal and deleting garbage, in small steps.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::writer::{AnswerTo, Job, ask};
use crate::engines::StoreError;

/// One run.
pub(super) struct Maintenance {
    pub(super) jobs: Sender<Job>,
    pub(super) now_ms: i64,
    /// How long a deleted batch is kept, for reads that are under way.
    pub(super) delete_delay: Duration,
}

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

    /// Deletes what was garbage long enough ago.
    async fn purge(&self, bytes_freed: &mut u64) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        ask(&self.jobs, |answer| Job::NoteGarbage { now_ms, answer }).await?;
        let until_ms = now_ms.saturating_sub_unsigned(self.delete_delay.as_millis() as u64);
        while let Some(bytes) = self.step(|answer| Job::Purge { until_ms, answer }).await? {
            *bytes_freed += bytes;
        }
        Ok(())
    }

    /// Folds what is in the journal now. What is added meanwhile is for the next time.
    async fn fold(&self) -> Result<(), StoreError> {
        let (mut folded, last) = self.step(|answer| Job::Fold { answer }).await?;
        while folded < last {
            (folded, _) = self.step(|answer| Job::Fold { answer }).await?;
        }
        Ok(())
    }

    /// Runs a step, and waits three times as long as it took: commits have most of the time.
    async fn step<T: Send + 'static>(&self, job: impl FnOnce(AnswerTo<T>) -> Job) -> Result<T, StoreError> {
        let started = Instant::now();
        let done = ask(&self.jobs, job).await?;
        tokio::time::sleep(3 * started.elapsed()).await;
        Ok(done)
    }
}
