//! The writer thread.
//!
//! It takes all queued commands, decides them one by one, and commits them in one transaction: under load
//! many commands share an fsync, and a single command does not wait for others. Answers are sent after the
//! commit. Readers do not see the new offsets before, so a record is visible only once it is durable.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::Instant;

use rules::commands::{Command, Outcome};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::commit::Committer;
use super::garbage::Purged;
use super::schema::failed;
use super::turns::{Commit, Turns};
use crate::engines::{Holds, Pending, StoreError};

/// The channel for an answer.
pub(super) type AnswerTo<T> = oneshot::Sender<Result<T, StoreError>>;

/// Queues a job, and waits for its answer.
pub(super) fn ask<T: Send + 'static>(
    jobs: &mpsc::Sender<Job>,
    job: impl FnOnce(AnswerTo<T>) -> Job,
) -> Pending<T> {
    let (answer, answered) = oneshot::channel();
    let sent = jobs.send(job(answer));
    let gone = || StoreError("the store is closed".to_owned());
    Box::pin(async move {
        sent.map_err(|_| gone())?;
        answered.await.unwrap_or_else(|_| Err(gone()))
    })
}

/// A job of the writer.
pub(super) enum Job {
    Commit(Commit),
    /// Runs one step of folding the journal; returns the last row that is folded, and the last that there is.
    Fold {
        answer: AnswerTo<(i64, i64)>,
    },
    /// Notes new garbage, as of this time in ms.
    NoteGarbage {
        now_ms: i64,
        answer: AnswerTo<()>,
    },
    /// Runs one step of deleting what was garbage at this time in ms; `None` if there is no such garbage.
    Purge {
        until_ms: i64,
        answer: AnswerTo<Option<Purged>>,
    },
    Close {
        answer: AnswerTo<()>,
    },
}

pub(super) struct Writer {
    committer: Committer,
    commit_bytes_max: usize,
    turns: Turns,
    is_failing: bool,
    is_fold_failing: bool,
}

/// Commits that share a transaction.
#[derive(Default)]
struct CommitBatch {
    commands: Vec<Command>,
    holds: Holds,
    answers: Vec<(usize, AnswerTo<Vec<Outcome>>)>,
    bytes: usize,
}

impl CommitBatch {
    fn add(&mut self, Commit { commands, holds, answer }: Commit) {
        self.bytes += commands.iter().map(Command::bytes).sum::<usize>();
        self.answers.push((commands.len(), answer));
        self.commands.extend(commands);
        self.holds.extend(holds);
    }

