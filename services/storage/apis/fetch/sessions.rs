//! Fetch sessions (KIP-227): a client names its partitions once, later only what changes, and hears only of
//! partitions that have news.
//!
//! Kafka keeps sessions for all connections in one cache. Here they live in the connection that made them and die with
//! it, so that brokers share nothing and nothing is left to expire. A client that comes back on another connection is
//! told FETCH_SESSION_ID_NOT_FOUND, and starts a new one with its next request.
//!
//! Sessions are a saving and never needed: where there is no room for one, the client gets none and goes on with full
//! requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use kernel::ErrorCode;
use parking_lot::Mutex;

use super::partition::{FetchResult, Fetched, NO_OFFSET, PartitionRef, Position};
use crate::store::TopicRef;

/// A client needs one; a proxy that shares a connection among a few clients needs a few.
const SESSIONS_MAX: usize = 4;
/// Memory of the sessions of all connections together.
const HELD_BYTES_MAX: usize = 64 << 20;
/// About what one partition takes, beside its topic's name.
const PARTITION_BYTES: usize = 256;

const NO_SESSION: i32 = 0;
/// The epoch of a request that wants a new session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants none, and ends the one it names.
const FINAL_EPOCH: i32 = -1;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The session that a request goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionRequest {
    pub(super) id: i32,
    pub(super) epoch: i32,
    /// Whether it names topics by id; a session sticks to one way.
    pub(super) by_id: bool,
}

/// How a request is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// In full, without a session.
    Sessionless,
    /// In full, with a new session.
    Full {
        /// Whether it names topics by id.
        by_id: bool,
    },
    /// With the news of this session's partitions.
    Incremental(i32),
}

/// The sessions of one connection, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct FetchSessions(Mutex<Vec<FetchSession>>);

#[derive(Debug)]
struct FetchSession {
    id: i32,
    /// The epoch that the next request must have.
    epoch: i32,
    by_id: bool,
    partitions: HashMap<PartitionRef, Cached>,
    /// In which order they are read: who gave records goes to the end, so that nobody starves behind a limit.
    order: BTreeMap<u64, PartitionRef>,
    turns: u64,
    held: Held,
}

/// A partition's position, and what the client was last told of it.
#[derive(Debug)]
struct Cached {
    position: Position,
    turn: u64,
    /// Whether its topic's id has ever been known.
    has_name: bool,
    high_watermark: i64,
    log_start: i64,
}

/// Memory that counts against [`HELD_BYTES_MAX`] until it is dropped.
#[derive(Debug, Default)]
struct Held(usize);

impl Held {
    fn grow(&mut self, bytes: usize) -> bool {
        let mut held = HELD_BYTES.load(Ordering::Relaxed);
        loop {
            let grown = held.checked_add(bytes).filter(|grown| *grown <= HELD_BYTES_MAX);
            let Some(grown) = grown else { return false };
            match HELD_BYTES.compare_exchange_weak(held, grown, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.0 += bytes;
                    return true;
                }
                Err(now) => held = now,
            }
        }
    }

    fn shrink(&mut self, bytes: usize) {
        self.0 -= bytes;
        HELD_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD_BYTES.fetch_sub(self.0, Ordering::Relaxed);
    }
}

fn weight(place: &PartitionRef) -> usize {
    let name_bytes = match &place.topic {
        TopicRef::Name(name) => name.len(),
        TopicRef::Id(_) => 0,
    };
    PARTITION_BYTES + name_bytes
}

/// Epochs count from 1, and from 2^31 - 1 on from 1 again.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl FetchSessions {
    /// Takes in a request: how it is answered, and which partitions are to be read, in their order.
    pub(super) fn begin(
        &self,
        asked: SessionRequest,
        wanted: Vec<(PartitionRef, Position)>,
        forgotten: &[PartitionRef],
    ) -> Result<(Plan, Vec<(PartitionRef, Position)>), ErrorCode> {
        let mut sessions = self.0.lock();
        if matches!(asked.epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            // A session that such a request names is over.
            sessions.retain(|session| session.id != asked.id);
            let is_final = asked.epoch == FINAL_EPOCH;
            let plan = if is_final { Plan::Sessionless } else { Plan::Full { by_id: asked.by_id } };
            return Ok((plan, wanted));
        }
        let found = sessions.iter().position(|session| session.id == asked.id);
        let index = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        sessions[index].check(asked)?;
        let mut session = sessions.remove(index);
        if !session.update(wanted, forgotten) {
            // No room: it is dropped, and the client starts anew.
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if session.partitions.is_empty() {
            return Ok((Plan::Sessionless, Vec::new()));
        }
        session.epoch = next_epoch(session.epoch);
        let begun = (Plan::Incremental(session.id), session.in_order());
        sessions.push(session);
        Ok(begun)
    }

    /// Takes in what was found: the id of the session for the reply, and what of it is news.
    pub(super) fn finish(
        &self,
        plan: Plan,
        fetched: Vec<Fetched>,
        random: impl Fn() -> u128,
    ) -> (i32, Vec<Fetched>) {
        match plan {
            Plan::Sessionless => (NO_SESSION, fetched),
            Plan::Full { by_id } => (self.create(by_id, &fetched, random), fetched),
            Plan::Incremental(id) => {
                let mut sessions = self.0.lock();
                let Some(session) = sessions.iter_mut().find(|session| session.id == id) else {
                    return (NO_SESSION, fetched);
                };
                (id, fetched.into_iter().filter_map(|fetched| session.take_in(fetched)).collect())
            }
        }
    }

    fn create(&self, by_id: bool, fetched: &[Fetched], random: impl Fn() -> u128) -> i32 {
        let mut held = Held::default();
        if !held.grow(fetched.iter().map(|fetched| weight(&fetched.place)).sum()) {
            return NO_SESSION;
        }
        let mut sessions = self.0.lock();
        let id = fresh_id(&sessions, random);
        let epoch = next_epoch(INITIAL_EPOCH);
        let (partitions, order) = (HashMap::new(), BTreeMap::new());
        let mut session = FetchSession { id, epoch, by_id, partitions, order, turns: 0, held };
        for Fetched { place, position, found } in fetched {
            session.put(place.clone(), *position);
            session.tell(place, found);
        }
        if sessions.len() == SESSIONS_MAX {
            sessions.remove(0);
        }
        sessions.push(session);
        id
    }
}

