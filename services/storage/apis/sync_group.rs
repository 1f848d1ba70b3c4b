//! SyncGroup: the leader sends the assignments of all members, the others wait for theirs.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, GroupCommand, Sync, Synced};
use rules::groups::{CONSUMER, MemberView, sync_answer};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{check_group_id, commit, identity, wait_for};
use crate::apis::common::text::{self, to_arc, to_arc_nullable, to_wire, to_wire_nullable};
use crate::broker::Broker;

/// From this version on request and response have protocol type and name (KIP-559).
const PROTOCOL_FROM: i16 = 5;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: SyncGroupRequest = call.decode()?;
    let is_good = check_group_id(&request.group_id).and_then(|()| check_protocol(call, &request));
    let group = to_arc(&request.group_id.0);
    let sync = asked(broker, &request);
    drop(request);
    // Everything has been copied out of the request, so that a waiting call holds no request memory.
    call.body.release();
    let response = match is_good {
        Ok(()) => synced(broker, call, &group, sync).await,
        Err(error) => Err(error),
    };
    let response =
        response.unwrap_or_else(|error| SyncGroupResponse::default().with_error_code(error.code()));
    Ok(Some(call.reply(&response)?))
}

/// From KIP-559 on a member must send the protocol type and name that it expects.
fn check_protocol(call: &Call, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    let is_said = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.header.version < PROTOCOL_FROM || is_said {
        Ok(())
    } else {
        Err(ErrorCode::InconsistentGroupProtocol)
    }
}

fn asked(broker: &Broker, request: &SyncGroupRequest) -> Sync {
    let assignments = request.assignments.iter();
    Sync {
        member: identity(&request.member_id, request.group_instance_id.as_ref(), request.generation_id),
        protocol_type: to_arc_nullable(request.protocol_type.as_ref()),
        protocol: to_arc_nullable(request.protocol_name.as_ref()),
        assignments: assignments
            .map(|one| (to_arc(&one.member_id), Bytes::copy_from_slice(&one.assignment)))
            .collect(),
        now_ms: broker.time.now_ms(),
    }
}

async fn synced(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    sync: Sync,
) -> Result<SyncGroupResponse, ErrorCode> {
    let member = sync.member.clone();
    let done = commit(broker, call, group, GroupCommand::Sync(Box::new(sync))).await?;
    match done {
        Applied::Synced(Synced::Waits | Synced::Assigned(_)) => {}
        Applied::Synced(Synced::ByBroker { assignment, protocol }) => {
            broker.coordinator.heard(group, &member.id);
            return Ok(SyncGroupResponse::default()
                .with_protocol_type(Some(text::str_bytes(CONSUMER)))
                .with_protocol_name(Some(to_wire(&protocol)))
                .with_assignment(assignment));
        }
        _ => return Err(ErrorCode::UnknownServerError),
    }
    let _waits = broker.coordinator.waits(group, &member.id);
    wait_for(broker, call, group, &member, |view| {
        let answer = sync_answer(view, &member)?;
        Some(answer.and_then(|synced| response(view, synced)))
    })
    .await
}

fn response(view: Option<&MemberView>, synced: Synced) -> Result<SyncGroupResponse, ErrorCode> {
    let (Some(MemberView { group, .. }), Synced::Assigned(assignment)) = (view, synced) else {
        return Err(ErrorCode::UnknownServerError);
    };
    Ok(SyncGroupResponse::default()
        .with_protocol_type(to_wire_nullable(group.protocol_type.as_ref()))
        .with_protocol_name(to_wire_nullable(group.protocol.as_ref()))
        .with_assignment(assignment))
}
