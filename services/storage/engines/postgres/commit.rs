//! One commit: the locks of its calls are taken, the rules decide on what is read then, and everything is written, in one
//! transaction of two or three round trips.
//!
//! Nobody else can change what is locked until the transaction has ended, also to its readers: so what becomes visible does
//! so in the order of offsets.

use std::collections::{BTreeSet, HashSet};
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::try_join;
use kernel::ErrorCode;
use rules::commands::{Command, Effect, Outcome, Refused};
use rules::documents::Key;
use rules::{Changes, Loaded, Missing, WorkingSet, decide, needs};

use super::calls::{Call, KEY_BYTES_MAX, is_long};
use super::connect::Server;
use super::documents::{self, Written};
use super::errors::{Failure, failed};
use super::gathered;
use super::ids::Ids;
use super::layout::{self, TopicChanges};
use super::locks::{self, Held, Lock, Wait, lock};
use super::outbox::{self, Settled};
use super::parts;
use super::resolve::{self, Fate, Mark};
use super::rows;
use super::session::Session;
use super::shared::Shared;
use super::write::{self, Ended, Write, deleted_documents};
use crate::engines::StoreError;

/// From so many changes on, what follows is another transaction. How much a command changes is not known before it is
/// decided: the end of a transaction changes all that is in it.
const CHANGES_MAX: usize = 32_768;
/// How often a commit is tried that meets others.
const ATTEMPTS: usize = 10;

/// Commits batches, one after the other, on a connection of its own.
pub(super) struct Committer {
    server: Arc<Server>,
    shared: Arc<Shared>,
    writing: Option<Writing>,
}

/// A connection that writes.
struct Writing {
    session: Session,
    mark: Mark,
    /// A standby that has taken over may hand out again what another server has handed out.
    ids: Ids,
}

/// What an attempt has come to.
enum Attempt {
    /// The first calls have these outcomes; the others are committed later.
    Committed(Vec<Vec<Outcome>>),
    /// It needs more locks, which its calls name now, and begins anew.
    NeedsMore,
    /// One of its calls was called off meanwhile; the others begin anew.
    CalledOff,
}

/// What the first calls of a batch have decided.
#[derive(Default)]
struct Decided {
    /// For each of them.
    outcomes: Vec<Vec<Outcome>>,
    changes: Changes,
    effects: Vec<Effect>,
}

impl Decided {
    /// The documents after what was decided so far. What it has changed is to be given back.
    fn resume<'a>(&mut self, loaded: &'a Loaded) -> WorkingSet<'a> {
        WorkingSet::resume(loaded, take(&mut self.changes), take(&mut self.effects))
    }
}

impl Committer {
    pub(super) fn new(server: Arc<Server>, shared: Arc<Shared>) -> Self {
        Self { server, shared, writing: None }
    }

