//! JoinGroup: a member joins, and waits until all others have joined.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, GroupCommand, Join, Joined, KnownTopics, MemberIdentity};
use rules::documents::{Blob, MemberProtocol};
use rules::groups::{CONSUMER, GroupView, join_answer};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{
    NO_GENERATION, check_group_id, commit_with_topics, identity, store_failed, wait_for,
};
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
        now_ms: broker.clock.now_ms(),
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
    let command = GroupCommand::Join(Box::new(join));
    let outcome = commit_with_topics(broker, call, group, command).await;
    let outcome = outcome.map_err(|error| store_failed(call, &error))?;
    match outcome.map_err(|refused| refused.error)? {
        Applied::Joined(Joined::Waits { member, generation }) => {
            let waiting = MemberIdentity { id: member, ..asked };
            let _waits = broker.coordinator.waits(group, &waiting.id);
            let joined = wait_for(broker, call, group, |view| {
                let answer = join_answer(view, &waiting, generation)?;
                Some(answer.and_then(|joined| response(view, &joined)))
            });
            Ok(joined.await.unwrap_or_else(|error| match error {
                // The member has left: the response has no member id.
                ErrorCode::UnknownMemberId => refusal(StrBytes::default(), error),
                _ => refusal(to_wire(&waiting.id), error),
            }))
        }
        Applied::Joined(joined) => {
            if let Joined::In { member, .. } | Joined::ByBroker { member, .. } = &joined {
                broker.coordinator.heard(group, member);
            }
            let view = broker.store.group(group).await.map_err(|error| store_failed(call, &error))?;
            response(view.as_ref(), &joined)
        }
        _ => Err(ErrorCode::UnknownServerError),
    }
}

/// The response to a member that has joined, or must join again with its new member id.
fn response(view: Option<&GroupView>, joined: &Joined) -> Result<JoinGroupResponse, ErrorCode> {
    match joined {
        Joined::IdRequired(id) => Ok(refusal(to_wire(id), ErrorCode::MemberIdRequired)),
        Joined::In { member, lists_members, skips_assignment, leader } => {
            let view = view.ok_or(ErrorCode::UnknownMemberId)?;
            let response = of_generation(view, member, *lists_members);
            Ok(response.with_leader(to_wire(leader)).with_skip_assignment(*skips_assignment))
        }
        Joined::ByBroker { member, epoch, protocol } => Ok(JoinGroupResponse::default()
            .with_generation_id(*epoch)
            .with_protocol_type(Some(text::str_bytes(CONSUMER)))
            .with_protocol_name(Some(to_wire(protocol)))
            .with_member_id(to_wire(member))),
        Joined::Waits { .. } => Err(ErrorCode::UnknownServerError),
    }
}

fn of_generation(view: &GroupView, member: &Arc<str>, lists_members: bool) -> JoinGroupResponse {
    let group = &view.group;
    let protocol = group.protocol.clone().unwrap_or_default();
    let listed = view.members.iter().filter(|_| lists_members).map(|(id, document)| {
        let metadata = document.metadata(&protocol).map(|metadata| metadata.0.clone());
        JoinGroupResponseMember::default()
            .with_member_id(to_wire(id))
            .with_group_instance_id(to_wire_nullable(document.instance_id.as_ref()))
            .with_metadata(metadata.unwrap_or_default())
    });
    JoinGroupResponse::default()
        .with_generation_id(group.generation)
        .with_protocol_type(to_wire_nullable(group.protocol_type.as_ref()))
        // An empty protocol name is sent as null, as in Kafka.
        .with_protocol_name(Some(to_wire(&protocol)).filter(|name| !name.is_empty()))
        .with_leader(to_wire_nullable(group.leader.as_ref()).unwrap_or_default())
        .with_member_id(to_wire(member))
        .with_members(listed.collect())
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
