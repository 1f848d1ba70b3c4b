//! Heartbeat: restarts a member's session timeout. Nothing is written; leases are renewed together later.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use kernel::{Call, ErrorCode};
use rules::documents::GroupState;
use rules::groups::{check_heartbeat, must_join_again};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{check_group_id, identity, store_failed};
use crate::apis::common::text::to_arc;
use crate::broker::Broker;

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
    let view = broker.store.group(&group).await.map_err(|error| store_failed(call, &error))?;
    let view = check_heartbeat(view.as_ref(), &member)?;
    broker.coordinator.heard(&group, &member.id);
    let must_join_again = if view.group.consumer.is_some() {
        must_join_again(view, &member.id)
    } else {
        view.group.state == GroupState::PreparingRebalance
    };
    if must_join_again { Err(ErrorCode::RebalanceInProgress) } else { Ok(()) }
}
