//! Timeouts of a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consumer;
use super::group::Group;
use crate::documents::GroupState;

/// Renews the leases of members that were heard from, and applies session timeouts, pending ids and the
/// deadline.
pub(super) fn tick(group: &mut Group, now_ms: i64, heard: &BTreeMap<Arc<str>, i64>) {
    for (id, lease_ms) in heard {
        if group.member(id).is_some_and(|member| member.lease_ms < *lease_ms)
            && let Some(member) = group.member_mut(id)
        {
            member.lease_ms = *lease_ms;
        }
    }
    if group.document.consumer.is_some() {
        consumer::fence_late(group, now_ms);
        return;
    }
    for id in timed_out(group, now_ms) {
        group.remove(&id, now_ms);
    }
    let pending = group.document.pending.iter().filter(|(_, until_ms)| **until_ms <= now_ms);
    for id in pending.map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
        group.remove_pending(&id, now_ms);
    }
    group.end_if_late(now_ms);
}

/// Members whose session has timed out. A member that waits for its JoinGroup reply is exempt: it sends no
/// heartbeats.
fn timed_out(group: &Group, now_ms: i64) -> Vec<Arc<str>> {
    let is_preparing = group.document.state == GroupState::PreparingRebalance;
    let timed_out = group.members().filter(|(_, member)| {
        let is_waiting = is_preparing && member.has_joined;
        member.lease_ms <= now_ms && !is_waiting
    });
    timed_out.map(|(id, _)| Arc::clone(id)).collect()
}