    /// Commits calls and answers them; returns those that are put back.
    pub(super) async fn commit(&mut self, mut calls: Vec<Call>) -> Vec<Call> {
        let (started, mut put_back) = (Instant::now(), Vec::new());
        let mut failure = None;
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            calls.retain(|call| !call.is_called_off());
            if calls.is_empty() {
                return put_back;
            }
            match self.attempt(&mut calls, &mut put_back).await {
                Ok(Attempt::Committed(outcomes)) => {
                    let bytes = calls.iter().flat_map(|call| &call.commands).map(Command::bytes).sum();
                    let commands = calls.iter().map(|call| call.commands.len()).sum();
                    self.shared.stats.committed(commands, bytes, started.elapsed());
                    calls.into_iter().zip(outcomes).for_each(|(call, outcomes)| call.answer(Ok(outcomes)));
                    return put_back;
                }
                Ok(Attempt::NeedsMore) => attempts += 1,
                // There is one less.
                Ok(Attempt::CalledOff) => {}
                // Nothing was committed: it is tried again, on a new connection if this one was lost.
                Err(Failure::Conflict(error) | Failure::Lost(error)) => {
                    failure = Some(error);
                    attempts += 1;
                }
                // One of them may be the cause: each is tried alone, so that it fails alone.
                Err(Failure::Failed(_)) if calls.len() > 1 => {
                    calls.iter_mut().for_each(|call| call.is_alone = true);
                    put_back.splice(0..0, calls);
                    return put_back;
                }
                Err(other) => {
                    failure = Some(self.failed(other));
                    break;
                }
            }
        }
        self.shared.stats.failed();
        let failure = failure.unwrap_or_else(|| {
            StoreError("others were in the way of a commit again and again; it can be tried again".to_owned())
        });
        calls.into_iter().for_each(|call| call.answer(Err(failure.clone())));
        put_back
    }

    /// Notes why a commit has failed.
    fn failed(&self, failure: Failure) -> StoreError {
        if let Failure::DiskFull(_) = failure {
            self.shared.tell_disk_full(true);
        }
        failure.error()
    }

    /// Opens a connection, if there is none.
    async fn connect(&mut self) -> Result<Writing, StoreError> {
        if let Some(writing) = self.writing.take().filter(|writing| !writing.session.is_closed()) {
            return Ok(writing);
        }
        let session = self.server.connect_patiently().await?;
        let connecting = |error| failed("connecting to", &error);
        let statements = [
            &locks::STATEMENTS[..],
            &documents::STATEMENTS,
            &layout::STATEMENTS,
            &gathered::STATEMENTS,
            &parts::STATEMENTS,
            &rows::STATEMENTS,
            &write::STATEMENTS,
            &outbox::STATEMENTS,
            &resolve::STATEMENTS,
        ];
        session.prepare(&statements.concat()).await.map_err(connecting)?;
        let mark = Mark::new(&session).await.map_err(connecting)?;
        Ok(Writing { session, mark, ids: Ids::default() })
    }

    /// Tries once. Those that cannot be committed together with the others are put back.
    async fn attempt(&mut self, calls: &mut Vec<Call>, put_back: &mut Vec<Call>) -> Result<Attempt, Failure> {
        // That nobody answers has nothing to do with the calls: they fail together, as each would wait as long again.
        let mut writing = self.connect().await.map_err(Failure::Unreachable)?;
        let attempted = self.attempt_on(&mut writing, calls, put_back).await;
        let is_open = match &attempted {
            Ok(Attempt::Committed(_)) => true,
            Err(Failure::Lost(_) | Failure::Unknown(_)) => false,
            // A connection on which nothing can be rolled back is lost, and the server does it.
            Ok(Attempt::NeedsMore | Attempt::CalledOff) | Err(_) => {
                writing.session.run("ROLLBACK").await.is_ok()
            }
        };
        self.writing = is_open.then_some(writing);
        attempted
    }

    async fn attempt_on(
        &self,
        writing: &mut Writing,
        calls: &mut Vec<Call>,
        put_back: &mut Vec<Call>,
    ) -> Result<Attempt, Failure> {
        let Writing { session, mark, ids } = writing;
        let mark = mark.next();
        let mut begun = begin(session, mark, calls).await?;
        put_back.append(&mut put_aside(calls, &begun.held));
        let decided = match begun.decide(session, calls).await? {
            Some(decided) => decided,
            None => return Ok(Attempt::NeedsMore),
        };
        if calls.iter().take(decided.outcomes.len()).any(Call::is_called_off) {
            return Ok(Attempt::CalledOff);
        }
        let Decided { outcomes, changes, effects } = decided;
        // What was not decided, because the others have changed so much, comes next.
        let undecided = calls.split_off(outcomes.len());
        put_back.splice(0..0, undecided);
        if changes.is_empty() && effects.is_empty() {
            session.run("ROLLBACK").await.map_err(|error| Failure::of("rolling back", &error))?;
            return Ok(Attempt::Committed(outcomes));
        }
        let level = self.shared.level.load(Ordering::Relaxed);
        let documents = Written::of(&changes, deleted_documents(&effects), level)?;
        let topics = TopicChanges::of(&changes, self.server.layout());
        let mut write = Write::new(session, &mut begun.held, ids, &topics);
        write.apply(&effects).await?;
        match write.commit(&documents, &Settled::of(calls, &outcomes)).await {
            Ended::Committed => {}
            Ended::Failed(error) => return Err(Failure::of("writing", &error)),
            Ended::Unknown(error) => match resolve::fate(&self.server, mark).await {
                Fate::Committed => {}
                Fate::RolledBack => return Err(Failure::of("writing", &error)),
                Fate::Unknown(why) => return Err(Failure::Unknown(why)),
            },
        }
        self.shared.publish(&changes, &effects);
        Ok(Attempt::Committed(outcomes))
    }
}

/// A transaction that has begun.
struct Begun {
    held: Held,
    loaded: Loaded,
}

