//! What is due: retention and compaction of partitions, expiry of producers and of committed offsets.
//!
//! A run reads the due index ([`Due`]) from its beginning to now, a page at a time, so that its cost grows with what is
//! due. If nothing is, it reads one entry, however much is stored. The subjects of a page are
//!
//! 1. *taken*: each gets one entry a few minutes from now, in place of those that were found. So an entry that is put
//!    while its subject is looked at is another one, and stays; and a look that fails, or whose broker is killed, is
//!    repeated then, and holds up no other;
//! 2. looked at, all of a kind together: a kind is a file here, and a row of [`OF_PAGE`] or [`AT_THE_END`]. What a look
//!    has found is committed with the time of the next one.
//!
//! Any broker may run it at any time: a look that is repeated finds what is left.

mod cleaning;
mod complete;
mod deleted_topics;
mod offsets;
mod producers;
mod retention;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Instant;

use kernel::Ticket;
use kernel::ports::BoxFuture;
use rules::commands::{Command, DueCommand, Outcome};
use rules::documents::{DocumentKind, Due, DueKey, DueSubject};

use crate::broker::Broker;
use crate::engines::StoreError;

/// Entries that are read, and subjects that are looked at, at a time.
const PAGE: usize = 64;
/// When a subject is looked at again whose look does not end.
const AGAIN_MS: i64 = 5 * 60 * 1_000;

/// The kinds whose subjects are looked at page by page.
static OF_PAGE: [Kind; 5] =
    [retention::PARTITIONS, retention::TOPICS, cleaning::KIND, producers::KIND, offsets::KIND];
/// The kinds whose subjects are looked at once a run, all together.
static AT_THE_END: [Kind; 1] = [deleted_topics::KIND];

/// A kind of subject.
struct Kind {
    /// As [`DueSubject::kind`] has it.
    name: &'static str,
    look: for<'a> fn(Run<'a>, Vec<Taken>) -> BoxFuture<'a, Result<Maintained, StoreError>>,
}

/// A run.
#[derive(Clone, Copy)]
struct Run<'a> {
    broker: &'a Broker,
    now_ms: i64,
}

/// What a run has done, for the operator's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Maintained {
    /// Partitions that could not be read.
    pub(crate) partitions_failed: usize,
    /// Partitions whose log start offset advanced.
    pub(crate) partitions_trimmed: usize,
    /// Idle producers that expired.
    pub(crate) producers_expired: usize,
}

impl Maintained {
    fn add(&mut self, other: Self) {
        self.partitions_failed += other.partitions_failed;
        self.partitions_trimmed += other.partitions_trimmed;
        self.producers_expired += other.producers_expired;
    }
}

/// A subject that is looked at, and the time of its entry.
struct Taken {
    subject: DueSubject,
    at_ms: i64,
}

impl Taken {
    /// Ends the look. The next one is at a time in ms, or when something puts an entry.
    fn done(self, next_ms: Option<i64>, run: Run<'_>) -> Command {
        let Taken { subject, at_ms } = self;
        let to_ms = next_ms.map(|next_ms| DueKey::time(next_ms, run.now_ms));
        Command::Due(DueCommand::Move { subject, from_ms: vec![at_ms], to_ms })
    }
}

/// Puts an entry.
fn put(DueKey { at_ms, subject }: DueKey) -> Command {
    Command::Due(DueCommand::Move { subject, from_ms: Vec::new(), to_ms: Some(at_ms) })
}

/// Leaves the store to others three times as long as a page took: thousands of subjects may be new at once.
async fn rest_after(started: Instant) {
    tokio::time::sleep(3 * started.elapsed()).await;
}

/// The runs of a broker.
#[derive(Default)]
pub(crate) struct DueRuns {
    /// Whether the index is known to be complete.
    is_complete: bool,
}

impl DueRuns {
    /// Looks at what is due, and returns what was done. A part that fails does not hold up the others.
    pub(crate) async fn run(&mut self, broker: &Broker) -> (Maintained, Result<(), StoreError>) {
        let completed = if self.is_complete { Ok(()) } else { complete::ensure(broker).await };
        self.is_complete = completed.is_ok();
        let run = Run { broker, now_ms: broker.clock.now_ms() };
        let mut done = Maintained::default();
        let looked = run.look_at_all(&mut done).await;
        broker.cleaner.run_has_ended();
        broker.cleaner.forget_gone(broker).await;
        (done, completed.and(looked))
    }
}

impl Run<'_> {
    async fn look_at_all(self, done: &mut Maintained) -> Result<(), StoreError> {
        // Most runs find nothing: one entry tells.
        if self.due(None, 1).await?.is_empty() {
            return Ok(());
        }
        let (mut after, mut left, mut result) = (None, Vec::new(), Ok(()));
        loop {
            let started = Instant::now();
            let due = self.due(after.take(), PAGE).await?;
            let is_last = due.len() < PAGE;
            after = due.last().cloned();
            let (others, looked) = self.look(&OF_PAGE, self.take(due).await?, done).await;
            left.extend(others);
            result = result.and(looked);
            if is_last {
                break;
            }
            rest_after(started).await;
        }
        let (_, looked) = self.look(&AT_THE_END, left, done).await;
        result.and(looked)
    }

    /// The first entries after one that are due.
    async fn due(self, after: Option<DueKey>, limit: usize) -> Result<Vec<DueKey>, StoreError> {
        let page = self.broker.store.page::<Due>(after.as_ref().map(Due::key), limit).await?;
        let keys = page.into_iter().map(|(key, _)| key);
        Ok(keys.take_while(|key| key.at_ms <= self.now_ms).collect())
    }

    async fn take(self, due: Vec<DueKey>) -> Result<Vec<Taken>, StoreError> {
        let at_ms = self.again_ms();
        let mut subjects = BTreeMap::<DueSubject, Vec<i64>>::new();
        for DueKey { at_ms, subject } in due {
            subjects.entry(subject).or_default().push(at_ms);
        }
        let taken = subjects.keys().cloned().map(|subject| Taken { subject, at_ms }).collect();
        let moves = subjects.into_iter().map(|(subject, from_ms)| {
            Command::Due(DueCommand::Move { subject, from_ms, to_ms: Some(at_ms) })
        });
        self.commit(moves.collect()).await?;
        Ok(taken)
    }

    /// The time of the entry of a subject whose look may not end.
    fn again_ms(self) -> i64 {
        DueKey::time(self.now_ms.saturating_add(AGAIN_MS), self.now_ms)
    }

    /// Has kinds look at their subjects, each kind by itself; returns the subjects of other kinds.
    async fn look(
        self,
        kinds: &'static [Kind],
        mut taken: Vec<Taken>,
        done: &mut Maintained,
    ) -> (Vec<Taken>, Result<(), StoreError>) {
        let mut result = Ok(());
        for kind in kinds {
            let (own, others): (Vec<_>, Vec<_>) =
                taken.into_iter().partition(|taken| taken.subject.kind() == kind.name);
            taken = others;
            if own.is_empty() {
                continue;
            }
            match (kind.look)(self, own).await {
                Ok(looked) => done.add(looked),
                Err(error) => result = Err(error),
            }
        }
        (taken, result)
    }

    /// Commits commands, if there are any.
    async fn commit(self, commands: Vec<Command>) -> Result<Vec<Outcome>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.broker.store.commit(&Ticket::only(), commands).await
    }
}
