//! SyncGroup: the leader brings the assignments of all, the others wait for theirs.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kernel::{Call, ErrorCode};

use super::grouping::{
    change, check_group_id, gone, member, own, own_nullable, wait_for, wire, wire_nullable,
};
use super::shared;
use crate::rules::Done;
use crate::rules::groups::{CONSUMER, GroupChange, GroupDocument, GroupState, Member, Sync, Synced};
use crate::service::{Answer, Service};
use crate::store::GroupView;

/// From this version on both sides say what they take the group for (KIP-559).
const PROTOCOL_FROM: i16 = 5;

pub(crate) async fn handle(service: &Service, call: &mut Call) -> Answer {
    let request: SyncGroupRequest = call.decode()?;
    let is_good = check_group_id(&request.group_id).and_then(|()| check_protocol(call, &request));
    let group = own(&request.group_id.0);
    let sync = asked(service, &request);
    drop(request);
    // All of it has been copied out, so that a parked call holds no request memory.
    call.body.release();
    let response = match is_good {
        Ok(()) => synced(service, call, &group, sync).await,
        Err(error) => Err(error),
    };
    let response =
        response.unwrap_or_else(|error| SyncGroupResponse::default().with_error_code(error.code()));
    Ok(Some(call.reply(&response)?))
}

/// From KIP-559 on a member must say what it takes the group for.
fn check_protocol(call: &Call, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
    let is_said = request.protocol_type.is_some() && request.protocol_name.is_some();
    match call.header.version < PROTOCOL_FROM || is_said {
        true => Ok(()),
        false => Err(ErrorCode::InconsistentGroupProtocol),
    }
}

fn asked(service: &Service, request: &SyncGroupRequest) -> Sync {
    let assignments = request.assignments.iter();
    Sync {
        member: member(&request.member_id, request.group_instance_id.as_ref(), request.generation_id),
        protocol_type: own_nullable(request.protocol_type.as_ref()),
        protocol: own_nullable(request.protocol_name.as_ref()),
        assignments: assignments
            .map(|one| (own(&one.member_id), Bytes::copy_from_slice(&one.assignment)))
            .collect(),
        now_ms: service.clock.now_ms(),
    }
}

async fn synced(
    service: &Service,
    call: &Call,
    group: &Arc<str>,
    sync: Sync,
) -> Result<SyncGroupResponse, ErrorCode> {
    let member = sync.member.clone();
    let done = change(service, call, group, GroupChange::Sync(Box::new(sync))).await?;
    match done {
        Done::Synced(Synced::Waits | Synced::Assigned(_)) => {}
        Done::Synced(Synced::ByBroker { assignment, protocol }) => {
            service.coordinator.heard(group, &member.id);
            return Ok(SyncGroupResponse::default()
                .with_protocol_type(Some(shared::words(CONSUMER)))
                .with_protocol_name(Some(wire(&protocol)))
                .with_assignment(assignment));
        }
        _ => return Err(ErrorCode::UnknownServerError),
    }
    let _waits = service.coordinator.waits(group, &member.id);
    wait_for(service, call, group, |view| assigned(view, &member)).await
}

/// The answer to a member, once the leader has assigned.
fn assigned(view: Option<&GroupView>, member: &Member) -> Option<Result<SyncGroupResponse, ErrorCode>> {
    let present = view.and_then(|view| Some((&view.group, view.member(&member.id)?)));
    let Some((group, document)) = present else { return Some(Err(gone(view, member))) };
    match group.state {
        // The group has moved to the other protocol meanwhile.
        _ if group.consumer.is_some() => Some(Err(ErrorCode::RebalanceInProgress)),
        _ if group.generation != member.generation => Some(Err(ErrorCode::RebalanceInProgress)),
        GroupState::CompletingRebalance => None,
        GroupState::Stable => Some(Ok(response(group, document.assignment.0.clone()))),
        _ => Some(Err(ErrorCode::RebalanceInProgress)),
    }
}

fn response(group: &GroupDocument, assignment: Bytes) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_protocol_type(wire_nullable(group.protocol_type.as_ref()))
        .with_protocol_name(wire_nullable(group.protocol.as_ref()))
        .with_assignment(assignment)
}
