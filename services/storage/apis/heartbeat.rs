//! Heartbeat: restarts a member's session timeout. Nothing is written.

use std::sync::Arc;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use kernel::{Call, ErrorCode};
use rules::documents::{GroupDocument, GroupState, MemberDocument};
use rules::groups::{awaited, check_heartbeat, must_join_again};

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
    let failed = |error: StoreError| store_failed(call, &error);
    let view = broker.store.member_view(&group, &member).await.map_err(failed)?;
    let (document, own) = check_heartbeat(view.as_ref(), &member)?;
    broker.coordinator.heard(&group, &member.id);
    let must_join_again = if document.consumer.is_some() {
        is_to_rejoin(broker, &group, &member.id, (document, own)).await.map_err(failed)?
    } else {
        document.state == GroupState::PreparingRebalance
    };
    if must_join_again { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
}

/// Whether a classic member of a group of the consumer protocol must rejoin, while an application is migrated.
async fn is_to_rejoin(
    broker: &Broker,
    group: &Arc<str>,
    member: &Arc<str>,
    (document, own): (&GroupDocument, &MemberDocument),
) -> Result<bool, StoreError> {
    let awaited = awaited(own);
    let are_released = broker.store.are_released(group, member, awaited).await?;
    Ok(must_join_again(document, own, are_released))
}
