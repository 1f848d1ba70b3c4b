//! The target assignment, computed for a group epoch.
//!
//! Computing it takes time, so it happens aside, on a snapshot, and never while a store decides commands. The group may
//! have a later epoch once it is installed (KIP-848 lets the assignment epoch lag behind the group epoch): while many
//! members join, none of their targets would ever be installed otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;

use super::assign::{Candidate, Counts, assign};
use super::state::settle;
use super::subscriptions::subscribed;
use crate::commands::InstallTarget;
use crate::documents::{MemberDocument, Partitions};
use crate::groups::group::Group;
use crate::groups::view::GroupView;

/// Computes the target assignment of a group; `None` if it has the one of its epoch.
///
/// The work is bounded: it grows with the members times their topics, and with the partitions of these topics times
/// their subscribers. What moving partitions between members with different subscriptions may add is limited by a
/// number of steps.
pub fn target_assignment(view: &GroupView, now_ms: i64) -> Option<InstallTarget> {
    let epoch = view.group.generation;
    let base_epoch = view.group.consumer.as_ref()?.assignment_epoch;
    if !view.group.has_due_target() {
        return None;
    }
    let counts: Counts = view.topics.topics.values().map(|topic| (topic.id, topic.partitions)).collect();
    let id = |name: &Arc<str>| view.topics.topics.get(name).map(|topic| topic.id);
    let before = |member: &MemberDocument| -> Arc<Partitions> {
        member.consumer.as_ref().map(|own| Arc::clone(&own.target)).unwrap_or_default()
    };
    let candidate = |member: &MemberDocument| Candidate {
        topics: subscribed(&view.topics, member).iter().filter_map(id).collect::<BTreeSet<TopicId>>(),
        before: before(member),
    };
    let candidates: Vec<Candidate> = view.members.iter().map(|(_, member)| candidate(member)).collect();
    let targets = assign(view.assignor().unwrap_or_default(), &candidates, &counts);
    let changed = view.members.iter().zip(targets).filter(|((_, member), target)| *before(member) != *target);
    let members: BTreeMap<_, _> =
        changed.map(|((id, _), target)| (Arc::clone(id), Arc::new(target))).collect();
    Some(InstallTarget { epoch, base_epoch, members, now_ms })
}

/// Installs a target assignment, unless another one has been installed since it was computed.
pub(in crate::groups) fn install(group: &mut Group<'_>, target: &InstallTarget) {
    let assignment_epoch = group.document.consumer.as_ref().map(|own| own.assignment_epoch);
    let is_from_here = assignment_epoch == Some(target.base_epoch);
    let is_later = target.epoch > target.base_epoch && target.epoch <= group.group_epoch();
    // If it is behind, the next one is due, and those who have left or got another id meanwhile are left out. A static
    // member that gets another id leaves the epoch as it is, so a target of the group's epoch must be about all of them.
    let is_behind = target.epoch < group.group_epoch();
    let are_members = target.members.keys().all(|id| group.consumer(id).is_some());
    if !is_from_here || !is_later || !(are_members || is_behind) {
        return;
    }
    for (id, partitions) in &target.members {
        if group.consumer(id).is_some() {
            group.change_consumer(id, |own| own.target = Arc::clone(partitions));
        }
    }
    group.enter_target_epoch(target.epoch);
    settle(group, target.now_ms);
}
