//! Heartbeat: a member lives. Nothing is written; the coordinator's keeper renews its lease in time.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use kernel::{Call, ErrorCode};

use super::grouping::{check_group_id, gone, member, own, store_failed};
use crate::rules::groups::{GroupState, Member, must_join_again};
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
    let view = check(view.as_ref(), &member)?;
    service.coordinator.heard(&group, &member.id);
    let must_join_again = match view.group.consumer.is_some() {
        true => must_join_again(&view.group, &view.members, &member.id),
        false => view.group.state == GroupState::PreparingRebalance,
    };
    if must_join_again { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
}

fn check<'a>(view: Option<&'a GroupView>, member: &Member) -> Result<&'a GroupView, ErrorCode> {
    let present = view.and_then(|view| Some((view, view.member(&member.id)?)));
    let (found, document) = present.ok_or_else(|| gone(view, member))?;
    if member.instance_id.is_some() && member.instance_id != document.instance_id {
        return Err(gone(view, member));
    }
    let generation = match &document.consumer {
        None => found.group.generation,
        Some(own) if document.is_classic() => own.epoch,
        // It has another heartbeat.
        Some(_) => return Err(ErrorCode::UnknownMemberId),
    };
    if member.generation == generation { Ok(found) } else { Err(ErrorCode::IllegalGeneration) }
}
