//! Heartbeat: a member lives. Nothing is written; the coordinator's keeper renews its lease in time.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use kernel::{Call, ErrorCode};

use super::grouping::{check_group_id, gone, member, own, store_failed};
use crate::rules::groups::{GroupState, Member};
use crate::service::{Answer, Service};
use crate::store::GroupView;

pub(crate) async fn handle(service: &Service, call: &mut Call) -> Answer {
    let request: HeartbeatRequest = call.decode()?;
    // A heartbeat that was sent behind a join or a leave is about what those have made of the group.
    call.ticket.after_writes().await;
    let beat = beat(service, call, &request).await;
    let code = beat.err().map_or(0, |error| error.code());
    Ok(Some(call.reply(&HeartbeatResponse::default().with_error_code(code))?))
}

async fn beat(service: &Service, call: &Call, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
    check_group_id(&request.group_id)?;
    let group = own(&request.group_id.0);
    let member = member(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
    let view = service.store.group(&group).await.map_err(|error| store_failed(call, &error))?;
    let state = check(view.as_ref(), &member)?;
    service.coordinator.heard(&group, &member.id);
    if state == GroupState::PreparingRebalance { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
}

fn check(view: Option<&GroupView>, member: &Member) -> Result<GroupState, ErrorCode> {
    let present = view.and_then(|view| Some((&view.group, view.member(&member.id)?)));
    let (group, document) = present.ok_or_else(|| gone(view, member))?;
    if member.instance_id.is_some() && member.instance_id != document.instance_id {
        return Err(gone(view, member));
    }
    if member.generation != group.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    Ok(group.state)
}