    fn answer(self, result: Result<Vec<Outcome>, StoreError>) {
        // Memory is released before answers are sent, so that calls waiting for memory continue first.
        drop((self.commands, self.holds));
        match result {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (count, answer) in self.answers {
                    // Sending fails if the client has disconnected.
                    let _ = answer.send(Ok(outcomes.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                for (_, answer) in self.answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

impl Writer {
    pub(super) fn new(committer: Committer, commit_bytes_max: usize) -> Self {
        Self {
            committer,
            commit_bytes_max,
            turns: Turns::default(),
            is_failing: false,
            is_fold_failing: false,
        }
    }

    pub(super) fn run(mut self, queue: &Receiver<Job>) {
        // Not before the store counts as open: it may take a while.
        self.committer.make_reserve();
        let mut next = self.wait(queue);
        while let Some(job) = next.take() {
            match job {
                Job::Commit(commit) => {
                    let mut batch = CommitBatch::default();
                    self.admit(&mut batch, commit);
                    next = self.gather(&mut batch, queue);
                    self.commit(batch);
                    self.take_turn();
                }
                Job::Fold { answer } => {
                    let _ = answer.send(self.fold_step());
                }
                Job::NoteGarbage { now_ms, answer } => {
                    let _ = answer.send(self.committer.note_garbage(now_ms));
                }
                Job::Purge { until_ms, answer } => {
                    let _ = answer.send(self.committer.purge(until_ms));
                }
                Job::Close { answer } => {
                    while self.take_turn() {}
                    return self.close(answer);
                }
            }
            self.committer.tend_room();
            if next.is_none() {
                next = self.wait(queue);
            }
        }
    }

    /// Waits for the next job. As long as there is none, those that wait for their turn have it, and the reserve grows, if it
    /// has to be written.
    fn wait(&mut self, queue: &Receiver<Job>) -> Option<Job> {
        while !self.turns.is_empty() || self.committer.is_reserve_growing() {
            match queue.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Empty) => {
                    if !self.take_turn() {
                        self.committer.grow_reserve();
                    }
                }
                Err(TryRecvError::Disconnected) => {
                    while self.take_turn() {}
                    return None;
                }
            }
        }
        queue.recv().ok()
    }

    /// Commits what waits for its turn, one call's commands; returns whether there were any.
    fn take_turn(&mut self) -> bool {
        let Some(commit) = self.turns.next() else { return false };
        let mut batch = CommitBatch::default();
        batch.add(commit);
        self.commit(batch);
        self.committer.tend_room();
        true
    }

    /// Adds a commit to a batch, unless it has to wait for its turn.
    fn admit(&mut self, batch: &mut CommitBatch, commit: Commit) {
        if let Some(commit) = self.turns.admit(commit, &self.committer) {
            batch.add(commit);
        }
    }

    /// Folds the journal, so that the next start has nothing to read, and closes the file.
    fn close(mut self, answer: AnswerTo<()>) {
        let shared = Arc::clone(&self.committer.shared);
        // What cannot be folded any more stays in the journal.
        let can_go_on = shared.health.failure().is_none();
        let folded = if can_go_on { self.committer.fold_at_close() } else { Ok(()) };
        let Committer { connection, room, .. } = self.committer;
        // Closing the last connection would do it, but readers may have theirs still open.
        let written = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
        // What the file has no room for stays in the write-ahead log: the next start reads it.
        let written = written.or_else(|error| if room.is_lack(&error) { Ok(()) } else { Err(error) });
        let closed = connection.close().map_err(|(_, error)| error);
        room.close();
        // The caller may open the file again as soon as it has the answer, though readers may not have ended yet.
        shared.lock.release();
        let _ = answer.send(folded.and(written.and(closed).map_err(|error| failed("closing", &error))));
    }

    /// Takes queued commits up to `commit_bytes_max`; returns the first job that is not a commit.
    fn gather(&mut self, batch: &mut CommitBatch, queue: &Receiver<Job>) -> Option<Job> {
        while batch.bytes < self.commit_bytes_max {
            match queue.try_recv() {
                Ok(Job::Commit(commit)) => self.admit(batch, commit),
                Ok(other) => return Some(other),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            }
        }
        None
    }

    fn commit(&mut self, batch: CommitBatch) {
        // All that were queued wait for their turn.
        if batch.answers.is_empty() {
            return;
        }
        let started = Instant::now();
        let bytes_before = self.committer.fold.bytes();
        let result = self.committer.commit_within_room(&batch.commands);
        // The end of a transaction writes much more than it holds.
        let written = self.committer.fold.bytes().saturating_sub(bytes_before);
        self.committer.room.appended(batch.bytes.max(written));
        let stats = &self.committer.shared.stats;
        match &result {
            Ok(_) => stats.committed(batch.commands.len(), batch.bytes, started.elapsed()),
            Err(_) => stats.failed(),
        }
        // Why the engine cannot go on is told once, when the process ends for it.
        let can_go_on = self.committer.shared.health.failure().is_none();
        if can_go_on {
            self.log_failure_change(result.as_ref().err());
        }
        batch.answer(result);
        // After the answer: nobody waits for it but the next commit.
        let bytes_after = self.committer.fold.bytes();
        let is_due = can_go_on && self.committer.fold.is_due(self.committer.unfolding());
        if is_due && !self.committer.lacks_room_to_fold() {
            let folded = self.committer.fold_step(bytes_after.saturating_sub(bytes_before));
            self.log_fold(folded.err());
        }
    }

    fn fold_step(&mut self) -> Result<(i64, i64), StoreError> {
        if self.committer.lacks_room_to_fold() {
            return Ok((self.committer.fold.last_seq(), self.committer.fold.last_seq()));
        }
        if self.committer.fold.has_rows() {
            self.committer.fold_step(0)?;
        }
        Ok((self.committer.fold.folded_seq(), self.committer.fold.last_seq()))
    }

    /// Logs once that the journal cannot be folded.
    fn log_fold(&mut self, failure: Option<StoreError>) {
        match &failure {
            Some(failure) if !self.is_fold_failing => {
                error!("{failure}; commits go on until the journal is too large")
            }
            None if self.is_fold_failing => info!("the store's journal is folded again"),
            _ => {}
        }
        self.is_fold_failing = failure.is_some();
    }

    /// Logs once that the store fails, and once that it works again.
    fn log_failure_change(&mut self, failure: Option<&StoreError>) {
        match failure {
            Some(failure) if !self.is_failing => {
                error!("{failure}; clients get KAFKA_STORAGE_ERROR and try again")
            }
            None if self.is_failing => info!("the store works again"),
            _ => {}
        }
        self.is_failing = failure.is_some();
    }
}
