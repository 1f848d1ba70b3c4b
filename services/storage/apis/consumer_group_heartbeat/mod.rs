//! ConsumerGroupHeartbeat (KIP-848): a member joins, renews its session, gets its assignment, and leaves.

mod regexes;

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode, TopicId};
use rules::commands::{
    Applied, ConsumerHeartbeat, ConsumerLeave, GroupCommand, HeartbeatReply, JOIN_EPOCH, KnownTopics,
    LEAVE_STATIC_EPOCH, Outcome, Refused,
};
use rules::configs::group::{GroupDefaults, timeouts as group_timeouts};
use rules::documents::{ASSIGNORS, GroupConfigs, Partitions};
use rules::groups::rest;

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{add_facts, commit_refusable, commit_with_topics, store_failed};
use crate::apis::common::requests;
use crate::apis::common::targets;
use crate::apis::common::text::{self, to_arc, to_arc_nullable, to_wire};
use crate::broker::Broker;
use crate::coordinator::Seen;
use crate::engines::StoreError;
use crate::store::DryRun;

/// Before this version the broker generates the member id.
const CLIENT_MEMBER_ID_FROM: i16 = 1;
/// Kafka's "unchanged since the last heartbeat".
const UNCHANGED: i32 = -1;

type Result<T> = std::result::Result<T, Refused>;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let mut request: ConsumerGroupHeartbeatRequest = call.decode()?;
    let response = match check(broker, &mut request, call.header.version) {
        Ok(()) if request.member_epoch < JOIN_EPOCH => leave(broker, call, &request).await,
        Ok(()) => heartbeat(broker, call, &request).await,
        Err(refused) => Err(refused),
    };
    let response = response.unwrap_or_else(|Refused { error, message }| {
        let response = ConsumerGroupHeartbeatResponse::default().with_error_code(error.code());
        response.with_error_message(text::error_message(message))
    });
    Ok(Some(call.reply(&response)?))
}

