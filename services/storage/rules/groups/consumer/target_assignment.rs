//! The target assignment, computed once per group epoch.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::TopicId;

use super::assign::{Candidate, Counts, assign};
use super::subscriptions::subscribed;
use crate::documents::MemberDocument;
use crate::groups::assignors::elected_assignor;
use crate::groups::group::Group;

/// Computes the target assignment if the group epoch has changed.
pub(super) fn update_targets(group: &mut Group) {
    let epoch = group.group_epoch();
    let Some(consumer) = group.document.consumer.clone().filter(|own| own.assignment_epoch < epoch) else {
        return;
    };
    let counts: Counts = consumer.topics.values().map(|topic| (topic.id, topic.partitions)).collect();
    let id = |name: &Arc<str>| consumer.topics.get(name).map(|topic| topic.id);
    let candidate = |member: &MemberDocument| Candidate {
        topics: subscribed(&consumer, member).iter().filter_map(id).collect::<BTreeSet<TopicId>>(),
        before: member.consumer.as_ref().map(|own| own.target.clone()).unwrap_or_default(),
    };
    let votes = group.members().map(|(_, member)| member.consumer.as_ref()?.assignor.as_deref());
    let assignor = elected_assignor(votes);
    let candidates: Vec<Candidate> = group.members().map(|(_, member)| candidate(member)).collect();
    let targets = assign(assignor, &candidates, &counts);
    let ids: Vec<Arc<str>> = group.ids().cloned().collect();
    for (id, target) in ids.iter().zip(targets) {
        if let Some(own) = group.consumer_mut(id) {
            own.target = target;
        }
    }
    if let Some(consumer) = group.document.consumer.as_mut().map(Arc::make_mut) {
        consumer.assignment_epoch = epoch;
    }
}
