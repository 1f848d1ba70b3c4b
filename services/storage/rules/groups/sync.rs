//! SyncGroup, as Kafka's coordinator decides it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::ErrorCode;

use super::change::{Sync, Synced};
use super::documents::{Blob, GroupState};
use super::party::{Party, refused, unknown_member};
use crate::rules::command::Refused;

pub(super) fn sync(party: &mut Party, sync: Sync) -> Result<Synced, Refused> {
    party.check_member(&sync.member)?;
    if sync.member.generation != party.group.generation {
        return Err(refused(ErrorCode::IllegalGeneration));
    }
    let differs = |said: &Option<Arc<str>>, is: &Option<Arc<str>>| said.is_some() && said != is;
    if differs(&sync.protocol_type, &party.group.protocol_type)
        || differs(&sync.protocol, &party.group.protocol)
    {
        return Err(refused(ErrorCode::InconsistentGroupProtocol));
    }
    match party.group.state {
        GroupState::Empty => return Err(unknown_member()),
        GroupState::PreparingRebalance => return Err(refused(ErrorCode::RebalanceInProgress)),
        GroupState::CompletingRebalance if party.is_leader(&sync.member.id) => {
            assign(party, sync.assignments);
            party.settle(sync.now_ms);
        }
        _ => {}
    }
    if party.member(&sync.member.id).is_some_and(|member| !member.has_synced)
        && let Some(member) = party.member_mut(&sync.member.id)
    {
        member.has_synced = true;
        member.lease_ms = sync.now_ms + i64::from(member.session_timeout_ms);
    }
    if party.members().all(|(_, member)| member.has_synced) && party.group.state == GroupState::Stable {
        party.group.deadline = None;
    }
    let assignment = party.member(&sync.member.id).map(|member| member.assignment.0.clone());
    match party.group.state {
        GroupState::Stable => Ok(Synced::Assigned(assignment.unwrap_or_default())),
        _ => Ok(Synced::Waits),
    }
}

/// Who is left out by the leader gets nothing to read.
fn assign(party: &mut Party, assignments: Vec<(Arc<str>, Bytes)>) {
    let mut assignments: HashMap<Arc<str>, Bytes> = assignments.into_iter().collect();
    let ids: Vec<Arc<str>> = party.ids().cloned().collect();
    for id in ids {
        let assignment = Blob(assignments.remove(&id).unwrap_or_default());
        if let Some(member) = party.member_mut(&id) {
            member.assignment = assignment;
        }
    }
}