fn check(broker: &Broker, request: &mut ConsumerGroupHeartbeatRequest, version: i16) -> Result<()> {
    let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    let invalid = |message: &str| Err(requests::invalid_request(message));
    if version < CLIENT_MEMBER_ID_FROM && request.member_epoch == JOIN_EPOCH && request.member_id.is_empty() {
        request.member_id = StrBytes::from_string(broker.fresh_id().to_string());
    }
    if request.group_id.is_empty() || request.member_id.is_empty() {
        return invalid("a group and a member have ids");
    }
    if is_empty(&request.instance_id) || is_empty(&request.rack_id) {
        return invalid("an instance id or a rack id is null or has at least one character");
    }
    match request.member_epoch {
        JOIN_EPOCH => check_join(request)?,
        LEAVE_STATIC_EPOCH if request.instance_id.is_none() => {
            return invalid("only a static member goes for a while (epoch -2)");
        }
        ..LEAVE_STATIC_EPOCH => return invalid("there is no epoch below -2"),
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
    Err(requests::invalid_request(format!("a member that joins (epoch 0) gives {problem}")))
}

async fn heartbeat(
    broker: &Broker,
    call: &Call,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse> {
    let failed = |error: StoreError| Refused::new(store_failed(call, &error), error.0);
    let group = to_arc(&request.group_id.0);
    // Earlier calls of the connection are decided first.
    call.ticket.turn().await;
    let timeouts = timeouts(broker, &group).await.map_err(failed)?;
    let mut heartbeat = command(broker, call, request, timeouts);
    let member = Arc::clone(&heartbeat.member_id);
    if let Some(reply) = at_rest(broker, &group, &mut heartbeat).await.map_err(failed)? {
        return Ok(response(timeouts, &member, reply));
    }
    let mut resolved = None;
    if !heartbeat.topics_are_current || heartbeat.regex.is_some() {
        resolved = Some(regexes::resolve(broker, call, &group, &mut heartbeat).await?);
    }
    let command = GroupCommand::ConsumerHeartbeat(Box::new(heartbeat));
    let mut applied = decide(broker, call, &group, command).await.map_err(failed)??;
    broker.coordinator.heard(&group, &member);
    if let Some(resolved) = resolved {
        broker.coordinator.saw(&group, resolved);
    }
    if let Applied::TargetDue(advance) = applied {
        applied = targets::advance(broker, call, &group, *advance).await.map_err(failed)??;
    }
    match applied {
        Applied::Heartbeat(reply) => Ok(response(timeouts, &member, reply)),
        _ => Err(Refused::new(ErrorCode::UnknownServerError, "the store gave another outcome")),
    }
}

/// Session timeout and heartbeat interval: the group's, or the broker's.
async fn timeouts(broker: &Broker, group: &Arc<str>) -> std::result::Result<GroupDefaults, StoreError> {
    let defaults = broker.settings.group_defaults();
    let configs = broker.store.get_one::<GroupConfigs>(group).await?;
    Ok(configs.map_or(defaults, |configs| group_timeouts(&configs.0, defaults)))
}

/// The reply to a member at rest, whose group has been held against the topics as they are now, which it notes in the
/// heartbeat. A member in its epoch has been heard from, however long the rest takes.
async fn at_rest(
    broker: &Broker,
    group: &Arc<str>,
    heartbeat: &mut ConsumerHeartbeat,
) -> std::result::Result<Option<HeartbeatReply>, StoreError> {
    if heartbeat.joins() {
        return Ok(None);
    }
    let topics = broker.directory().version();
    let Some((document, Some(member))) = broker.store.group_of(group, &heartbeat.member_id).await? else {
        return Ok(None);
    };
    if member.consumer.as_ref().is_some_and(|own| own.epoch == heartbeat.member_epoch) {
        broker.coordinator.heard(group, &heartbeat.member_id);
    }
    let seen = Seen { topics, epoch: document.generation };
    heartbeat.topics_are_current = broker.coordinator.has_seen(group, seen);
    Ok(if heartbeat.topics_are_current { rest(&document, &member, heartbeat) } else { None })
}

/// Answers from the current group if the heartbeat changes nothing, as is usual; otherwise commits it.
async fn decide(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    mut command: GroupCommand,
) -> std::result::Result<Outcome, StoreError> {
    if let DryRun::MissingTopics(names) = broker.store.dry_run(group, &command).await? {
        add_facts(broker, &mut command, &names).await?;
    }
    match broker.store.dry_run(group, &command).await? {
        DryRun::Unchanged(applied) => Ok(Ok(applied)),
        DryRun::MissingTopics(_) | DryRun::Changes => commit_with_topics(broker, call, group, command).await,
    }
}

fn command(
    broker: &Broker,
    call: &Call,
    request: &ConsumerGroupHeartbeatRequest,
    timeouts: GroupDefaults,
) -> ConsumerHeartbeat {
    let owned = request.topic_partitions.as_ref().map(|owned| {
        let of_topic =
            owned.iter().map(|own| (TopicId(own.topic_id), own.partitions.iter().copied().collect()));
        of_topic.collect::<Partitions>()
    });
    let topics = request.subscribed_topic_names.as_ref();
    ConsumerHeartbeat {
        member_id: to_arc(&request.member_id),
        instance_id: to_arc_nullable(request.instance_id.as_ref()),
        member_epoch: request.member_epoch,
        client_id: call.header.client_id.clone().unwrap_or_default(),
        client_host: Arc::from(format!("/{}", call.session.peer.ip())),
        rack: to_arc_nullable(request.rack_id.as_ref()),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != UNCHANGED),
        topics: topics.map(|topics| topics.iter().map(|topic| to_arc(&topic.0)).collect()),
        regex: to_arc_nullable(request.subscribed_topic_regex.as_ref()),
        resolved_regexes: Vec::new(),
        assignor: to_arc_nullable(request.server_assignor.as_ref()),
        owned,
        session_timeout_ms: timeouts.session_ms,
        members_max: broker.settings.group_max_size,
        known_topics: KnownTopics::default(),
        topics_are_current: false,
        now_ms: broker.time.now_ms(),
    }
}

fn response(
    timeouts: GroupDefaults,
    member: &Arc<str>,
    reply: HeartbeatReply,
) -> ConsumerGroupHeartbeatResponse {
    let assignment = reply.assignment.map(|assigned| {
        let of_topic = |(topic, partitions): (&TopicId, &BTreeSet<i32>)| {
            TopicPartitions::default()
                .with_topic_id(topic.0)
                .with_partitions(partitions.iter().copied().collect())
        };
        Assignment::default().with_topic_partitions(assigned.iter().map(of_topic).collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(to_wire(member)))
        .with_member_epoch(reply.member_epoch)
        .with_heartbeat_interval_ms(timeouts.heartbeat_ms)
        .with_assignment(assignment)
}

async fn leave(
    broker: &Broker,
    call: &Call,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse> {
    let leave = ConsumerLeave {
        member_id: to_arc(&request.member_id),
        instance_id: to_arc_nullable(request.instance_id.as_ref()),
        member_epoch: request.member_epoch,
        now_ms: broker.time.now_ms(),
    };
    let command = GroupCommand::ConsumerLeave(leave);
    let outcome = commit_refusable(broker, call, &to_arc(&request.group_id.0), command).await;
    outcome.map_err(|error| Refused::new(store_failed(call, &error), error.0.clone()))??;
    Ok(ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(request.member_id.clone()))
        .with_member_epoch(request.member_epoch))
}

#[cfg(test)]
mod tests;
