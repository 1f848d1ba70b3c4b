//! Fetch sessions (KIP-227): a client sends its partitions once, later only changes, and gets only partitions
//! that have changed.
//!
//! A partition at whose end the client is, and about which it knows everything, rests: it is not looked at again until the
//! store says that it has changed, or the client says so. So a request costs what has changed, not what its session
//! has.
//!
//! Kafka keeps the sessions of all connections in one cache. Here a session belongs to the connection that
//! created it and ends with it, so that brokers share nothing and no session has to expire. A client that
//! reconnects gets FETCH_SESSION_ID_NOT_FOUND, and creates a new session with its next request.
//!
//! Sessions are an optimization and never required: without memory for one, the client gets none and keeps
//! sending full requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kernel::{ErrorCode, TopicPartition};
use parking_lot::Mutex;

use super::partition::{FetchResult, Fetched, LogOffsets, NO_OFFSET, PartitionRef, Position};
use super::read::KnownPartition;
use crate::engines::{Engine, Subject, Watch};

/// Per connection. A client needs one; a proxy that shares a connection among clients needs a few.
const SESSIONS_MAX: usize = 4;
/// Limit on the memory of the sessions of all connections.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Estimated memory of one partition without its topic name.
const PARTITION_BYTES: usize = 512;

const NO_SESSION: i32 = 0;
/// The session epoch of a request for a new session.
const INITIAL_EPOCH: i32 = 0;
/// The session epoch of a request that closes its session.
const FINAL_EPOCH: i32 = -1;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

/// The session fields of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionRequest {
    pub(super) id: i32,
    pub(super) epoch: i32,
    /// Whether it names topics by id; all requests of a session do, or none.
    pub(super) by_id: bool,
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// In full, without a session.
    Sessionless,
    /// In full, with a new session.
    Full {
        /// Whether it names topics by id.
        by_id: bool,
    },
    /// With the changed partitions of this session.
    Incremental(i32),
}

/// The sessions of one connection, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct FetchSessions(Mutex<Vec<FetchSession>>);

#[derive(Debug)]
struct FetchSession {
    id: i32,
    /// The session epoch that the next request must have.
    epoch: i32,
    by_id: bool,
    partitions: HashMap<PartitionRef, Cached>,
    /// The read order of those that do not rest: a partition that returned records moves to the end, so that a limit
    /// starves none.
    order: BTreeMap<u64, PartitionRef>,
    turns: u64,
    /// Tells which of the watched partitions have changed.
    watch: Option<Arc<Watch>>,
    watched: HashMap<TopicPartition, PartitionRef>,
    held: Held,
}

/// A partition's position, and what the last response with it contained.
#[derive(Debug)]
struct Cached {
    position: Position,
    turn: u64,
    /// Where it is, once it is watched.
    at: Option<TopicPartition>,
    /// Whether its topic id was ever resolved.
    has_name: bool,
    high_watermark: i64,
    log_start: i64,
}

/// Memory that counts against [`HELD_BYTES_MAX`] until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Held(usize);

/// The memory of a request while it waits; `None` if there is not enough, so that it must not wait.
pub(super) fn held_while_waiting(wanted: &[(PartitionRef, Position)]) -> Option<Held> {
    let mut held = Held::default();
    // A few partitions are what any connection may hold.
    let is_small = wanted.len() <= 16;
    (is_small || held.grow(wanted.iter().map(|(place, _)| weight(place)).sum())).then_some(held)
}

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
    PARTITION_BYTES + place.name_bytes()
}

/// Session epochs start at 1 and wrap from 2^31 - 1 to 1.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

impl FetchSessions {
    /// Applies a request. Returns how it is answered and the partitions to read, in order.
    pub(super) fn begin(
        &self,
        asked: SessionRequest,
        wanted: Vec<(PartitionRef, Position)>,
        forgotten: &[PartitionRef],
    ) -> Result<(Plan, Vec<(PartitionRef, Position)>), ErrorCode> {
        let mut sessions = self.0.lock();
        if matches!(asked.epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            // Such a request closes the session that it names.
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
            // Out of memory: the session is dropped, and the client creates a new one.
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        if session.partitions.is_empty() {
            return Ok((Plan::Sessionless, Vec::new()));
        }
        session.epoch = next_epoch(session.epoch);
        session.wake_changed();
        let begun = (Plan::Incremental(session.id), session.in_order());
        sessions.push(session);
        Ok(begun)
    }

    /// Applies the results. Returns the session id and the partitions for the reply.
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
                (id, fetched.into_iter().filter_map(|fetched| session.include_if_changed(fetched)).collect())
            }
        }
    }

    /// Watches partitions of a session that are about to be read. The watch is of all partitions of the session, those that
    /// rest as well; `None` if there is none.
    pub(super) fn watch(&self, id: i32, known: &[KnownPartition], store: &dyn Engine) -> Option<Arc<Watch>> {
        let mut sessions = self.0.lock();
        let session = sessions.iter_mut().find(|session| session.id == id)?;
        known.iter().for_each(|known| session.watch(known, store));
        session.watch.clone()
    }

    /// The resting partitions of a session that have changed; they rest no longer.
    pub(super) fn woken(&self, id: i32) -> Vec<KnownPartition> {
        let mut sessions = self.0.lock();
        let session = sessions.iter_mut().find(|session| session.id == id);
        session.map(FetchSession::wake_changed).unwrap_or_default()
    }

    fn create(&self, by_id: bool, fetched: &[Fetched], random: impl Fn() -> u128) -> i32 {
        let mut held = Held::default();
        if !held.grow(fetched.iter().map(|fetched| weight(&fetched.place)).sum()) {
            return NO_SESSION;
        }
        let mut sessions = self.0.lock();
        let id = fresh_id(&sessions, random);
        let epoch = next_epoch(INITIAL_EPOCH);
        let mut session = FetchSession {
            id,
            epoch,
            by_id,
            partitions: HashMap::new(),
            order: BTreeMap::new(),
            turns: 0,
            watch: None,
            watched: HashMap::new(),
            held,
        };
        for Fetched { place, position, found } in fetched {
            session.put(place.clone(), *position);
            session.record(place, found);
        }
        if sessions.len() == SESSIONS_MAX {
            sessions.remove(0);
        }
        sessions.push(session);
        id
    }
}

