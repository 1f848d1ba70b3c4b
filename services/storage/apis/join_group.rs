//! JoinGroup: a member joins, and waits until all others have joined.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode};
use rules::commands::{
    Advance, Applied, GroupCommand, HeartbeatReply, Join, Joined, KnownTopics, MemberIdentity,
};
use rules::documents::{Blob, GroupDocument, MemberProtocol};
use rules::groups::{CONSUMER, join_answer};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{
    NO_GENERATION, check_group_id, commit_with_topics, identity, store_failed, wait_for,
};
use crate::apis::common::targets;
use crate::apis::common::text::{self, to_arc, to_wire, to_wire_nullable};
use crate::broker::Broker;

/// From this version on a new member gets its member id first (KIP-394).
const KNOWN_ID_FROM: i16 = 4;
/// From this version on the leader can be told to skip the assignment (KIP-814).
const SKIPS_ASSIGNMENT_FROM: i16 = 9;
/// From this version on a protocol's name may be null (KIP-559).
const NULL_PROTOCOL_FROM: i16 = 7;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: JoinGroupRequest = call.decode()?;
    let version = call.header.version;
    let asked = asked(broker, call, &request);
    drop(request);
    // Everything has been copied out of the request, so that a waiting call holds no request memory.
    call.body.release();
    let response = match asked {
        Ok((group, asked)) => {
            let id = to_wire(&asked.member.id);
            let joined = join(broker, call, &group, asked).await;
            joined.unwrap_or_else(|error| refusal(id, error))
        }
        Err((id, error)) => refusal(id, error),
    };
    Ok(Some(call.reply(&for_version(response, version))?))
}

/// The request, copied out of its frame, or why it is invalid.
fn asked(
    broker: &Broker,
    call: &Call,
    request: &JoinGroupRequest,
) -> Result<(Arc<str>, Join), (StrBytes, ErrorCode)> {
    let version = call.header.version;
    let refused = |error| (to_wire(&to_arc(&request.member_id)), error);
    check_group_id(&request.group_id).map_err(refused)?;
    let settings = &broker.settings;
    let timeout = i128::from(request.session_timeout_ms);
    let bounds = [&settings.group_min_session_timeout, &settings.group_max_session_timeout];
    let [least, most] = bounds.map(|span| span.0.as_millis() as i128);
    if !(least..=most).contains(&timeout) {
        return Err(refused(ErrorCode::InvalidSessionTimeout));
    }
    // Version 0 has one timeout for session and rebalance.
    let rebalance_timeout_ms = match version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    let member = identity(&request.member_id, request.group_instance_id.as_ref(), NO_GENERATION);
    let client_id = call.header.client_id.clone().unwrap_or_default();
    let prefix = member.instance_id.as_ref().unwrap_or(&client_id);
    let protocol =
        |own: &kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| MemberProtocol {
            name: Arc::from(own.name.as_str()),
            metadata: Blob(Bytes::copy_from_slice(&own.metadata)),
        };
    let join = Join {
        fresh_id: Arc::from(format!("{prefix}-{}", broker.fresh_id())),
        member,
        requires_known_id: version >= KNOWN_ID_FROM,
        can_skip_assignment: version >= SKIPS_ASSIGNMENT_FROM,
        client_id,
        client_host: Arc::from(format!("/{}", call.session.peer.ip())),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: Arc::from(request.protocol_type.as_str()),
        protocols: request.protocols.iter().map(protocol).collect(),
        initial_delay_ms: settings.group_initial_rebalance_delay.0.as_millis() as i64,
        members_max: settings.group_max_size,
        known_topics: KnownTopics::default(),
        now_ms: broker.time.now_ms(),
    };
    Ok((to_arc(&request.group_id.0), join))
}

async fn join(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    join: Join,
) -> Result<JoinGroupResponse, ErrorCode> {
    let asked = join.member.clone();
    let protocol = join.protocols.first().map(|own| Arc::clone(&own.name)).unwrap_or_default();
    let command = GroupCommand::Join(Box::new(join));
    let outcome = commit_with_topics(broker, call, group, command).await;
    let outcome = outcome.map_err(|error| store_failed(call, &error))?;
    match outcome.map_err(|refused| refused.error)? {
        Applied::Joined(Joined::Waits { member, generation }) => {
            let waiting = MemberIdentity { id: member, ..asked };
            let joined = wait(broker, call, group, &waiting, generation).await;
            Ok(joined.unwrap_or_else(|error| match error {
                // The member has left: the response has no member id.
                ErrorCode::UnknownMemberId => refusal(StrBytes::default(), error),
                _ => refusal(to_wire(&waiting.id), error),
            }))
        }
        Applied::Joined(Joined::IdRequired(id)) => Ok(refusal(to_wire(&id), ErrorCode::MemberIdRequired)),
        Applied::Joined(Joined::In { member, lists_members, skips_assignment, leader }) => {
            broker.coordinator.heard(group, &member);
            let document = broker.store.get_one::<GroupDocument>(group).await;
            let document = document.map_err(|error| store_failed(call, &error))?;
            let document = document.ok_or(ErrorCode::UnknownMemberId)?;
            let response = of_generation(broker, call, group, &document, lists_members).await?;
            let response = response.with_member_id(to_wire(&member)).with_leader(to_wire(&leader));
            Ok(response.with_skip_assignment(skips_assignment))
        }
        Applied::Joined(Joined::ByBroker { member, epoch, protocol }) => {
            broker.coordinator.heard(group, &member);
            Ok(by_broker(&member, epoch, &protocol))
        }
        Applied::TargetDue(advance) => {
            broker.coordinator.heard(group, &advance.member_id);
            by_target(broker, call, group, *advance, &protocol).await
        }
        _ => Err(ErrorCode::UnknownServerError),
    }
}

