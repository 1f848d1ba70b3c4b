//! The epoch, state and deadlines of a group of the consumer protocol.

use std::sync::Arc;

use crate::documents::{Deadline, GroupState, MemberDocument, MemberState};
use crate::groups::group::Group;

/// Bumps the group epoch: members, subscriptions or topics have changed.
pub(super) fn bump_epoch(group: &mut Group<'_>) {
    group.document.generation = group.document.generation.saturating_add(1);
}

/// Updates the group's state and the deadlines of its members.
pub(super) fn settle(group: &mut Group<'_>, now_ms: i64) {
    let Some(target_epoch) = group.document.consumer.as_ref().map(|group| group.assignment_epoch) else {
        return;
    };
    if group.tally().classic > 0 && group.has_new_epoch() {
        // Each classic member must rejoin in time: while an application is migrated, a new epoch is about all of them.
        group.load_all();
    }
    set_due(group, now_ms);
    let state = state(group, target_epoch);
    group.document.state = state;
    group.document.deadline = first_due(group).map(|at_ms| Deadline { at_ms, initial: None });
}

fn state(group: &Group<'_>, target_epoch: i32) -> GroupState {
    match () {
        () if group.document.members == 0 => GroupState::Empty,
        () if group.document.generation > target_epoch => GroupState::Assigning,
        () if group.tally().reconciled == group.document.members => GroupState::Stable,
        () => GroupState::Reconciling,
    }
}

/// The time by which the first member must have acted, or an earlier one: which member of those that are not loaded is
/// the first is found out when that time comes.
fn first_due(group: &Group<'_>) -> Option<i64> {
    let members = group.members().into_iter();
    let of_loaded = members.filter_map(|(_, member)| member.consumer.as_ref()?.due_ms).min();
    let of_others = group.document.deadline.filter(|_| !group.has_all()).map(|deadline| deadline.at_ms);
    of_loaded.into_iter().chain(of_others).min().filter(|_| group.tally().due > 0)
}

/// Gives each member that must act its whole time anew, from now, and at least a whole session to be heard from. All
/// members are loaded.
pub(in crate::groups) fn restart_due(group: &mut Group<'_>, now_ms: i64) {
    let due_ms = |member: &MemberDocument| {
        member.consumer.as_ref()?.due_ms?;
        let timeout_ms = member.rebalance_timeout_ms.max(member.session_timeout_ms);
        Some(now_ms.saturating_add(i64::from(timeout_ms)))
    };
    let members = group.members().into_iter();
    let due: Vec<_> = members.filter_map(|(id, member)| Some((Arc::clone(id), due_ms(member)?))).collect();
    for (id, due_ms) in due {
        group.change_consumer(&id, |own| own.due_ms = Some(due_ms));
    }
    settle(group, now_ms);
}

/// Sets or clears the time by which each member that is loaded must have acted. The others have not changed.
fn set_due(group: &mut Group<'_>, now_ms: i64) {
    let epoch = group.document.generation;
    let due = |member: &MemberDocument| {
        let consumer = member.consumer.as_deref()?;
        let must_act = consumer.state == MemberState::Revoking
            || member.is_classic() && (consumer.epoch < epoch || !member.has_synced);
        let due_ms = must_act.then(|| {
            consumer.due_ms.unwrap_or(now_ms.saturating_add(i64::from(member.rebalance_timeout_ms)))
        });
        (consumer.due_ms != due_ms).then_some(due_ms)
    };
    let members = group.members().into_iter();
    let changes: Vec<_> = members.filter_map(|(id, member)| Some((Arc::clone(id), due(member)?))).collect();
    for (id, due_ms) in changes {
        group.change_consumer(&id, |own| own.due_ms = due_ms);
    }
}
