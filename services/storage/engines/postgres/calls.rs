//! Calls that wait to be committed, and which of them are committed together.
//!
//! Calls that share a lock are committed in the order in which they came; all others side by side, each batch on a connection
//! of its own. A call whose locks somebody else holds steps aside, with those that share one with it, and waits alone.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use rules::commands::{Command, Outcome};
use rules::documents::Key;
use rules::{Loaded, WorkingSet, needs};
use tokio::sync::{Notify, oneshot};

use super::locks::{Lock, Wait};
use super::outbox::FromOutbox;
use crate::engines::{Holds, StoreError};

/// Calls that are looked at for one batch: those behind wait until some of these are done.
const LOOKED_AT_MAX: usize = 4_096;
/// Commands of a batch.
const COMMANDS_MAX: usize = 4_096;
/// Bytes of a document's key that fit into an index of Postgres, a third of a page.
pub(super) const KEY_BYTES_MAX: usize = 2_600;

/// The channel for an answer.
pub(super) type AnswerTo<T> = oneshot::Sender<Result<T, StoreError>>;

/// The commands of one call.
pub(super) struct Call {
    pub(super) commands: Vec<Command>,
    pub(super) holds: Holds,
    pub(super) answer: AnswerTo<Vec<Outcome>>,
    /// The documents that they are known to need.
    pub(super) keys: Vec<Key>,
    /// What is locked for them.
    pub(super) locks: BTreeSet<Lock>,
    /// Whether it waits for a lock that somebody else holds.
    pub(super) wait: Wait,
    /// Whether it is committed alone, because one of those that it was with has failed.
    pub(super) is_alone: bool,
    /// Whether a key does not fit into an index.
    pub(super) has_long_keys: bool,
    /// The messages of each command, if they come from the outbox.
    pub(super) from_outbox: Vec<FromOutbox>,
    bytes: usize,
}

/// Whether a key does not fit into an index.
pub(super) fn is_long(key: &Key) -> bool {
    key.as_str().len() > KEY_BYTES_MAX
}

impl Call {
    pub(super) fn new(commands: Vec<Command>, holds: Holds, answer: AnswerTo<Vec<Outcome>>) -> Self {
        let nothing = Loaded::default();
        let set = WorkingSet::new(&nothing);
        let missing = commands.iter().filter_map(|command| needs(command, &set).into_missing());
        let keys: Vec<Key> = missing.flat_map(|missing| missing.keys).collect();
        let locks = keys.iter().filter_map(Lock::of).collect();
        let bytes = commands.iter().map(Command::bytes).sum();
        let has_long_keys = keys.iter().any(is_long);
        let (wait, is_alone, from_outbox) = (Wait::No, false, Vec::new());
        Self { commands, holds, answer, keys, locks, wait, is_alone, has_long_keys, from_outbox, bytes }
    }

    /// The same, whose commands append messages of the outbox.
    pub(super) fn appending(self, from_outbox: Vec<FromOutbox>) -> Self {
        Self { from_outbox, ..self }
    }

    /// Whether one of its commands needs a document whose key does not fit into an index.
    pub(super) fn needs_long_key(&self, command: &Command) -> bool {
        // Mostly no command of a call does.
        self.has_long_keys
            && needs(command, &WorkingSet::new(&Loaded::default()))
                .into_missing()
                .is_some_and(|missing| missing.keys.iter().any(is_long))
    }

    /// Whether nobody waits for it any more, and it must not take effect late, because its client goes on with the same
    /// transactional id elsewhere.
    pub(super) fn is_called_off(&self) -> bool {
        self.answer.is_closed() && self.commands.iter().any(|command| command.transactional_id().is_some())
    }

    fn shares(&self, locks: &HashSet<Lock>) -> bool {
        self.locks.iter().any(|lock| locks.contains(lock))
    }

    /// Whether one with the same lock goes before it.
    fn is_behind(&self, state: &State) -> bool {
        self.locks.iter().any(|lock| state.busy.contains(lock) || state.claimed.contains_key(lock))
    }

    /// Answers, after the memory that it holds was given back: calls that wait for memory go on first.
    pub(super) fn answer(self, result: Result<Vec<Outcome>, StoreError>) {
        let Self { commands, holds, answer, .. } = self;
        drop((commands, holds));
        // Sending fails if the client has disconnected.
        let _ = answer.send(result);
    }
}

/// The calls that wait.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Call>,
    /// The locks of the calls that wait, and of how many each is one.
    claimed: HashMap<Lock, usize>,
    /// The locks of the calls that are being committed.
    busy: HashSet<Lock>,
    /// Whether a writer waits for somebody else's lock: one at a time does, the others serve those who need not wait.
    is_waiting: bool,
    is_closed: bool,
}

