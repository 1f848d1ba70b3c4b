//! The epoch, state and deadlines of a group of the consumer protocol.

use crate::documents::{ConsumerMember, Deadline, GroupState, MemberState};
use crate::groups::group::Group;

/// Bumps the group epoch: members, subscriptions or topics have changed.
pub(super) fn bump_epoch(group: &mut Group) {
    group.document.generation = group.document.generation.saturating_add(1);
}

/// Updates the group's state and the deadlines of its members.
pub(super) fn settle(group: &mut Group, now_ms: i64) {
    set_due(group, now_ms);
    let Some(target_epoch) = group.document.consumer.as_ref().map(|group| group.assignment_epoch) else {
        return;
    };
    let state = state(group, target_epoch);
    if group.document.state != state {
        group.document.state = state;
        group.document.since_ms = now_ms;
    }
    let due_ms = group.members().filter_map(|(_, member)| member.consumer.as_ref()?.due_ms).min();
    group.document.deadline = due_ms.map(|at_ms| Deadline { at_ms, initial: None });
}

fn state(group: &Group, target_epoch: i32) -> GroupState {
    let has_target = |own: &ConsumerMember| own.state == MemberState::Stable && own.epoch == target_epoch;
    let mut members = group.members().filter_map(|(_, member)| member.consumer.as_deref());
    match () {
        () if group.count() == 0 => GroupState::Empty,
        () if group.document.generation > target_epoch => GroupState::Assigning,
        () if members.all(has_target) => GroupState::Stable,
        () => GroupState::Reconciling,
    }
}

fn set_due(group: &mut Group, now_ms: i64) {
    let epoch = group.document.generation;
    let mut changes = Vec::new();
    for (id, member) in group.members() {
        let Some(consumer) = &member.consumer else { continue };
        let must_act = consumer.state == MemberState::Revoking
            || member.is_classic() && (consumer.epoch < epoch || !member.has_synced);
        let due_ms = must_act.then(|| {
            consumer.due_ms.unwrap_or(now_ms.saturating_add(i64::from(member.rebalance_timeout_ms)))
        });
        if consumer.due_ms != due_ms {
            changes.push((id.clone(), due_ms));
        }
    }
    for (id, due_ms) in changes {
        if let Some(consumer) = group.consumer_mut(&id) {
            consumer.due_ms = due_ms;
        }
    }
}
