//! DescribeGroups: classic groups and their members.

use std::sync::Arc;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kernel::{Call, ErrorCode};
use rules::documents::{GroupState, MemberDocument};
use rules::groups::GroupView;

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::store_failed;
use crate::apis::common::operations::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED};
use crate::apis::common::repeats::without_repeats;
use crate::apis::common::text::{self, to_arc, to_wire, to_wire_nullable};
use crate::broker::Broker;

/// Kafka's state of a group that does not exist.
const DEAD: &str = "Dead";
/// From this version on a group that does not exist is an error (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeGroupsRequest = call.decode()?;
    call.ticket.after_writes().await;
    let operations =
        if request.include_authorized_operations { GROUP_OPERATIONS } else { OPERATIONS_NOT_ASKED };
    let asked = without_repeats(request.groups, GroupId::clone);
    let mut groups = Vec::with_capacity(asked.len());
    for group in asked {
        groups.push(describe(broker, call, group, operations).await);
    }
    let response = DescribeGroupsResponse::default().with_groups(groups);
    Ok(Some(call.reply(&response)?))
}

async fn describe(broker: &Broker, call: &Call, id: GroupId, operations: i32) -> DescribedGroup {
    let described =
        DescribedGroup::default().with_authorized_operations(OPERATIONS_NOT_ASKED).with_group_id(id.clone());
    match broker.store.group(&to_arc(&id.0)).await {
        Ok(Some(view)) if view.group.consumer.is_none() => {
            of_view(described, &view).with_authorized_operations(operations)
        }
        Ok(_) if call.header.version < NOT_FOUND_FROM => {
            described.with_group_state(text::str_bytes(DEAD)).with_authorized_operations(operations)
        }
        Ok(Some(_)) => not_found(described, format!("Group {} is not a classic group.", id.as_str())),
        Ok(None) => not_found(described, format!("Group {} not found.", id.as_str())),
        Err(error) => described.with_error_code(store_failed(call, &error).code()),
    }
}

fn not_found(described: DescribedGroup, message: String) -> DescribedGroup {
    described
        .with_group_state(text::str_bytes(DEAD))
        .with_error_code(ErrorCode::GroupIdNotFound.code())
        .with_error_message(text::error_message(message))
}

fn of_view(described: DescribedGroup, view: &GroupView) -> DescribedGroup {
    let group = &view.group;
    // The selected protocol is shown only in the Stable state.
    let protocol = group.protocol.clone().filter(|_| group.state == GroupState::Stable);
    let member = |(id, member): &(Arc<str>, Arc<MemberDocument>)| {
        let metadata = protocol.as_ref().and_then(|protocol| member.metadata(protocol));
        DescribedGroupMember::default()
            .with_member_id(to_wire(id))
            .with_group_instance_id(to_wire_nullable(member.instance_id.as_ref()))
            .with_client_id(to_wire(&member.client_id))
            .with_client_host(to_wire(&member.client_host))
            .with_member_metadata(metadata.map(|metadata| metadata.0.clone()).unwrap_or_default())
            .with_member_assignment(member.assignment.0.clone())
    };
    described
        .with_group_state(text::str_bytes(group.state.name()))
        .with_protocol_type(to_wire_nullable(group.protocol_type.as_ref()).unwrap_or_default())
        .with_protocol_data(to_wire_nullable(protocol.as_ref()).unwrap_or_default())
        .with_members(view.members.iter().map(member).collect())
}
