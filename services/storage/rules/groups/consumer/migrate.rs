//! Online migration of a group between the protocols (KIP-848).

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::consumer_protocol::{read_assignment, read_subscription};

use super::classic_assignment::classic_assignment;
use super::state::settle;
use crate::commands::KnownTopics;
use crate::documents::{Blob, ConsumerGroup, ConsumerMember, GroupState, MemberDocument, Partitions};
use crate::groups::group::Group;
use crate::groups::protocols::{self, CONSUMER};

/// Whether all members of a classic group are consumers whose metadata can be parsed.
pub(in crate::groups) fn can_upgrade(group: &Group) -> bool {
    let is_readable = |member: &MemberDocument| {
        member.protocols.iter().all(|own| read_subscription(&own.metadata.0).is_some())
            && (member.assignment.0.is_empty() || read_assignment(&member.assignment.0).is_some())
    };
    group.document.protocol_type.as_deref() == Some(CONSUMER)
        && group.members().all(|(_, member)| is_readable(member))
}

/// Converts a classic group and its members to the consumer protocol. Their waiting joins and syncs end, and
/// they rejoin.
pub(in crate::groups) fn upgrade(group: &mut Group, known: &KnownTopics, now_ms: i64) {
    let epoch = group.group_epoch();
    let mut topics = BTreeMap::new();
    let ids: Vec<Arc<str>> = group.ids().cloned().collect();
    for id in ids {
        let Some(member) = group.member_mut(&id) else { continue };
        let read = read_assignment(&member.assignment.0).unwrap_or_default();
        let mut assigned = Partitions::new();
        for (name, partitions) in read {
            if let Some(topic) = known.get(&name) {
                assigned.insert(topic.id, partitions);
            }
        }
        let subscribed = protocols::subscription(&member.protocols).into_iter().flat_map(|own| own.topics);
        topics.extend(subscribed.filter_map(|name| Some((Arc::clone(&name), known.get(&name)?))));
        let target = assigned.clone();
        let own = ConsumerMember { epoch, previous_epoch: epoch, assigned, target, ..Default::default() };
        member.consumer = Some(Box::new(own));
        (member.has_joined, member.has_synced) = (false, true);
    }
    let consumer = ConsumerGroup { assignment_epoch: epoch, topics, ..Default::default() };
    group.document.consumer = Some(Arc::new(consumer));
    (group.document.protocol, group.document.leader) = (None, None);
    group.clear_pending();
    settle(group, now_ms);
}

/// Whether a group has members, all of them classic.
pub(super) fn is_all_classic(group: &Group) -> bool {
    group.count() > 0 && group.members().all(|(_, member)| member.is_classic())
}

/// Converts a group whose last member of the consumer protocol has left to a classic one; its members rejoin.
pub(super) fn downgrade(group: &mut Group, now_ms: i64) {
    let assignment = |member: &MemberDocument| {
        let target = member.consumer.as_ref().map(|own| own.target.clone()).unwrap_or_default();
        Blob(classic_assignment(&group.document, member, &target))
    };
    let assignments: Vec<_> =
        group.members().map(|(id, member)| (Arc::clone(id), assignment(member))).collect();
    for (id, assignment) in assignments {
        if let Some(member) = group.member_mut(&id) {
            member.assignment = assignment;
            member.consumer = None;
            (member.has_joined, member.has_synced) = (false, true);
        }
    }
    group.document.consumer = None;
    group.document.protocol_type = Some(Arc::from(CONSUMER));
    group.document.protocol = protocols::select(&group.documents());
    let first = group.ids().next().cloned();
    group.document.leader = first;
    (group.document.state, group.document.deadline) = (GroupState::Stable, None);
    group.prepare(0, now_ms);
}
