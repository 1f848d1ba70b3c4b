//! ConsumerGroupHeartbeat: a member of the consumer protocol joins, lives, hears what it is to read, and goes (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode, TopicId};
use regex_lite::RegexBuilder;
use uuid::Uuid;

use super::grouping::{member, own, own_nullable, store_failed, wire};
use super::shared;
use crate::engines::StoreError;
use crate::rules::groups::{ASSIGNORS, Beat, Beaten, GroupChange, Matches, Partitions};
use crate::rules::{Command, Document, Done, Key, Refused};
use crate::service::{Answer, Service};

/// Before this version the broker gives a member its id.
const OWN_ID_FROM: i16 = 1;
/// Epochs that say more than how far a member has come.
const JOINS: i32 = 0;
const GOES_FOR_A_WHILE: i32 = -2;
/// Kafka's "as before".
const UNCHANGED: i32 = -1;
/// How long a regular expression may be, and what it may take once it is compiled, in bytes: it is tried on every topic.
const REGEX_LENGTH_MAX: usize = 1024;
const REGEX_BYTES_MAX: usize = 32 << 10;

type Result<T> = std::result::Result<T, Refused>;

pub(crate) async fn handle(service: &Service, call: &mut Call) -> Answer {
    let mut request: ConsumerGroupHeartbeatRequest = call.decode()?;
    let response = match check(&mut request, call.header.version) {
        Ok(()) if request.member_epoch < JOINS => leave(service, call, &request).await,
        Ok(()) => heartbeat(service, call, &request).await,
        Err(refused) => Err(refused),
    };
    let response = response.unwrap_or_else(|Refused { error, message }| {
        let response = ConsumerGroupHeartbeatResponse::default().with_error_code(error.code());
        response.with_error_message(shared::sentence(message))
    });
    Ok(Some(call.reply(&response)?))
}

fn check(request: &mut ConsumerGroupHeartbeatRequest, version: i16) -> Result<()> {
    let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    let invalid = |message: &str| Err(shared::invalid_request(message));
    if version < OWN_ID_FROM && request.member_epoch == JOINS && request.member_id.is_empty() {
        request.member_id = StrBytes::from_string(Uuid::new_v4().to_string());
    }
    if request.group_id.is_empty() || request.member_id.is_empty() {
        return invalid("a group and a member have ids");
    }
    if is_empty(&request.instance_id) || is_empty(&request.rack_id) {
        return invalid("an instance id or a rack id is null or has at least one character");
    }
    match request.member_epoch {
        JOINS => check_join(request)?,
        GOES_FOR_A_WHILE if request.instance_id.is_none() => {
            return invalid("only a static member goes for a while (epoch -2)");
        }
        ..GOES_FOR_A_WHILE => return invalid("there is no epoch below -2"),
        _ => {}
    }
    match &request.server_assignor {
        Some(assignor) if !ASSIGNORS.contains(&assignor.as_str()) => Err(Refused::new(
            ErrorCode::UnsupportedAssignor,
            format!("there is no assignor {:?}; there are {}", assignor.as_str(), ASSIGNORS.join(" and ")),
        )),
        _ => Ok(()),
    }
}

fn check_join(request: &ConsumerGroupHeartbeatRequest) -> Result<()> {
    let problem = if request.rebalance_timeout_ms == UNCHANGED {
        "a rebalance timeout"
    } else if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
        "an empty list of partitions"
    } else if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        "topics to subscribe to, by name or by a regular expression"
    } else {
        return Ok(());
    };
    Err(shared::invalid_request(format!("a member that joins (epoch 0) gives {problem}")))
}

