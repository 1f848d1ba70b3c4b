//! Fetch of topics of several services: the parts wait together, and route keeps the client's session (KIP-227).
//!
//! *Sessions.* On a listener whose topics are in several services, a session is route's; it has a session of its own with
//! each service that has partitions of it. A request for what has changed becomes one for each of them, with its own
//! changes, so that nobody looks at partitions at rest. A service that has lost its session is asked for everything
//! again; so route remembers the partitions, within the same bound on memory as a service.
//!
//! *Waiting.* A part waits for its first bytes, and the call until all parts together have `min_bytes`, one has an error,
//! or `max_wait_ms` has passed. A part with fewer bytes is held. A full request, which must be answered with all its
//! partitions, first asks all parts for what there is.
//!
//! *Parked parts.* In a session, a part that still waits when the client is answered is kept, and is this part of the
//! client's next request if that changes nothing of it, and has the same isolation level; else it is dropped and asked anew, in a new session with its
//! service, because nobody can say whether the dropped call has advanced the old one. A kept part is polled by the next
//! request, never by a task of its own.
//!
//! *Memory.* A part that has records holds reply memory, and another may wait for some. So nobody waits with records for a
//! part that should be there for longer than a second: the records are let go, or sent without that part.
//!
//! *Limits.* Each part may have its share of `max_bytes`; a first batch may be larger, in each part.

mod caller;
mod held;
mod round;
mod session;
mod share;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::split::fetch::{
    FetchAnswer, FetchRequest, FetchTerms, Place, SessionFields, TopicKey, write_request,
};
use kernel::{Call, ErrorCode, Hangup};

use super::owners::IdOwners;
use super::rules::Candidates;
use super::table::Table;
use crate::observed_call::CallOutcome;
use caller::Caller;
use round::Round;
use session::{Begun, FetchSession, FetchSessions};
use share::{FINAL_EPOCH, INITIAL_EPOCH, Share, unreadable};

/// A session with a service that is to be closed.
type Closing = (usize, i32);

/// What a request is about, after its session has been changed.
struct Plan {
    session: FetchSession,
    closing: Vec<Closing>,
    /// The places of the partitions in the request, if all are in it.
    order: Option<HashMap<Place, usize>>,
}

/// Answers a Fetch whose bounds have been checked.
pub(super) async fn fetch(table: Arc<Table>, mut call: Call) -> CallOutcome {
    let version = call.header.version;
    let request = FetchRequest::read(call.body.raw(), version).map_err(unreadable)?;
    call.ticket.after_writes().await;
    // One at a time, as on a connection to Kafka: session epochs depend on it.
    call.ticket.front().await;
    let sessions = call.session.state::<FetchSessions>(table.owner);
    let ids = match find_ids(&table, &call, &request, &sessions).await {
        Ok(ids) => ids,
        Err(cause) => return table.refuse_without_names(&call, &cause),
    };
    let begun = match sessions.begin(&request) {
        Ok(begun) => begun,
        Err(error) => return failed(version, error),
    };
    if let Some(service) = only_service(&table, &call, &request, &begun, &ids) {
        return table.enter(service, call).await;
    }
    let terms = request.terms.clone();
    let is_kept = request.session.epoch != FINAL_EPOCH;
    let plan =
        match plan(&table.rules.candidates(&call.session.listener, call.header.api), request, begun, ids) {
            Ok(plan) => plan,
            Err(error) => return failed(version, error),
        };
    let caller = Caller {
        table: Arc::clone(&table),
        header: call.header.clone(),
        session: sessions.below(&call.session),
    };
    // Everything has been copied out of the request, so that a waiting call holds no request memory.
    call.body.release();
    let Plan { mut session, closing, order } = plan;
    close(&caller, &terms, closing).await?;
    let mut round = Round::new(&caller, terms);
    if !session.shares.is_empty() {
        round.run(&mut session.shares, order.is_some()).await?;
    }
    let mut answer = round.into_answer(order.as_ref());
    answer.session_id = 0;
    if is_kept && answer.error_code == 0 && !session.is_too_large && !session.shares.is_empty() {
        answer.session_id = sessions.put(session);
    }
    answer.write(version).map(Some).map_err(unreadable)
}

fn failed(version: i16, error: ErrorCode) -> CallOutcome {
    FetchAnswer::failed(error).write(version).map(Some).map_err(unreadable)
}

