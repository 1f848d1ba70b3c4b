//! Timeouts of a group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consumer;
use super::group::Group;
use crate::documents::GroupState;

/// Members whose sessions have timed out, and the leases that they had when the broker found out.
pub(super) type TimedOut = BTreeMap<Arc<str>, i64>;

/// Applies session timeouts, pending ids and the deadline. The members whose sessions have timed out are loaded.
pub(super) fn tick(group: &mut Group<'_>, now_ms: i64, timed_out: &TimedOut) {
    let timed_out = still_silent(group, timed_out);
    if group.document.consumer.is_some() {
        consumer::fence_late(group, now_ms, &timed_out);
        return;
    }
    // A member that waits for its JoinGroup reply sends no heartbeats.
    let is_preparing = group.document.state == GroupState::PreparingRebalance;
    let waits = |id: &str| is_preparing && group.member(id).is_some_and(|member| member.has_joined);
    for id in timed_out.into_iter().filter(|id| !waits(id)).collect::<Vec<_>>() {
        group.remove(&id, now_ms);
    }
    // Only then an id may have expired, and all of them are loaded.
    if group.document.pending_ids.is_some_and(|ids| ids.next_ms <= now_ms) {
        group.expired_pending(now_ms).iter().for_each(|id| group.remove_pending(id, now_ms));
        group.note_next_pending();
    }
    group.end_if_late(now_ms);
}

/// The members that still have the leases that timed out.
fn still_silent(group: &Group<'_>, timed_out: &TimedOut) -> Vec<Arc<str>> {
    let is_same =
        |id: &str, lease_ms: i64| group.member(id).is_some_and(|member| member.lease_ms == lease_ms);
    let silent = timed_out.iter().filter(|(id, lease_ms)| is_same(id, **lease_ms));
    silent.map(|(id, _)| Arc::clone(id)).collect()
}
