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

/// Whether all members of a classic group are consumers whose metadata can be parsed. All are loaded.
pub(in crate::groups) fn can_upgrade(group: &Group<'_>) -> bool {
    let is_readable = |member: &MemberDocument| {
        member.protocols.iter().all(|own| read_subscription(&own.metadata.0).is_some())
            && (member.assignment.0.is_empty() || read_assignment(&member.assignment.0).is_some())
    };
    group.document.protocol_type.as_deref() == Some(CONSUMER)
        && group.documents().into_iter().all(is_readable)
}

/// Converts a classic group and its members to the consumer protocol. Their waiting joins and syncs end, and
/// they rejoin.
pub(in crate::groups) fn upgrade(group: &mut Group<'_>, known: &KnownTopics, now_ms: i64) {
    let epoch = group.group_epoch();
    let mut topics = BTreeMap::new();
    for member in group.documents() {
        let subscribed = protocols::subscription(&member.protocols).into_iter().flat_map(|own| own.topics);
        topics.extend(subscribed.filter_map(|name| Some((Arc::clone(&name), known.get(&name)?))));
    }
    group.document.consumer = Some(Arc::new(ConsumerGroup::with_target_of(epoch)));
    group.change_topics(|own| Arc::make_mut(own).topics = topics);
    group.document.has_void_assignments = false;
    group.each(|member| {
        let mut assigned = Partitions::new();
        for (name, partitions) in read_assignment(&member.assignment.0).unwrap_or_default() {
            if let Some(topic) = known.get(&name) {
                assigned.insert(topic.id, partitions);
            }
        }
        let since = Arc::new(BTreeMap::from([(epoch, assigned.clone())]));
        let assigned = Arc::new(assigned);
        let target = Arc::clone(&assigned);
        let own =
            ConsumerMember { epoch, previous_epoch: epoch, assigned, since, target, ..Default::default() };
        member.consumer = Some(Box::new(own));
        (member.has_joined, member.has_synced) = (false, true);
    });
    (group.document.protocol, group.document.leader) = (None, None);
    group.clear_pending();
    settle(group, now_ms);
}

/// Whether a group has members, all of them classic.
pub(super) fn is_all_classic(group: &Group<'_>) -> bool {
    group.document.members > 0 && group.tally().classic == group.document.members
}

/// Converts a group whose last member of the consumer protocol has left to a classic one; its members rejoin.
pub(super) fn downgrade(group: &mut Group<'_>, now_ms: i64) {
    group.load_all();
    group.load_topics();
    let topics = group.topics().clone();
    group.each(|member| {
        let target = member.consumer.as_ref().map(|own| own.target.clone()).unwrap_or_default();
        member.assignment = Blob(classic_assignment(&topics, member, &target));
        member.consumer = None;
        (member.has_joined, member.has_synced) = (false, true);
    });
    group.document.consumer = None;
    group.document.protocol_type = Some(Arc::from(CONSUMER));
    group.document.protocol = protocols::select(&group.documents());
    group.document.leader = group.ids().into_iter().next();
    (group.document.state, group.document.deadline) = (GroupState::Stable, None);
    group.prepare(0, now_ms);
}