/// Random, so that a session id of an earlier connection does not match a session of this one.
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

    /// Applies the request's changes; false if the memory limit is reached.
    fn update(&mut self, wanted: Vec<(PartitionRef, Position)>, forgotten: &[PartitionRef]) -> bool {
        for (place, position) in wanted {
            if let Some(cached) = self.partitions.get_mut(&place) {
                cached.position = position;
                self.order.insert(cached.turn, place);
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
                self.unwatch(cached.at);
            }
        }
        true
    }

    fn put(&mut self, place: PartitionRef, position: Position) {
        let turn = self.turns;
        self.turns += 1;
        self.order.insert(turn, place.clone());
        let (high_watermark, log_start) = (NO_OFFSET, NO_OFFSET);
        let cached = Cached { position, turn, at: None, has_name: false, high_watermark, log_start };
        self.partitions.insert(place, cached);
    }

    fn watch(&mut self, known: &KnownPartition, store: &dyn Engine) {
        let Some(cached) = self.partitions.get_mut(&known.place) else { return };
        let before = cached.at.replace(known.at);
        if before != Some(known.at) {
            let subjects = [Subject::Partition(known.at)];
            self.watch.get_or_insert_with(|| Arc::new(store.watch(&[]))).add(&subjects);
            self.watched.insert(known.at, known.place.clone());
            self.unwatch(before);
        }
    }

    fn unwatch(&mut self, at: Option<TopicPartition>) {
        if let (Some(at), Some(watch)) = (at, &self.watch) {
            watch.remove(&[Subject::Partition(at)]);
            self.watched.remove(&at);
        }
    }

    /// Ends the rest of the partitions that have changed, and returns them.
    fn wake_changed(&mut self) -> Vec<KnownPartition> {
        let changed = self.watch.as_ref().map(|watch| watch.take_changed()).unwrap_or_default();
        let mut woken = Vec::new();
        for at in changed {
            let Some(place) = self.watched.get(&at) else { continue };
            let Some(cached) = self.partitions.get(place) else { continue };
            if self.order.insert(cached.turn, place.clone()).is_none() {
                woken.push(KnownPartition { place: place.clone(), position: cached.position, at });
            }
        }
        woken
    }

    fn in_order(&self) -> Vec<(PartitionRef, Position)> {
        let position = |place: &PartitionRef| self.partitions.get(place).map(|cached| cached.position);
        self.order.values().filter_map(|place| Some((place.clone(), position(place)?))).collect()
    }

    /// Returns the partition if the response must include it. After an error it is included again once it can
    /// be read, because an error has no high watermark.
    fn include_if_changed(&mut self, mut fetched: Fetched) -> Option<Fetched> {
        let Some(cached) = self.partitions.get(&fetched.place) else { return Some(fetched) };
        // A session keeps the topic name, and Kafka's error for a deleted topic with a name is another one.
        if cached.has_name && fetched.found.error() == Some(ErrorCode::UnknownTopicId) {
            fetched.found = FetchResult::Unknown(ErrorCode::UnknownTopicOrPartition);
        }
        let last_offsets = (cached.high_watermark, cached.log_start);
        // The last stable offset moves with one of these: a marker is appended, or the log is trimmed.
        let LogOffsets { high_watermark, log_start, .. } = fetched.found.offsets();
        let has_records = fetched.found.bytes() > 0;
        let must_include = has_records
            || fetched.found.error().is_some()
            || fetched.found.is_urgent()
            || last_offsets != (high_watermark, log_start);
        self.record(&fetched.place, &fetched.found);
        if has_records {
            self.move_last(&fetched.place);
        } else {
            self.rest(&fetched);
        }
        must_include.then_some(fetched)
    }

    /// Records what the response contains for a partition.
    fn record(&mut self, place: &PartitionRef, found: &FetchResult) {
        if let Some(cached) = self.partitions.get_mut(place) {
            cached.has_name |= found.error() != Some(ErrorCode::UnknownTopicId);
            let LogOffsets { high_watermark, log_start, .. } = found.offsets();
            (cached.high_watermark, cached.log_start) = (high_watermark, log_start);
        }
    }

    /// Lets a partition rest if its client is at its end, and it is watched. One whose client is only at its last stable
    /// offset does not: the next request may be one for all records.
    fn rest(&mut self, fetched: &Fetched) {
        let is_at_end = fetched.found.error().is_none()
            && !fetched.found.is_urgent()
            && fetched.position.offset == fetched.found.offsets().high_watermark;
        let cached = self.partitions.get(&fetched.place);
        if let Some(cached) = cached.filter(|cached| is_at_end && cached.at.is_some()) {
            self.order.remove(&cached.turn);
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
