//! What happens to a group by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::consumer;
use super::documents::GroupState;
use super::party::Party;

/// Renews the leases of those who have been heard from, lets others lapse, and does what is due.
pub(super) fn tick(party: &mut Party, now_ms: i64, heard: &BTreeMap<Arc<str>, i64>) {
    for (id, lease_ms) in heard {
        if party.member(id).is_some_and(|member| member.lease_ms < *lease_ms)
            && let Some(member) = party.member_mut(id)
        {
            member.lease_ms = *lease_ms;
        }
    }
    if party.group.consumer.is_some() {
        consumer::fence_late(party, now_ms);
        return;
    }
    for id in lapsed(party, now_ms) {
        party.remove(&id, now_ms);
    }
    let pending = party.group.pending.iter().filter(|(_, until_ms)| **until_ms <= now_ms);
    for id in pending.map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
        party.remove_pending(&id, now_ms);
    }
    party.end_if_late(now_ms);
}

/// Who has joined waits for the others, and is not expected to say anything meanwhile.
fn lapsed(party: &Party, now_ms: i64) -> Vec<Arc<str>> {
    let is_preparing = party.group.state == GroupState::PreparingRebalance;
    let lapsed = party.members().filter(|(_, member)| {
        let is_waiting = is_preparing && member.has_joined;
        member.lease_ms <= now_ms && !is_waiting
    });
    lapsed.map(|(id, _)| Arc::clone(id)).collect()
}
