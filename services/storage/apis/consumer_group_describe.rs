//! ConsumerGroupDescribe: groups of the consumer protocol and their members (KIP-848).

use std::sync::Arc;

use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId};
use kernel::{Call, ErrorCode};
use rules::documents::{ConsumerGroup, ConsumerMember, GroupTopics, MemberDocument, Partitions, each};
use rules::groups::{GroupView, subscribed_names};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{check_group_id, store_failed};
use crate::apis::common::operations::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED};
use crate::apis::common::text::{self, to_arc, to_wire, to_wire_nullable};
use crate::broker::Broker;

/// From this version on the response has the member type.
const TYPES_FROM: i16 = 1;
/// Kafka's member types.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;
const UNTOLD: i8 = -1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ConsumerGroupDescribeRequest = call.decode()?;
    call.ticket.after_writes().await;
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for group in request.group_ids {
        let described = describe(broker, call, group).await;
        let is_asked = request.include_authorized_operations && described.error_code == 0;
        let operations = if is_asked { GROUP_OPERATIONS } else { OPERATIONS_NOT_ASKED };
        groups.push(described.with_authorized_operations(operations));
    }
    let response = ConsumerGroupDescribeResponse::default().with_groups(groups);
    Ok(Some(call.reply(&response)?))
}

async fn describe(broker: &Broker, call: &Call, id: GroupId) -> DescribedGroup {
    let described = DescribedGroup::default().with_group_id(id.clone());
    if let Err(error) = check_group_id(&id) {
        return described.with_error_code(error.code());
    }
    let not_found = |message| {
        let described = DescribedGroup::default().with_group_id(id.clone());
        described
            .with_error_code(ErrorCode::GroupIdNotFound.code())
            .with_error_message(text::error_message(message))
    };
    match broker.store.group(&to_arc(&id.0)).await {
        Ok(Some(view)) => match &view.group.consumer {
            Some(group) => of_view(described, &view, group, call.header.version),
            None => not_found(format!("Group {} is not a consumer group.", id.as_str())),
        },
        Ok(None) => not_found(format!("Group {} not found.", id.as_str())),
        Err(error) => described.with_error_code(store_failed(call, &error).code()),
    }
}

fn of_view(
    described: DescribedGroup,
    view: &GroupView,
    group: &ConsumerGroup,
    version: i16,
) -> DescribedGroup {
    let members = view.members.iter().map(|(id, member)| described_member(id, member, &view.topics, version));
    described
        .with_group_state(text::str_bytes(view.group.state.name()))
        .with_group_epoch(view.group.generation)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(text::str_bytes(view.assignor().unwrap_or_default()))
        .with_members(members.collect())
}

fn described_member(id: &Arc<str>, member: &MemberDocument, topics: &GroupTopics, version: i16) -> Member {
    let kind = match member.is_classic() {
        _ if version < TYPES_FROM => UNTOLD,
        true => CLASSIC,
        false => CONSUMER,
    };
    let described = Member::default()
        .with_member_id(to_wire(id))
        .with_instance_id(to_wire_nullable(member.instance_id.as_ref()))
        .with_client_id(to_wire(&member.client_id))
        .with_client_host(to_wire(&member.client_host))
        .with_subscribed_topic_names(
            subscribed_names(member).iter().map(|name| text::topic_name(name)).collect(),
        )
        .with_member_type(kind);
    let Some(own) = &member.consumer else { return described };
    described
        .with_rack_id(to_wire_nullable(own.rack.as_ref()))
        .with_member_epoch(own.epoch)
        // Kafka sends an empty string for a missing regular expression.
        .with_subscribed_topic_regex(Some(own.regex.as_ref().map(to_wire).unwrap_or_default()))
        // What it has yet to give up is still its own (KAFKA-20431).
        .with_assignment(assignment(&with_revoking(own), topics))
        .with_target_assignment(assignment(&own.target, topics))
}

fn with_revoking(own: &ConsumerMember) -> Partitions {
    let mut all = Partitions::clone(&own.assigned);
    for (topic, partition) in each(&own.revoking) {
        all.entry(topic).or_default().insert(partition);
    }
    all
}

/// Deleted topics have no name and are left out.
fn assignment(partitions: &Partitions, topics: &GroupTopics) -> Assignment {
    let of_topic = partitions.iter().filter_map(|(topic, of_topic)| {
        let name = topics.topic_name(*topic)?;
        Some(
            TopicPartitions::default()
                .with_topic_id(topic.0)
                .with_topic_name(text::topic_name(name))
                .with_partitions(of_topic.iter().copied().collect()),
        )
    });
    Assignment::default().with_topic_partitions(of_topic.collect())
}
