//! Moving a group from one protocol to the other while its members read on (KIP-848).

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::consumer_protocol::{read_assignment, read_subscription};

use super::classic::written;
use super::documents::{ConsumerGroup, ConsumerMember, Partitions, SubscribedTopic};
use super::settle;
use crate::rules::groups::documents::{Blob, GroupState, MemberDocument};
use crate::rules::groups::party::Party;
use crate::rules::groups::protocols::{self, CONSUMER};
use crate::rules::working_set::WorkingSet;

/// Whether all members of a classic group are consumers whose metadata can be read.
pub(in crate::rules::groups) fn can_upgrade(party: &Party) -> bool {
    let is_readable = |member: &MemberDocument| {
        member.protocols.iter().all(|own| read_subscription(&own.metadata.0).is_some())
            && (member.assignment.0.is_empty() || read_assignment(&member.assignment.0).is_some())
    };
    party.group.protocol_type.as_deref() == Some(CONSUMER)
        && party.members().all(|(_, member)| is_readable(member))
}

/// Makes a classic group one of the consumer protocol, with its members as they are. Their joins and syncs that wait are
/// over; they hear of it, and join again.
pub(in crate::rules::groups) fn upgrade(party: &mut Party, set: &WorkingSet<'_>, now_ms: i64) {
    let epoch = party.group.generation;
    let topic = |name: &Arc<str>| {
        let topic = set.topic(name)?;
        Some(SubscribedTopic { id: topic.id, partitions: topic.partitions })
    };
    let mut topics = BTreeMap::new();
    let ids: Vec<Arc<str>> = party.ids().cloned().collect();
    for id in ids {
        let Some(member) = party.member_mut(&id) else { continue };
        let read = read_assignment(&member.assignment.0).unwrap_or_default();
        let mut assigned = Partitions::new();
        for (name, partitions) in read {
            if let Some(topic) = topic(&name) {
                assigned.insert(topic.id, partitions);
            }
        }
        let subscribed = protocols::subscription(&member.protocols).into_iter().flat_map(|own| own.topics);
        topics.extend(subscribed.filter_map(|name| Some((Arc::clone(&name), topic(&name)?))));
        let target = assigned.clone();
        let own = ConsumerMember { epoch, previous_epoch: epoch, assigned, target, ..Default::default() };
        member.consumer = Some(Box::new(own));
        (member.has_joined, member.has_synced) = (false, true);
    }
    let consumer = ConsumerGroup { assignment_epoch: epoch, topics, ..Default::default() };
    party.group.consumer = Some(Arc::new(consumer));
    (party.group.protocol, party.group.leader) = (None, None);
    party.group.pending.clear();
    settle(party, now_ms);
}

/// Whether a group has members, and none of the consumer protocol.
pub(super) fn is_all_classic(party: &Party) -> bool {
    party.count() > 0 && party.members().all(|(_, member)| member.is_classic())
}

/// Makes a group whose last member of the consumer protocol has gone a classic one; its members join again.
pub(super) fn downgrade(party: &mut Party, now_ms: i64) {
    let assignment = |member: &MemberDocument| {
        let target = member.consumer.as_ref().map(|own| own.target.clone()).unwrap_or_default();
        Blob(written(&party.group, member, &target))
    };
    let assignments: Vec<_> =
        party.members().map(|(id, member)| (Arc::clone(id), assignment(member))).collect();
    for (id, assignment) in assignments {
        if let Some(member) = party.member_mut(&id) {
            member.assignment = assignment;
            member.consumer = None;
            (member.has_joined, member.has_synced) = (false, true);
        }
    }
    party.group.consumer = None;
    party.group.protocol_type = Some(Arc::from(CONSUMER));
    party.group.protocol = protocols::select(party);
    let first = party.ids().next().cloned();
    party.group.leader = first;
    (party.group.state, party.group.deadline) = (GroupState::Stable, None);
    party.prepare(0, now_ms);
}
