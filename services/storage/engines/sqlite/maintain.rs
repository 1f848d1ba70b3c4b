//! Maintenance: retention, idle producers, folding the journal, and deleting garbage, in small steps.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rules::commands::Command;
use rules::documents::{Document, DocumentKind, ProducerDocument, TopicDocument};

use super::reader::Readers;
use super::writer::{AnswerTo, Job, ask};
use crate::engines::resident::{PRODUCER_EXPIRY_MS, RetentionLimits, expire_producer};
use crate::engines::{Maintained, StoreError};

/// Documents that are looked at, and partitions that are looked up, at a time.
const PAGE: usize = 256;

/// One run.
pub(super) struct Maintenance {
    pub(super) jobs: Sender<Job>,
    pub(super) readers: Readers,
    pub(super) now_ms: i64,
    /// How long a deleted batch is kept, for reads that are under way.
    pub(super) delete_delay: Duration,
}

impl Maintenance {
    pub(super) async fn run(self) -> Result<Maintained, StoreError> {
        let mut maintained = Maintained::default();
        // What can be freed is freed first: on a full disk nothing else may work. Each part fails by itself.
        let purged = self.purge(&mut maintained).await;
        let retained = self.retain(&mut maintained).await;
        let expired = self.expire_producers(&mut maintained).await;
        let folded = self.fold().await;
        let again = self.purge(&mut maintained).await;
        purged.and(retained).and(expired).and(folded).and(again).map(|()| maintained)
    }

    /// Deletes what was garbage long enough ago.
    async fn purge(&self, maintained: &mut Maintained) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        ask(&self.jobs, |answer| Job::NoteGarbage { now_ms, answer }).await?;
        let until_ms = now_ms.saturating_sub_unsigned(self.delete_delay.as_millis() as u64);
        while let Some(bytes) = self.step(|answer| Job::Purge { until_ms, answer }).await? {
            maintained.bytes_freed += bytes;
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

    async fn retain(&self, maintained: &mut Maintained) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let topics = self.readers.scan(TopicDocument::prefix(), after.take(), PAGE).await?;
            after = topics.last().map(|(key, _)| key.clone());
            if topics.is_empty() {
                return Ok(());
            }
            let topics = topics.iter().filter_map(|(_, document)| document.get::<TopicDocument>());
            let limited: Vec<_> = topics.flat_map(RetentionLimits::of_partitions).collect();
            for limited in limited.chunks(PAGE) {
                let retained = self.readers.retain(limited.to_vec(), self.now_ms).await?;
                maintained.partitions_failed += retained.failed;
                maintained.partitions_trimmed += retained.starts.len();
                let advance = |(partition, offset)| Command::AdvanceLogStart { partition, offset };
                self.commit(retained.starts.into_iter().map(advance).collect()).await?;
            }
        }
    }

    async fn expire_producers(&self, maintained: &mut Maintained) -> Result<(), StoreError> {
        let unused_since_ms = self.now_ms - PRODUCER_EXPIRY_MS;
        let is_idle = |document: &Document| {
            document.get::<ProducerDocument>().is_some_and(|producer| producer.last_ms <= unused_since_ms)
        };
        let mut after = None;
        loop {
            let producers = self.readers.scan(ProducerDocument::prefix(), after.take(), PAGE).await?;
            after = producers.last().map(|(key, _)| key.clone());
            if producers.is_empty() {
                return Ok(());
            }
            let idle = producers.iter().filter(|(_, document)| is_idle(document));
            let expired: Vec<_> = idle.filter_map(|(key, _)| expire_producer(key, unused_since_ms)).collect();
            maintained.producers_expired += expired.len();
            self.commit(expired).await?;
        }
    }

    async fn commit(&self, commands: Vec<Command>) -> Result<(), StoreError> {
        if !commands.is_empty() {
            ask(&self.jobs, |answer| Job::Commit { commands, holds: Vec::new(), answer }).await?;
        }
        Ok(())
    }
}
