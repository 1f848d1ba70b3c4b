//! Fetch: record batches of many partitions, each from an offset on. A call that finds less than `min_bytes`
//! waits until the partitions grow.
//!
//! `sessions` has the fetch sessions (KIP-227), `gather` waits, `read` reads the partitions once, `aborted` finds what a
//! reader of committed records has to skip, and `encode` writes the reply. A few batches are read at once; more are only
//! located, and read while the reply is sent, so that a client that asks for 50 MiB and does not read them holds none of
//! it.
//!
//! With `read_committed` a log ends at its last stable offset (KIP-98). A client that is there, or behind it, waits.

mod aborted;
mod encode;
mod gather;
mod outcome;
mod partition;
mod read;
mod sessions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kernel::budget::Lease;
use kernel::{Call, ErrorCode, Reply};
use tracing::warn;

use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::isolation;
use crate::apis::common::requests::keep_last;
use crate::broker::Broker;
use crate::effort::{DECODED_BYTES, LARGE_BYTES};
use crate::engines::Isolation;
use crate::store::TopicRef;
use gather::InSession;
use partition::{FetchResult, Fetched, PartitionRef, Position};
use sessions::{FetchSessions, Plan, SessionRequest, held_while_waiting};

/// From this version on topics are named by id (KIP-516).
const BY_ID_FROM: i16 = 13;
/// From this version on the replica id is in the ReplicaState struct (KIP-903).
const REPLICA_STATE_FROM: i16 = 15;

/// Kafka's broker config `fetch.max.bytes`: the upper bound on `max_bytes` of a request.
const REPLY_BYTES_MAX: usize = 55 << 20;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let version = call.header.version;
    // One at a time, as on a connection to Kafka: session epochs depend on it, and reply memory is taken only
    // when the reply is the next to be sent.
    let decoded = call.elements()?.saturating_mul(DECODED_BYTES);
    call.ticket.after_writes().await;
    call.ticket.front().await;
    let room = if decoded > LARGE_BYTES { broker.replies.take(decoded).await } else { Lease::default() };
    let OwnedRequest { session, wanted, forgotten, mut terms } = read_request(call)?;
    // Everything has been copied out of the request, so that a waiting call holds no request memory.
    call.body.release();
    drop(room);
    let held = held_while_waiting(&wanted);
    if held.is_none() {
        terms.wait = Duration::ZERO;
    }
    let sessions = call.session.state::<FetchSessions>(broker.owner);
    let (plan, wanted) = match sessions.begin(session, wanted, &forgotten) {
        Ok(begun) => begun,
        Err(error) => return Ok(Some(Reply::new(encode::session_error(version, error)?))),
    };
    let session = match plan {
        Plan::Incremental(id) => Some(InSession { sessions: &sessions, id }),
        Plan::Sessionless | Plan::Full { .. } => None,
    };
    let gathered = gather::gather(broker, &wanted, terms, &call.session, session).await;
    let (fetched, lease) = gathered.unwrap_or_else(|error| {
        warn!(api = %call.header.api, %error, "a request failed because the store did");
        (failed(wanted), Lease::default())
    });
    let (session_id, fetched) = sessions.finish(plan, fetched, || broker.fresh_id().as_u128());
    let (body, records) = encode::body(version, session_id, fetched, terms.isolation)?;
    Ok(Some(Reply { body, records, lease, ..Reply::default() }))
}

/// Settings of the whole request.
#[derive(Debug, Clone, Copy)]
struct FetchTerms {
    wait: Duration,
    bytes_min: usize,
    bytes_max: usize,
    isolation: Isolation,
    is_replica: bool,
}

/// A request, copied out of its frame.
struct OwnedRequest {
    session: SessionRequest,
    wanted: Vec<(PartitionRef, Position)>,
    forgotten: Vec<PartitionRef>,
    terms: FetchTerms,
}

fn read_request(call: &mut Call) -> Result<OwnedRequest, ApiError> {
    let request: FetchRequest = call.decode()?;
    let version = call.header.version;
    let by_id = version >= BY_ID_FROM;
    let session = SessionRequest { id: request.session_id, epoch: request.session_epoch, by_id };
    let wanted = wanted(&request, by_id)?;
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let named = TopicRef::new(by_id, &topic.topic, topic.topic_id);
        let places = topic.partitions.iter();
        forgotten.extend(places.map(|index| PartitionRef { topic: named.clone(), partition: *index }));
    }
    Ok(OwnedRequest { session, wanted, forgotten, terms: terms(&request, version)? })
}

fn terms(request: &FetchRequest, version: i16) -> Result<FetchTerms, ApiError> {
    let isolation = isolation::read(request.isolation_level)?;
    let bytes_max = size(request.max_bytes, "max_bytes")?.min(REPLY_BYTES_MAX);
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max);
    let replica =
        if version >= REPLICA_STATE_FROM { request.replica_state.replica_id } else { request.replica_id };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    Ok(FetchTerms { wait, bytes_min, bytes_max, isolation, is_replica: replica.0 >= 0 })
}

/// The partitions in the request's order.
fn wanted(request: &FetchRequest, by_id: bool) -> Result<Vec<(PartitionRef, Position)>, ApiError> {
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let named = TopicRef::new(by_id, &topic.topic, topic.topic_id);
        for partition in &topic.partitions {
            let place = PartitionRef { topic: named.clone(), partition: partition.partition };
            wanted.push((place, position(partition)?));
        }
    }
    Ok(keep_last(wanted))
}

fn position(partition: &FetchPartition) -> Result<Position, ApiError> {
    // Here, unlike elsewhere, Kafka treats every negative epoch as "none".
    let epoch = |sent: i32| (sent >= 0).then_some(sent);
    Ok(Position {
        offset: partition.fetch_offset,
        bytes_max: size(partition.partition_max_bytes, "partition_max_bytes")?,
        leader_epoch: epoch(partition.current_leader_epoch),
        last_fetched_epoch: epoch(partition.last_fetched_epoch),
    })
}

fn size(sent: i32, name: &str) -> Result<usize, ApiError> {
    usize::try_from(sent).map_err(|_| invalid(format!("{name} is {sent}; it cannot be negative")))
}

/// Kafka fails with an unexpected exception and answers UNKNOWN_SERVER_ERROR, which blames the broker.
fn invalid(message: String) -> ApiError {
    ApiError::Refused(ErrorCode::InvalidRequest, message)
}

/// The answer if the store failed. The request has been released, so [`Call::refuse`] cannot be used.
fn failed(wanted: Vec<(PartitionRef, Position)>) -> Vec<Fetched> {
    let failed = |(place, position)| {
        let found = FetchResult::Failed(ErrorCode::KafkaStorageError);
        Fetched { place, position, found }
    };
    wanted.into_iter().map(failed).collect()
}
