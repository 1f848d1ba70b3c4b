//! What one service has of a Fetch: its partitions, and the session with it.

use std::collections::HashMap;
use std::task::{Context, Poll};

use bytes::Bytes;
use kernel::split::fetch::{FetchAnswer, FetchTerms, Place, Position, SessionFields, write_request};
use kernel::{ErrorCode, Hangup, Malformed, ReplyFuture};

use super::caller::Caller;
use crate::observed_call::CallOutcome;

/// The session epoch of a request for a new session.
pub(super) const INITIAL_EPOCH: i32 = 0;
/// The session epoch of a request without one.
pub(super) const FINAL_EPOCH: i32 = -1;

/// Session epochs start at 1 and wrap from 2^31 - 1 to 1.
pub(super) fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// The partitions of a Fetch in one service.
pub(super) struct Share {
    /// The service.
    pub(super) service: usize,
    /// The session with it, as the next request has it.
    session: SessionFields,
    wanted: HashMap<Place, Wanted>,
    turns: u64,
    /// What the service has yet to be told of the session.
    changed: Vec<Place>,
    forgotten: Vec<Place>,
    /// A call that the service has not answered.
    pending: Option<ReplyFuture>,
    /// Whether the pending call was made for an earlier Fetch of the client.
    is_kept: bool,
}

/// A partition's place in the order of the client's requests, and its position.
struct Wanted {
    turn: u64,
    position: Position,
}

impl Share {
    /// No partitions yet, and the session that the first request names.
    pub(super) fn new(service: usize, session: SessionFields) -> Self {
        Self {
            service,
            session,
            wanted: HashMap::new(),
            turns: 0,
            changed: Vec::new(),
            forgotten: Vec::new(),
            pending: None,
            is_kept: false,
        }
    }

    /// The id of the session with the service; 0 for none.
    pub(super) fn session_id(&self) -> i32 {
        self.session.id
    }

    /// Does without a session; the next request closes the one that there is.
    pub(super) fn end_session(&mut self) {
        self.session.epoch = FINAL_EPOCH;
    }

    pub(super) fn has(&self, place: &Place) -> bool {
        self.wanted.contains_key(place)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Adds a partition, or changes its position.
    pub(super) fn put(&mut self, place: Place, position: Position) {
        self.drop_pending();
        self.changed.push(place.clone());
        if let Some(wanted) = self.wanted.get_mut(&place) {
            wanted.position = position;
            return;
        }
        self.wanted.insert(place, Wanted { turn: self.turns, position });
        self.turns += 1;
    }

    /// Removes a partition; false if there is none.
    pub(super) fn forget(&mut self, place: &Place) -> bool {
        if self.wanted.remove(place).is_none() {
            return false;
        }
        self.drop_pending();
        self.forgotten.push(place.clone());
        true
    }

    /// A call that is dropped may or may not have advanced the session: the next one opens another.
    pub(super) fn drop_pending(&mut self) {
        if self.pending.take().is_some() && self.session.epoch != FINAL_EPOCH {
            self.session.epoch = INITIAL_EPOCH;
        }
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether its pending call is one of an earlier Fetch.
    pub(super) fn is_kept(&self) -> bool {
        self.is_pending() && self.is_kept
    }

    /// Whether the call that was last pending is one of an earlier Fetch.
    pub(super) fn is_from_before(&self) -> bool {
        self.is_kept
    }

    /// Keeps the pending call, if there is one, for the client's next Fetch.
    pub(super) fn keep(&mut self) {
        self.is_kept = self.is_pending();
    }

    /// Asks the service: for what has changed, or for everything if it has no session.
    pub(super) fn ask(&mut self, caller: &Caller, terms: &FetchTerms) -> Result<(), Hangup> {
        let body = self.request(caller.version(), terms).map_err(unreadable)?;
        self.changed.clear();
        self.forgotten.clear();
        self.is_kept = false;
        self.pending = Some(caller.call(self.service, body));
        Ok(())
    }

    fn request(&self, version: i16, terms: &FetchTerms) -> Result<Bytes, Malformed> {
        if self.session.epoch > INITIAL_EPOCH {
            let changed = self.changed.iter();
            let changed = changed.filter_map(|place| Some((place, &self.wanted.get(place)?.position)));
            return write_request(version, terms, self.session, changed, &self.forgotten);
        }
        let mut wanted: Vec<(&Place, &Wanted)> = self.wanted.iter().collect();
        wanted.sort_unstable_by_key(|(_, wanted)| wanted.turn);
        let wanted = wanted.into_iter().map(|(place, wanted)| (place, &wanted.position));
        write_request(version, terms, self.session, wanted, &[])
    }

    /// The outcome of the pending call, once it is there.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<CallOutcome> {
        let Some(pending) = &mut self.pending else { return Poll::Pending };
        let outcome = pending.as_mut().poll(context);
        if outcome.is_ready() {
            self.pending = None;
        }
        outcome
    }

    /// The answer in an outcome; `None` if the service has lost its session, and has to be asked again.
    pub(super) fn settle(
        &mut self,
        version: i16,
        outcome: CallOutcome,
    ) -> Result<Option<FetchAnswer>, Hangup> {
        self.is_kept = false;
        let reply =
            outcome?.ok_or_else(|| Hangup::because("a service did not answer its part of a Fetch"))?;
        let answer = FetchAnswer::read(version, reply).map_err(unreadable)?;
        let was_incremental = self.session.epoch > INITIAL_EPOCH;
        if self.session.epoch != FINAL_EPOCH {
            let goes_on = answer.error_code == 0 && answer.session_id != 0;
            let epoch = if goes_on { next_epoch(self.session.epoch) } else { INITIAL_EPOCH };
            let id = if answer.error_code == 0 { answer.session_id } else { self.session.id };
            self.session = SessionFields { id, epoch };
        }
        let is_lost = was_incremental && is_session_error(answer.error_code);
        Ok((!is_lost).then_some(answer))
    }
}

fn is_session_error(code: i16) -> bool {
    let errors = [
        ErrorCode::FetchSessionIdNotFound,
        ErrorCode::InvalidFetchSessionEpoch,
        ErrorCode::FetchSessionTopicIdError,
    ];
    errors.iter().any(|error| error.code() == code)
}

pub(super) fn unreadable(malformed: Malformed) -> Hangup {
    Hangup::because(malformed.to_string())
}
