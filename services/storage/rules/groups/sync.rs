//! SyncGroup, as Kafka's coordinator decides it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::ErrorCode;

use super::group::{Group, unknown_member};
use crate::commands::{Refused, Sync, Synced};
use crate::documents::{Blob, GroupState};

pub(super) fn sync(group: &mut Group<'_>, sync: &Sync) -> Result<Synced, Refused> {
    group.check_member(&sync.member)?;
    if sync.member.generation != group.document.generation {
        return Err(ErrorCode::IllegalGeneration.into());
    }
    let differs = |said: &Option<Arc<str>>, is: &Option<Arc<str>>| said.is_some() && said != is;
    if differs(&sync.protocol_type, &group.document.protocol_type)
        || differs(&sync.protocol, &group.document.protocol)
    {
        return Err(ErrorCode::InconsistentGroupProtocol.into());
    }
    match group.document.state {
        GroupState::Empty => return Err(unknown_member()),
        GroupState::PreparingRebalance => return Err(ErrorCode::RebalanceInProgress.into()),
        GroupState::CompletingRebalance if group.is_leader(&sync.member.id) => {
            assign(group, &sync.assignments);
            group.settle();
        }
        _ => {}
    }
    if group.member(&sync.member.id).is_some_and(|member| !member.has_synced) {
        group.change(&sync.member.id, |member| {
            member.has_synced = true;
            member.lease_ms = sync.now_ms + i64::from(member.session_timeout_ms);
        });
    }
    if group.tally().unsynced == 0 && group.document.state == GroupState::Stable {
        group.document.deadline = None;
    }
    let assignment = group.member(&sync.member.id).map(|member| member.assignment.0.clone());
    match group.document.state {
        GroupState::Stable => Ok(Synced::Assigned(assignment.unwrap_or_default())),
        _ => Ok(Synced::Waits),
    }
}

/// A member that the leader leaves out gets an empty assignment.
fn assign(group: &mut Group<'_>, assignments: &[(Arc<str>, Bytes)]) {
    group.load_all();
    let mut assignments: HashMap<Arc<str>, Bytes> = assignments.iter().cloned().collect();
    for id in group.ids() {
        let assignment = Blob(assignments.remove(&id).unwrap_or_default());
        group.change(&id, |member| member.assignment = assignment);
    }
}