/// Begins a transaction, takes the locks of calls and reads what they need, in one round trip.
async fn begin(session: &Session, mark: Mark, calls: &[Call]) -> Result<Begun, Failure> {
    let wanted: BTreeSet<Lock> = calls.iter().flat_map(|call| &call.locks).copied().collect();
    let keys: HashSet<&Key> = calls.iter().flat_map(|call| &call.keys).collect();
    let keys: Vec<Key> = keys.into_iter().cloned().collect();
    // A call that waits is alone.
    let wait = if calls.iter().any(|call| call.wait == Wait::Yes) { Wait::Yes } else { Wait::No };
    let mut held = Held::default();
    let (_, is_marked, (), rows) = try_join!(
        session.run("BEGIN"),
        mark.set(session),
        lock(session, &wanted, wait, &mut held),
        documents::by_key(session, &keys),
    )
    .map_err(|error| Failure::of("locking in", &error))?;
    if !is_marked {
        // Nobody could find out how it ends.
        return Err(Failure::Lost(StoreError(
            "the row of a connection is gone from the Postgres store".to_owned(),
        )));
    }
    let mut loaded = Loaded::default();
    // What is not locked may change at any moment. If a command comes to need it, it is locked and read again.
    let is_held = |key: &Key| Lock::of(key).is_none_or(|lock| held.has(&lock));
    documents::add(&mut loaded, keys, &rows, is_held)?;
    Ok(Begun { held, loaded })
}

/// Takes out the calls whose locks are not held, and those that share one with them, which they must not overtake.
fn put_aside(calls: &mut Vec<Call>, held: &Held) -> Vec<Call> {
    let mut blocked: HashSet<Lock> = HashSet::new();
    let mut aside = Vec::new();
    let all = take(calls);
    for mut call in all {
        let has_all = call.locks.iter().all(|lock| held.has(lock));
        if has_all && !call.locks.iter().any(|lock| blocked.contains(lock)) {
            calls.push(call);
            continue;
        }
        blocked.extend(&call.locks);
        if !has_all {
            call.wait = Wait::Yes;
        }
        aside.push(call);
    }
    aside
}

impl Begun {
    /// Decides calls, as many as fit into a transaction; `None` if one of them needs locks that cannot be waited for now.
    async fn decide(&mut self, session: &Session, calls: &mut [Call]) -> Result<Option<Decided>, Failure> {
        let mut decided = Decided::default();
        for call in calls.iter_mut() {
            if decided.changes.len() + decided.effects.len() >= CHANGES_MAX {
                break;
            }
            let mut outcomes = Vec::with_capacity(call.commands.len());
            'commands: for command in &call.commands {
                if call.needs_long_key(command) {
                    outcomes.push(Err(too_long()));
                    continue;
                }
                while let Some(missing) = self.missing(command, &mut decided) {
                    if missing.keys.iter().any(is_long) {
                        outcomes.push(Err(too_long()));
                        continue 'commands;
                    }
                    let more = missing_locks(&missing, &self.held);
                    if !self.held.may_add(&more) {
                        call.locks.extend(&more);
                        call.keys.extend(missing.keys);
                        return Ok(None);
                    }
                    self.load(session, &more, missing).await?;
                }
                let mut set = decided.resume(&self.loaded);
                outcomes.push(decide(&mut set, command));
                (decided.changes, decided.effects) = set.into_changes();
            }
            decided.outcomes.push(outcomes);
        }
        Ok(Some(decided))
    }

    /// What a command needs that was not read.
    fn missing(&self, command: &Command, decided: &mut Decided) -> Option<Missing> {
        let set = decided.resume(&self.loaded);
        let missing = needs(command, &set).into_missing();
        (decided.changes, decided.effects) = set.into_changes();
        missing
    }

    /// Takes more locks, and reads more documents.
    async fn load(
        &mut self,
        session: &Session,
        more: &BTreeSet<Lock>,
        missing: Missing,
    ) -> Result<(), Failure> {
        if !more.is_empty() {
            let locked = lock(session, more, Wait::Yes, &mut self.held).await;
            locked.map_err(|error| Failure::of("locking in", &error))?;
        }
        documents::load(session, missing, &mut self.loaded).await
    }
}

/// For good: tried again, it would not fit either.
fn too_long() -> Refused {
    Refused::new(
        ErrorCode::InvalidRequest,
        format!(
            "an id is too long for a store in Postgres: with what belongs to it, it may have {KEY_BYTES_MAX} bytes"
        ),
    )
}

/// The locks of missing documents that are not held. Lists belong to a document that is among them or held already.
fn missing_locks(missing: &Missing, held: &Held) -> BTreeSet<Lock> {
    let locks = missing.keys.iter().filter_map(Lock::of);
    locks.filter(|lock| !held.has(lock)).collect()
}