/// The response to a member that waits for the next generation, once that has started.
async fn wait(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    member: &MemberIdentity,
    generation: i32,
) -> Result<JoinGroupResponse, ErrorCode> {
    let _waits = broker.coordinator.waits(group, &member.id);
    let (joined, document) = wait_for(broker, call, group, member, |view| {
        let answer = join_answer(view, member, generation)?;
        let document = view.map(|view| Arc::clone(&view.group)).ok_or(ErrorCode::UnknownMemberId);
        Some(answer.and_then(|joined| Ok((joined, document?))))
    })
    .await?;
    let Joined::In { member, lists_members, leader, .. } = joined else {
        return Err(ErrorCode::UnknownServerError);
    };
    let response = of_generation(broker, call, group, &document, lists_members).await?;
    Ok(response.with_member_id(to_wire(&member)).with_leader(to_wire(&leader)))
}

/// The response of a generation. Only for the one that assigns all members are read.
async fn of_generation(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    document: &GroupDocument,
    lists_members: bool,
) -> Result<JoinGroupResponse, ErrorCode> {
    let protocol = document.protocol.clone().unwrap_or_default();
    let mut listed = Vec::new();
    if lists_members {
        let view = broker.store.group(group).await.map_err(|error| store_failed(call, &error))?;
        let view = view.ok_or(ErrorCode::UnknownMemberId)?;
        if view.group.generation != document.generation {
            // That generation is over.
            return Err(ErrorCode::RebalanceInProgress);
        }
        listed.extend(view.members.iter().map(|(id, member)| {
            let metadata = member.metadata(&protocol).map(|metadata| metadata.0.clone());
            JoinGroupResponseMember::default()
                .with_member_id(to_wire(id))
                .with_group_instance_id(to_wire_nullable(member.instance_id.as_ref()))
                .with_metadata(metadata.unwrap_or_default())
        }));
    }
    Ok(JoinGroupResponse::default()
        .with_generation_id(document.generation)
        .with_protocol_type(to_wire_nullable(document.protocol_type.as_ref()))
        // An empty protocol name is sent as null, as in Kafka.
        .with_protocol_name(Some(to_wire(&protocol)).filter(|name| !name.is_empty()))
        .with_members(listed))
}

/// The response to a member of a group of the consumer protocol.
fn by_broker(member: &Arc<str>, epoch: i32, protocol: &Arc<str>) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_generation_id(epoch)
        .with_protocol_type(Some(text::str_bytes(CONSUMER)))
        .with_protocol_name(Some(to_wire(protocol)))
        .with_member_id(to_wire(member))
}

/// The same, once the target assignment is installed.
async fn by_target(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    advance: Advance,
    protocol: &Arc<str>,
) -> Result<JoinGroupResponse, ErrorCode> {
    let member = Arc::clone(&advance.member_id);
    let outcome = targets::advance(broker, call, group, advance).await;
    let outcome = outcome.map_err(|error| store_failed(call, &error))?;
    match outcome.map_err(|refused| refused.error)? {
        Applied::Heartbeat(HeartbeatReply { member_epoch, .. }) => {
            Ok(by_broker(&member, member_epoch, protocol))
        }
        _ => Err(ErrorCode::UnknownServerError),
    }
}

fn refusal(member: StrBytes, error: ErrorCode) -> JoinGroupResponse {
    // A full group has not kept the member.
    let member = if error == ErrorCode::GroupMaxSizeReached { StrBytes::default() } else { member };
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(NO_GENERATION)
        .with_protocol_name(None)
        .with_member_id(member)
}

fn for_version(response: JoinGroupResponse, version: i16) -> JoinGroupResponse {
    let lacks_name = response.protocol_name.is_none() && version < NULL_PROTOCOL_FROM;
    let response = if lacks_name { response.with_protocol_name(Some(StrBytes::default())) } else { response };
    let has_skip = version >= SKIPS_ASSIGNMENT_FROM;
    let skips = response.skip_assignment && has_skip;
    response.with_skip_assignment(skips)
}