async fn heartbeat(
    service: &Service,
    call: &Call,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse> {
    let group = own(&request.group_id.0);
    let matches = matches(service, call, &group, request).await?;
    let beat = beat(service, call, request, matches);
    let member = Arc::clone(&beat.member.id);
    let change = GroupChange::Beat(Box::new(beat));
    let failed = |error: StoreError| Refused::new(store_failed(call, &error), error.0);
    // What the connection has sent before is decided before.
    call.ticket.turn().await;
    let done = match service.store.try_without_commit(&group, &change).await.map_err(failed)? {
        Some(done) => done,
        None => commit(service, call, &group, change).await?,
    };
    service.coordinator.heard(&group, &member);
    match done {
        Done::Beaten(beaten) => Ok(response(service, &member, beaten)),
        _ => Err(Refused::new(ErrorCode::UnknownServerError, "the store gave another outcome")),
    }
}

async fn commit(service: &Service, call: &Call, group: &Arc<str>, change: GroupChange) -> Result<Done> {
    let command = Command::Group { group: Arc::clone(group), change };
    let outcome = service.store.commit_one(&call.ticket, command).await;
    let outcome = outcome.map_err(|error| Refused::new(store_failed(call, &error), error.0.clone()))?;
    service.coordinator.group_changed();
    outcome
}

fn beat(
    service: &Service,
    call: &Call,
    request: &ConsumerGroupHeartbeatRequest,
    matches: Option<Matches>,
) -> Beat {
    let owned = request.topic_partitions.as_ref().map(|owned| {
        let of_topic =
            owned.iter().map(|own| (TopicId(own.topic_id), own.partitions.iter().copied().collect()));
        of_topic.collect::<Partitions>()
    });
    let topics = request.subscribed_topic_names.as_ref();
    Beat {
        member: member(&request.member_id, request.instance_id.as_ref(), request.member_epoch),
        client_id: call.header.client_id.clone().unwrap_or_default(),
        client_host: Arc::from(format!("/{}", call.session.peer.ip())),
        rack: own_nullable(request.rack_id.as_ref()),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != UNCHANGED),
        topics: topics.map(|topics| topics.iter().map(|topic| own(&topic.0)).collect()),
        regex: own_nullable(request.subscribed_topic_regex.as_ref()),
        matches,
        assignor: own_nullable(request.server_assignor.as_ref()),
        owned,
        session_timeout_ms: service.settings.group_consumer_session_timeout.0.as_millis() as i32,
        members_max: service.settings.group_max_size,
        now_ms: service.clock.now_ms(),
    }
}

/// The topics that the member's regular expression fits now: the one that it sends, or else the one that it has sent.
/// Topics come and go, so every heartbeat looks anew.
async fn matches(
    service: &Service,
    call: &Call,
    group: &Arc<str>,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<Option<Matches>> {
    let failed = |error: StoreError| Refused::new(store_failed(call, &error), error.0);
    let regex = match own_nullable(request.subscribed_topic_regex.as_ref()) {
        Some(regex) => Some(regex),
        None => {
            // This one document, and not the group: most members have no regular expression, and all come by here.
            let key = Key::Member(Arc::clone(group), own(&request.member_id));
            match service.store.document(key).await.map_err(failed)? {
                Some(Document::Member(member)) => member.consumer.as_ref().and_then(|own| own.regex.clone()),
                _ => None,
            }
        }
    };
    let Some(regex) = regex.filter(|regex| !regex.is_empty()) else { return Ok(None) };
    if regex.len() > REGEX_LENGTH_MAX {
        let message =
            format!("a regular expression has at most {REGEX_LENGTH_MAX} bytes, this one {}", regex.len());
        return Err(Refused::new(ErrorCode::InvalidRegularExpression, message));
    }
    let whole_name = RegexBuilder::new(&format!("^(?:{regex})$")).size_limit(REGEX_BYTES_MAX).build();
    let whole_name = whole_name.map_err(|error| {
        let message = format!("{regex:?} is not a regular expression (RE2): {error}");
        Refused::new(ErrorCode::InvalidRegularExpression, message)
    })?;
    let topics = service.store.topics().await.map_err(failed)?;
    let fitting = topics.iter().filter(|topic| whole_name.is_match(&topic.name));
    let topics = fitting.map(|topic| Arc::clone(&topic.name)).collect::<BTreeSet<Arc<str>>>();
    Ok(Some(Matches { regex, topics }))
}

fn response(service: &Service, member: &Arc<str>, beaten: Beaten) -> ConsumerGroupHeartbeatResponse {
    let assignment = beaten.assignment.map(|assigned| {
        let of_topic = |(topic, partitions): (TopicId, BTreeSet<i32>)| {
            TopicPartitions::default()
                .with_topic_id(topic.0)
                .with_partitions(partitions.into_iter().collect())
        };
        Assignment::default().with_topic_partitions(assigned.into_iter().map(of_topic).collect())
    });
    let interval = service.settings.group_consumer_heartbeat_interval.0;
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(wire(member)))
        .with_member_epoch(beaten.epoch)
        .with_heartbeat_interval_ms(interval.as_millis() as i32)
        .with_assignment(assignment)
}

async fn leave(
    service: &Service,
    call: &Call,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse> {
    let member = member(&request.member_id, request.instance_id.as_ref(), request.member_epoch);
    let change = GroupChange::EndBeat { member, now_ms: service.clock.now_ms() };
    commit(service, call, &own(&request.group_id.0), change).await?;
    Ok(ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(request.member_id.clone()))
        .with_member_epoch(request.member_epoch))
}
