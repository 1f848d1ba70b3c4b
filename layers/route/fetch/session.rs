//! The fetch sessions of a connection as its client sees them (KIP-227).

use std::sync::{Arc, OnceLock};

use kernel::split::fetch::{FetchRequest, FetchTerms, Place, Position, SessionFields, TopicKey};
use kernel::{ErrorCode, Session, TopicId};
use parking_lot::Mutex;

use super::held::Held;
use super::share::{FINAL_EPOCH, INITIAL_EPOCH, Share, next_epoch};

/// Per connection, as in the storage service.
const SESSIONS_MAX: usize = 4;

/// The sessions of one connection, the least recently used first.
#[derive(Default)]
pub(super) struct FetchSessions {
    sessions: Mutex<Vec<FetchSession>>,
    below: OnceLock<Arc<Session>>,
}

/// A session; also the partitions of a request that has none.
pub(super) struct FetchSession {
    id: i32,
    /// The epoch that the client's next request must have.
    epoch: i32,
    is_by_id: bool,
    /// What the last request said of all partitions.
    terms: FetchTerms,
    /// The parts, one for each service that has partitions of it.
    pub(super) shares: Vec<Share>,
    held: Held,
    /// Whether it has more partitions than there is memory for.
    pub(super) is_too_large: bool,
}

/// What a request begins with.
pub(super) enum Begun {
    /// All its partitions are in it; it closes this session.
    Full(Option<FetchSession>),
    /// It changes this session.
    Incremental(FetchSession),
}

impl FetchSessions {
    /// The connection as services see it.
    pub(super) fn below(&self, session: &Session) -> Arc<Session> {
        let below = self.below.get_or_init(|| Arc::new(session.without_state()));
        below.set_principal(session.principal());
        Arc::clone(below)
    }

    /// The topic ids in a request whose service its session does not know.
    pub(super) fn new_ids(&self, request: &FetchRequest) -> Vec<TopicId> {
        let sessions = self.sessions.lock();
        let is_incremental = request.session.epoch > INITIAL_EPOCH;
        let session = sessions.iter().find(|session| is_incremental && session.id == request.session.id);
        let is_new = |place: &Place| session.is_none_or(|session| session.service_of(place).is_none());
        let places = request.wanted.iter().map(|(place, _)| place);
        let mut ids: Vec<TopicId> = Vec::new();
        for place in places {
            // Partitions of a topic stand together.
            if let TopicKey::Id(id) = place.topic
                && ids.last() != Some(&id)
                && id != TopicId::ZERO
                && is_new(place)
            {
                ids.push(id);
            }
        }
        ids
    }

    /// Takes the session of a request out, until [`FetchSessions::put`] puts it back.
    pub(super) fn begin(&self, request: &FetchRequest) -> Result<Begun, ErrorCode> {
        let SessionFields { id, epoch } = request.session;
        let mut sessions = self.sessions.lock();
        let found = sessions.iter().position(|session| session.id == id);
        if matches!(epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            return Ok(Begun::Full(found.map(|index| sessions.remove(index))));
        }
        let index = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        sessions[index].check(request)?;
        Ok(Begun::Incremental(sessions.remove(index)))
    }

    /// Keeps a session for the client's next request. Returns its id; 0 if no service has a session of its own.
    ///
    /// A new session gets the id of a service's, because those are random: an id of an earlier connection does not
    /// match.
    pub(super) fn put(&self, mut session: FetchSession) -> i32 {
        let mut sessions = self.sessions.lock();
        if session.id == 0 {
            let own = session.shares.iter().map(Share::session_id).find(|id| *id != 0);
            let Some(mut id) = own else { return 0 };
            while sessions.iter().any(|other| other.id == id) {
                id = next_epoch(id);
            }
            session.id = id;
        }
        session.epoch = next_epoch(session.epoch);
        session.shares.iter_mut().for_each(Share::keep);
        if sessions.len() == SESSIONS_MAX {
            sessions.remove(0);
        }
        let id = session.id;
        sessions.push(session);
        id
    }
}

impl FetchSession {
    /// A session without partitions.
    pub(super) fn new(is_by_id: bool, terms: FetchTerms) -> Self {
        let (shares, held) = (Vec::new(), Held::default());
        Self { id: 0, epoch: INITIAL_EPOCH, is_by_id, terms, shares, held, is_too_large: false }
    }

    /// Takes over the terms of a request. A part that was kept for another reader is of no use to it.
    pub(super) fn read_as(&mut self, terms: &FetchTerms) {
        if !self.terms.is_same_reader(terms) {
            self.shares.iter_mut().for_each(Share::drop_pending);
        }
        self.terms = terms.clone();
    }

    fn check(&self, request: &FetchRequest) -> Result<(), ErrorCode> {
        if self.epoch != request.session.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if self.is_by_id != request.is_by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        Ok(())
    }

    /// The service of a partition of the session.
    pub(super) fn service_of(&self, place: &Place) -> Option<usize> {
        self.shares.iter().find(|share| share.has(place)).map(|share| share.service)
    }

    /// Adds a partition in this service, or changes its position. A new share begins with this session of the service.
    pub(super) fn put(&mut self, service: usize, begin: SessionFields, place: Place, position: Position) {
        let found = self.shares.iter().position(|share| share.service == service);
        let index = found.unwrap_or_else(|| {
            self.shares.push(Share::new(service, begin));
            self.shares.len() - 1
        });
        let share = &mut self.shares[index];
        if !share.has(&place) {
            self.is_too_large |= !self.held.grow(&place);
        }
        share.put(place, position);
    }

    /// Removes a partition.
    pub(super) fn forget(&mut self, place: &Place) {
        if self.shares.iter_mut().any(|share| share.forget(place)) {
            self.held.shrink(place);
        }
    }

    /// Takes the shares out that have no partitions left.
    pub(super) fn take_empty(&mut self) -> Vec<Share> {
        let (empty, left) = std::mem::take(&mut self.shares).into_iter().partition(Share::is_empty);
        self.shares = left;
        empty
    }

    /// The session with a service that a new session of the client replaces; 0 for none.
    pub(super) fn session_with(&self, service: usize) -> i32 {
        let share = self.shares.iter().find(|share| share.service == service);
        share.map_or(0, Share::session_id)
    }
}