/// Looks up the topics that the session does not know.
async fn find_ids(
    table: &Table,
    call: &Call,
    request: &FetchRequest,
    sessions: &FetchSessions,
) -> Result<IdOwners, String> {
    let ids = sessions.new_ids(request);
    let topics = if ids.is_empty() { Vec::new() } else { table.directory.find_ids(ids).await? };
    let candidates = table.rules.candidates(&call.session.listener, call.header.api);
    let mut owners = IdOwners::new(&candidates, &topics);
    owners.unknown_to(only(owners.services()));
    Ok(owners)
}

/// The service that all of these are, if there are any.
fn only(mut services: impl Iterator<Item = usize>) -> Option<usize> {
    let first = services.next()?;
    services.all(|other| other == first).then_some(first)
}

fn owner_of(candidates: &Candidates<'_>, ids: &IdOwners, topic: &TopicKey) -> usize {
    match topic {
        TopicKey::Name(name) => candidates.service_of(name),
        TopicKey::Id(id) => ids.of_id(candidates, *id),
    }
}

/// The service of a request that has no session, and partitions of that service only: it gets the call as it is.
fn only_service(
    table: &Table,
    call: &Call,
    request: &FetchRequest,
    begun: &Begun,
    ids: &IdOwners,
) -> Option<usize> {
    if request.session.epoch != FINAL_EPOCH || !matches!(begun, Begun::Full(None)) {
        return None;
    }
    let candidates = table.rules.candidates(&call.session.listener, call.header.api);
    let mut services = request.wanted.iter().map(|(place, _)| owner_of(&candidates, ids, &place.topic));
    let first = services.next().unwrap_or(candidates.otherwise);
    services.all(|other| other == first).then_some(first)
}

/// Applies a request to its session, or to a new one.
fn plan(
    candidates: &Candidates<'_>,
    request: FetchRequest,
    begun: Begun,
    ids: IdOwners,
) -> Result<Plan, ErrorCode> {
    match begun {
        Begun::Full(replaced) => Ok(full(candidates, request, replaced, &ids)),
        Begun::Incremental(session) => incremental(candidates, request, session, &ids),
    }
}

fn full(
    candidates: &Candidates<'_>,
    request: FetchRequest,
    replaced: Option<FetchSession>,
    ids: &IdOwners,
) -> Plan {
    let mut session = FetchSession::new(request.is_by_id, request.terms.clone());
    let mut order = HashMap::with_capacity(request.wanted.len());
    // Both epochs close the session with the service that is named.
    let epoch = request.session.epoch;
    for (number, (place, position)) in request.wanted.into_iter().enumerate() {
        let service = owner_of(candidates, ids, &place.topic);
        order.entry(place.clone()).or_insert(number);
        let id = replaced.as_ref().map_or(0, |replaced| replaced.session_with(service));
        session.put(service, SessionFields { id, epoch }, place, position);
    }
    if session.is_too_large {
        // As without memory for a session.
        session.shares.iter_mut().for_each(Share::end_session);
    }
    let is_left = |share: &Share| session.shares.iter().all(|other| other.service != share.service);
    let left = replaced.map(|replaced| replaced.shares).unwrap_or_default();
    let left: Vec<Share> = left.into_iter().filter(is_left).collect();
    Plan { closing: closing(&left), session, order: Some(order) }
}

fn incremental(
    candidates: &Candidates<'_>,
    request: FetchRequest,
    mut session: FetchSession,
    ids: &IdOwners,
) -> Result<Plan, ErrorCode> {
    session.read_as(&request.terms);
    for (place, position) in request.wanted {
        let known = session.service_of(&place);
        let service = known.unwrap_or_else(|| owner_of(candidates, ids, &place.topic));
        session.put(service, SessionFields { id: 0, epoch: INITIAL_EPOCH }, place, position);
    }
    for place in &request.forgotten {
        session.forget(place);
    }
    if session.is_too_large {
        // The session is dropped, and the client creates a new one.
        return Err(ErrorCode::FetchSessionIdNotFound);
    }
    let empty = session.take_empty();
    Ok(Plan { closing: closing(&empty), session, order: None })
}

fn closing(shares: &[Share]) -> Vec<Closing> {
    let open = shares.iter().filter(|share| share.session_id() != 0);
    open.map(|share| (share.service, share.session_id())).collect()
}

/// Closes sessions with services. A request without partitions is answered at once.
async fn close(caller: &Caller, terms: &FetchTerms, closing: Vec<Closing>) -> Result<(), Hangup> {
    for (service, id) in closing {
        let session = SessionFields { id, epoch: FINAL_EPOCH };
        let terms = terms.waiting(0, 0);
        let body: Bytes = write_request(caller.version(), &terms, session, [], &[]).map_err(unreadable)?;
        caller.call(service, body).await?;
    }
    Ok(())
}
