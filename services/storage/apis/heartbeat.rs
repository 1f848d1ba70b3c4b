//! Heartbeat: restarts a member's session timeout. Nothing is written.

use std::sync::Arc;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use kernel::{Call, ErrorCode};
use rules::commands::MemberIdentity;
use rules::documents::GroupState;
use rules::groups::{GroupView, check_heartbeat, must_join_again};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{check_group_id, identity, store_failed};
use crate::apis::common::text::to_arc;
use crate::broker::Broker;
use crate::engines::StoreError;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: HeartbeatRequest = call.decode()?;
    // A heartbeat sent after a join or a leave must see the group as they left it.
    call.ticket.after_writes().await;
    let code = heartbeat(broker, call, &request).await.err().map_or(0, |error| error.code());
    Ok(Some(call.reply(&HeartbeatResponse::default().with_error_code(code))?))
}

async fn heartbeat(broker: &Broker, call: &Call, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
    check_group_id(&request.group_id)?;
    let group = to_arc(&request.group_id.0);
    let member = identity(&request.member_id, request.group_instance_id.as_ref(), request.generation_id);
    let view = view_for(broker, &group, &member).await.map_err(|error| store_failed(call, &error))?;
    let view = check_heartbeat(view.as_ref(), &member)?;
    broker.coordinator.heard(&group, &member.id);
    let must_join_again = if view.group.consumer.is_some() {
        must_join_again(view, &member.id)
    } else {
        view.group.state == GroupState::PreparingRebalance
    };
    if must_join_again { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
}

/// The group as far as a heartbeat needs it: with this member alone. Only the whole group tells which member has a group
/// instance id, and, while an application is migrated, a partition.
async fn view_for(
    broker: &Broker,
    group: &Arc<str>,
    member: &MemberIdentity,
) -> Result<Option<GroupView>, StoreError> {
    let Some((document, own)) = broker.store.group_of(group, &member.id).await? else { return Ok(None) };
    let has_instance = own.as_ref().is_some_and(|own| own.instance_id == member.instance_id);
    if document.consumer.is_some() || (member.instance_id.is_some() && !has_instance) {
        return broker.store.group(group).await;
    }
    let members = own.map(|own| (Arc::clone(&member.id), own)).into_iter().collect();
    Ok(Some(GroupView { group: document, members }))
}
