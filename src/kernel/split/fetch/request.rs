//! A Fetch request, copied out of its frame, and the requests of its parts.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use kafka_protocol::messages::{BrokerId, FetchRequest as WireRequest};
use kafka_protocol::protocol::StrBytes;

use super::place::{Place, TopicKey, is_by_id};
use crate::call::{decode, encode};
use crate::malformed::Malformed;

/// From this version on the replica id is in the ReplicaState struct (KIP-903).
const REPLICA_STATE_FROM: i16 = 15;

/// The session of a request (KIP-227).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionFields {
    /// The session's id; 0 for none.
    pub id: i32,
    /// 0 asks for a new session and -1 for none; both close the session that is named.
    pub epoch: i32,
}

/// What a request says of all its partitions together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTerms {
    /// How long it may wait for `bytes_min`, in ms.
    pub max_wait_ms: i32,
    /// Bytes of records that are worth an answer.
    pub min_bytes: i32,
    /// Most bytes of records in the answer; a first batch may be larger.
    pub max_bytes: i32,
    isolation_level: i8,
    replica_id: i32,
    replica_epoch: i64,
    rack: Arc<str>,
}

impl FetchTerms {
    /// The same, but to wait for so many bytes for so long, in ms.
    pub fn waiting(&self, min_bytes: i32, max_wait_ms: i32) -> Self {
        Self { max_wait_ms, min_bytes, ..self.clone() }
    }

    /// Whether both are of the same reader. An answer to the one is no answer to the other if not: with another isolation
    /// level a log ends elsewhere.
    pub fn is_same_reader(&self, other: &Self) -> bool {
        let reader = |terms: &Self| {
            (terms.isolation_level, terms.replica_id, terms.replica_epoch, Arc::clone(&terms.rack))
        };
        reader(self) == reader(other)
    }
}

/// Where a client is in a partition, and how much it wants of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Position(FetchPartition);

impl Position {
    fn of(partition: &FetchPartition) -> Self {
        let mut partition = partition.clone();
        // They may be slices of the frame.
        partition.unknown_tagged_fields.clear();
        Self(partition)
    }
}

/// A request.
#[derive(Debug)]
pub struct FetchRequest {
    /// Its session.
    pub session: SessionFields,
    /// Whether it names topics by id.
    pub is_by_id: bool,
    /// What it says of all partitions.
    pub terms: FetchTerms,
    /// Its partitions in their order; each may be repeated, and then the last counts.
    pub wanted: Vec<(Place, Position)>,
    /// The partitions that its session is to forget.
    pub forgotten: Vec<Place>,
}

impl FetchRequest {
    /// Reads a body whose bounds have been checked.
    ///
    /// # Errors
    /// It is not a Fetch request of this version.
    pub fn read(body: &Bytes, version: i16) -> Result<Self, Malformed> {
        let request: WireRequest = decode(body, version)?;
        let mut wanted = Vec::new();
        for topic in &request.topics {
            let key = TopicKey::new(version, &topic.topic, topic.topic_id);
            wanted.extend(topic.partitions.iter().map(|partition| {
                let place = Place { topic: key.clone(), partition: partition.partition };
                (place, Position::of(partition))
            }));
        }
        let mut forgotten = Vec::new();
        for topic in &request.forgotten_topics_data {
            let key = TopicKey::new(version, &topic.topic, topic.topic_id);
            let places = topic.partitions.iter();
            forgotten.extend(places.map(|partition| Place { topic: key.clone(), partition: *partition }));
        }
        let has_state = version >= REPLICA_STATE_FROM;
        let replica = if has_state { request.replica_state.replica_id } else { request.replica_id };
        let terms = FetchTerms {
            max_wait_ms: request.max_wait_ms,
            min_bytes: request.min_bytes,
            max_bytes: request.max_bytes,
            isolation_level: request.isolation_level,
            replica_id: replica.0,
            replica_epoch: request.replica_state.replica_epoch,
            rack: Arc::from(request.rack_id.as_str()),
        };
        let session = SessionFields { id: request.session_id, epoch: request.session_epoch };
        Ok(Self { session, is_by_id: is_by_id(version), terms, wanted, forgotten })
    }
}

/// The body of a request for these partitions.
///
/// # Errors
/// The version has no Fetch request, or none with such fields.
pub fn write_request<'a>(
    version: i16,
    terms: &FetchTerms,
    session: SessionFields,
    wanted: impl IntoIterator<Item = (&'a Place, &'a Position)>,
    forgotten: &[Place],
) -> Result<Bytes, Malformed> {
    let mut request = WireRequest::default()
        .with_max_wait_ms(terms.max_wait_ms)
        .with_min_bytes(terms.min_bytes)
        .with_max_bytes(terms.max_bytes)
        .with_isolation_level(terms.isolation_level)
        .with_session_id(session.id)
        .with_session_epoch(session.epoch)
        .with_rack_id(StrBytes::from_string(terms.rack.to_string()));
    if version >= REPLICA_STATE_FROM {
        let state = ReplicaState::default().with_replica_id(BrokerId(terms.replica_id));
        request.replica_state = state.with_replica_epoch(terms.replica_epoch);
    } else {
        request.replica_id = BrokerId(terms.replica_id);
    }
    let mut last: Option<&TopicKey> = None;
    for (place, Position(partition)) in wanted {
        if last != Some(&place.topic) {
            let topic = FetchTopic::default().with_topic(place.topic.wire_name());
            request.topics.push(topic.with_topic_id(place.topic.wire_id()));
        }
        if let Some(topic) = request.topics.last_mut() {
            topic.partitions.push(partition.clone());
        }
        last = Some(&place.topic);
    }
    let mut last: Option<&TopicKey> = None;
    for place in forgotten {
        if last != Some(&place.topic) {
            let topic = ForgottenTopic::default().with_topic(place.topic.wire_name());
            request.forgotten_topics_data.push(topic.with_topic_id(place.topic.wire_id()));
        }
        if let Some(topic) = request.forgotten_topics_data.last_mut() {
            topic.partitions.push(place.partition);
        }
        last = Some(&place.topic);
    }
    encode(&request, version)
}
