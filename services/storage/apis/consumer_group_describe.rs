//! ConsumerGroupDescribe: groups of the consumer protocol and their members (KIP-848).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId};
use kernel::{Call, ErrorCode, TopicId};
use rules::documents::{ConsumerGroup, ConsumerMember, MemberDocument, Partitions, each};
use rules::groups::{GroupView, subscribed_names};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{check_group_id, store_failed};
use crate::apis::common::operations::{GROUP_OPERATIONS, OPERATIONS_NOT_ASKED};
use crate::apis::common::repeats::without_repeats;
use crate::apis::common::text::{self, to_arc, to_wire, to_wire_nullable};
use crate::broker::Broker;
use crate::engines::StoreError;

/// From this version on the response has the member type.
const TYPES_FROM: i16 = 1;
/// Kafka's member types.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;
const UNTOLD: i8 = -1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ConsumerGroupDescribeRequest = call.decode()?;
    call.ticket.after_writes().await;
    let asked = without_repeats(request.group_ids, GroupId::clone);
    let mut groups = Vec::with_capacity(asked.len());
    for group in asked {
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
            Some(group) => match TopicNames::of(broker, &view).await {
                Ok(names) => of_view(described, &view, group, &names, call.header.version),
                Err(error) => described.with_error_code(store_failed(call, &error).code()),
            },
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
    names: &TopicNames,
    version: i16,
) -> DescribedGroup {
    let members = view.members.iter().map(|(id, member)| described_member(id, member, names, version));
    described
        .with_group_state(text::str_bytes(view.group.state.name()))
        .with_group_epoch(view.group.generation)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(text::str_bytes(view.assignor().unwrap_or_default()))
        .with_members(members.collect())
}

fn described_member(id: &Arc<str>, member: &MemberDocument, names: &TopicNames, version: i16) -> Member {
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
        .with_assignment(assignment(&with_revoking(own), names))
        .with_target_assignment(assignment(&own.target, names))
}

/// The names of topics by id: those that the group subscribes to, and those that its members have yet to give up.
struct TopicNames(HashMap<TopicId, Arc<str>>);

impl TopicNames {
    async fn of(broker: &Broker, view: &GroupView) -> Result<Self, StoreError> {
        let subscribed = view.topics.topics.iter().map(|(name, topic)| (topic.id, Arc::clone(name)));
        let mut names: HashMap<TopicId, Arc<str>> = subscribed.collect();
        let held = view.members.iter().filter_map(|(_, member)| member.consumer.as_deref());
        let held = held.flat_map(|own| own.assigned.keys().chain(own.revoking.keys()));
        let others: BTreeSet<TopicId> = held.filter(|id| !names.contains_key(id)).copied().collect();
        if !others.is_empty() {
            let found = broker.directory().by_id(others.into_iter().collect()).await.map_err(StoreError)?;
            names.extend(found.into_iter().map(|topic| (topic.id, topic.name)));
        }
        Ok(Self(names))
    }
}

fn with_revoking(own: &ConsumerMember) -> Partitions {
    let mut all = Partitions::clone(&own.assigned);
    for (topic, partition) in each(&own.revoking) {
        all.entry(topic).or_default().insert(partition);
    }
    all
}

/// Deleted topics have no name and are left out.
fn assignment(partitions: &Partitions, names: &TopicNames) -> Assignment {
    let of_topic = partitions.iter().filter_map(|(topic, of_topic)| {
        let name = names.0.get(topic)?;
        Some(
            TopicPartitions::default()
                .with_topic_id(topic.0)
                .with_topic_name(text::topic_name(name))
                .with_partitions(of_topic.iter().copied().collect()),
        )
    });
    Assignment::default().with_topic_partitions(of_topic.collect())
}