/// Calls that are committed together.
pub(super) struct Batch {
    calls: Vec<Call>,
    held: Taken,
}

/// What a batch keeps others from, until it has ended.
pub(super) struct Taken {
    locks: Vec<Lock>,
    waits: bool,
}

impl Queue {
    /// Adds a call after all others.
    pub(super) fn push(&self, call: Call) {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            return call.answer(Err(closed()));
        }
        // Nobody need look at all that wait for one that cannot be taken before they are.
        let is_behind = call.is_behind(&state);
        state.claim(&call);
        state.waiting.push_back(call);
        drop(state);
        if !is_behind {
            self.changed.notify_one();
        }
    }

    /// The next calls to be committed, up to so many bytes; `None` once the queue is closed and empty.
    pub(super) async fn next(&self, bytes_max: usize) -> Option<Batch> {
        loop {
            let changed = self.changed.notified();
            match self.try_next(bytes_max) {
                Next::Batch(batch) => return Some(batch),
                Next::Closed => return None,
                Next::Nothing => changed.await,
            }
        }
    }

    fn try_next(&self, bytes_max: usize) -> Next {
        let mut state = self.state.lock();
        let batch = state.take(bytes_max);
        let is_empty = state.waiting.is_empty();
        let is_closed = state.is_closed && is_empty;
        drop(state);
        let next = match batch {
            // Some of those that wait may be committed beside this batch.
            Some(batch) if is_empty => return Next::Batch(batch),
            Some(batch) => Next::Batch(batch),
            None if is_closed => Next::Closed,
            None => return Next::Nothing,
        };
        self.changed.notify_one();
        next
    }

    /// Ends a batch. Some of its calls are put back, before all that wait.
    pub(super) fn done(&self, taken: &Taken, put_back: Vec<Call>) {
        let mut state = self.state.lock();
        state.is_waiting &= !taken.waits;
        for lock in &taken.locks {
            state.busy.remove(lock);
        }
        for call in put_back.into_iter().rev() {
            state.claim(&call);
            state.waiting.push_front(call);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Takes no more calls.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }
}

/// What a writer does next.
enum Next {
    Batch(Batch),
    /// It ends.
    Closed,
    /// It waits until something has changed.
    Nothing,
}

impl Batch {
    /// The calls, and what is kept until the batch has ended.
    pub(super) fn into_parts(self) -> (Vec<Call>, Taken) {
        (self.calls, self.held)
    }
}

impl State {
    fn claim(&mut self, call: &Call) {
        call.locks.iter().for_each(|lock| *self.claimed.entry(*lock).or_default() += 1);
    }

    /// The opposite, of calls that are taken.
    fn release(&mut self, calls: &[Call]) {
        for lock in calls.iter().flat_map(|call| &call.locks) {
            if let Entry::Occupied(mut claims) = self.claimed.entry(*lock) {
                *claims.get_mut() -= 1;
                if *claims.get() == 0 {
                    claims.remove();
                }
            }
        }
    }

    /// The calls that share no lock with those under way, nor with one that waits before them.
    fn take(&mut self, bytes_max: usize) -> Option<Batch> {
        let mut blocked: HashSet<Lock> = HashSet::new();
        let (mut calls, mut bytes, mut commands) = (Vec::new(), 0, 0);
        let mut passed = VecDeque::new();
        for _ in 0..LOOKED_AT_MAX {
            let Some(call) = self.waiting.pop_front() else { break };
            let fits = calls.is_empty()
                || (bytes + call.bytes <= bytes_max && commands + call.commands.len() <= COMMANDS_MAX);
            // One that waits for somebody else's lock must not hold up others.
            let must_wait = call.wait == Wait::Yes;
            let is_alone = must_wait || call.is_alone;
            let is_late = (is_alone && !calls.is_empty()) || (must_wait && self.is_waiting);
            if is_late || call.shares(&self.busy) || call.shares(&blocked) || !fits {
                blocked.extend(&call.locks);
                passed.push_back(call);
                if !fits {
                    break;
                }
                continue;
            }
            bytes += call.bytes;
            commands += call.commands.len();
            calls.push(call);
            if is_alone {
                break;
            }
        }
        passed.into_iter().rev().for_each(|call| self.waiting.push_front(call));
        if calls.is_empty() {
            return None;
        }
        self.release(&calls);
        let waits = calls.iter().any(|call: &Call| call.wait == Wait::Yes);
        self.is_waiting |= waits;
        let locks: BTreeSet<Lock> = calls.iter().flat_map(|call| &call.locks).copied().collect();
        self.busy.extend(&locks);
        Some(Batch { calls, held: Taken { locks: locks.into_iter().collect(), waits } })
    }
}

fn closed() -> StoreError {
    StoreError("the store is closed".to_owned())
}
