//! LeaveGroup: members leave, and their partitions are reassigned.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, GroupCommand, LeftMember};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{NO_GENERATION, check_group_id, commit, identity};
use crate::apis::common::text::to_arc;
use crate::broker::Broker;

/// From this version on several members leave at once (KIP-345).
const BATCHED_FROM: i16 = 3;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let mut request: LeaveGroupRequest = call.decode()?;
    let is_batched = call.header.version >= BATCHED_FROM;
    if !is_batched {
        request.members = vec![MemberIdentity::default().with_member_id(request.member_id.clone())];
    }
    let response = match leave(broker, call, &request).await {
        Ok(left) if is_batched => {
            let members = request.members.into_iter().zip(left);
            let answer = |(identity, left): (MemberIdentity, LeftMember)| {
                MemberResponse::default()
                    .with_member_id(identity.member_id)
                    .with_group_instance_id(identity.group_instance_id)
                    .with_error_code(left.err().map_or(0, |error| error.code()))
            };
            LeaveGroupResponse::default().with_members(members.map(answer).collect())
        }
        Ok(left) => {
            let error = left.into_iter().find_map(Result::err);
            LeaveGroupResponse::default().with_error_code(error.map_or(0, |error| error.code()))
        }
        Err(error) => LeaveGroupResponse::default().with_error_code(error.code()),
    };
    Ok(Some(call.reply(&response)?))
}

async fn leave(
    broker: &Broker,
    call: &Call,
    request: &LeaveGroupRequest,
) -> Result<Vec<LeftMember>, ErrorCode> {
    check_group_id(&request.group_id)?;
    let identity =
        |one: &MemberIdentity| identity(&one.member_id, one.group_instance_id.as_ref(), NO_GENERATION);
    let members = request.members.iter().map(identity).collect();
    let (now_ms, wall_ms) = (broker.time.now_ms(), broker.clock.now_ms());
    let leave = GroupCommand::Leave { members, now_ms, wall_ms };
    match commit(broker, call, &to_arc(&request.group_id.0), leave).await {
        Ok(Applied::Left(left)) => Ok(left),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        // There is no such group, and so no such member.
        Err(ErrorCode::UnknownMemberId) => Ok(vec![Err(ErrorCode::UnknownMemberId); request.members.len()]),
        Err(error) => Err(error),
    }
}