/// Random, so that the id of a session on an earlier connection is not taken for one on this.
fn fresh_id(sessions: &[FetchSession], random: impl Fn() -> u128) -> i32 {
    loop {
        let id = random() as i32 & i32::MAX;
        if id != NO_SESSION && sessions.iter().all(|session| session.id != id) {
            return id;
        }
    }
}

impl FetchSession {
    fn check(&self, asked: SessionRequest) -> Result<(), ErrorCode> {
        if self.epoch != asked.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if self.by_id != asked.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        Ok(())
    }

    /// Takes in what the request changes; false if there is no room for it.
    fn update(&mut self, wanted: Vec<(PartitionRef, Position)>, forgotten: &[PartitionRef]) -> bool {
        for (place, position) in wanted {
            if let Some(cached) = self.partitions.get_mut(&place) {
                cached.position = position;
                continue;
            }
            if !self.held.grow(weight(&place)) {
                return false;
            }
            self.put(place, position);
        }
        for place in forgotten {
            if let Some(cached) = self.partitions.remove(place) {
                self.order.remove(&cached.turn);
                self.held.shrink(weight(place));
            }
        }
        true
    }

    fn put(&mut self, place: PartitionRef, position: Position) {
        let turn = self.turns;
        self.turns += 1;
        self.order.insert(turn, place.clone());
        let (high_watermark, log_start) = (NO_OFFSET, NO_OFFSET);
        let cached = Cached { position, turn, has_name: false, high_watermark, log_start };
        self.partitions.insert(place, cached);
    }

    fn in_order(&self) -> Vec<(PartitionRef, Position)> {
        let position = |place: &PartitionRef| self.partitions.get(place).map(|cached| cached.position);
        self.order.values().filter_map(|place| Some((place.clone(), position(place)?))).collect()
    }

    /// What of this the client does not know yet. After an error the partition is told of again once it is well,
    /// because an error has no high watermark.
    fn take_in(&mut self, mut fetched: Fetched) -> Option<Fetched> {
        let Some(cached) = self.partitions.get(&fetched.place) else { return Some(fetched) };
        // A session keeps the name of a topic, and by name Kafka knows a deleted topic by another error.
        if cached.has_name && fetched.found == FetchResult::Unknown(ErrorCode::UnknownTopicId) {
            fetched.found = FetchResult::Unknown(ErrorCode::UnknownTopicOrPartition);
        }
        let told_before = (cached.high_watermark, cached.log_start);
        let has_records = !fetched.found.batches().is_empty();
        let is_news = has_records
            || fetched.found.error().is_some()
            || fetched.found.is_urgent()
            || told_before != (fetched.found.high_watermark(), fetched.found.log_start());
        self.tell(&fetched.place, &fetched.found);
        if has_records {
            self.move_last(&fetched.place);
        }
        is_news.then_some(fetched)
    }

    /// Notes what the client will know of a partition.
    fn tell(&mut self, place: &PartitionRef, found: &FetchResult) {
        if let Some(cached) = self.partitions.get_mut(place) {
            cached.has_name |= found.error() != Some(ErrorCode::UnknownTopicId);
            (cached.high_watermark, cached.log_start) = (found.high_watermark(), found.log_start());
        }
    }

    fn move_last(&mut self, place: &PartitionRef) {
        if let Some(cached) = self.partitions.get_mut(place) {
            let turn = std::mem::replace(&mut cached.turn, self.turns);
            self.order.remove(&turn);
            self.order.insert(self.turns, place.clone());
            self.turns += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!((next_epoch(0), next_epoch(i32::MAX)), (1, 1));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut held = Held::default();
        assert!(!held.grow(HELD_BYTES_MAX + 1));
        assert!(held.grow(1_000));
        held.shrink(400);
        assert_eq!(held.0, 600);
    }
}
