//! What happens to a group by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consumer;
use super::group::Group;
use crate::documents::GroupState;

/// Renews the leases of those who have been heard from, lets others lapse, and does what is due.
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
    for id in lapsed(group, now_ms) {
        group.remove(&id, now_ms);
    }
    let pending = group.document.pending.iter().filter(|(_, until_ms)| **until_ms <= now_ms);
    for id in pending.map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
        group.remove_pending(&id, now_ms);
    }
    group.end_if_late(now_ms);
}

/// Who has joined waits for the others, and is not expected to say anything meanwhile.
fn lapsed(group: &Group, now_ms: i64) -> Vec<Arc<str>> {
    let is_preparing = group.document.state == GroupState::PreparingRebalance;
    let lapsed = group.members().filter(|(_, member)| {
        let is_waiting = is_preparing && member.has_joined;
        member.lease_ms <= now_ms && !is_waiting
    });
    lapsed.map(|(id, _)| Arc::clone(id)).collect()
}
