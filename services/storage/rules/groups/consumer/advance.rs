//! A member's way to its target assignment, once that is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::TopicId;

use super::current_assignment::{assigned_since, next_assignment};
use super::state::settle;
use crate::commands::{Advance, Applied, HeartbeatReply, Refused};
use crate::documents::{ConsumerMember, MemberState, Partitions, each, holds};
use crate::groups::group::{Group, unknown_member};

/// The rest of a heartbeat that had to wait for the target assignment.
pub(in crate::groups) fn advance(group: &mut Group<'_>, advance: &Advance) -> Result<Applied, Refused> {
    let own = group.consumer(&advance.member_id).ok_or_else(unknown_member)?;
    if own.epoch != advance.member_epoch {
        let assignment = Some(own.assigned.clone());
        return Ok(Applied::Heartbeat(HeartbeatReply { member_epoch: own.epoch, assignment }));
    }
    advance_or_wait(group, advance.clone())
}

/// Advances a member, unless a target assignment that knows of it is due: it would only take a step towards an old one.
/// That of the group's epoch need not be there: while many members join, each would wait for all.
pub(super) fn advance_or_wait(group: &mut Group<'_>, advance: Advance) -> Result<Applied, Refused> {
    let id = &advance.member_id;
    let own = group.consumer(id).ok_or_else(unknown_member)?;
    let assigned_before = own.assigned.clone();
    let assignment_epoch = group.document.consumer.as_ref().map(|own| own.assignment_epoch);
    let is_behind = assignment_epoch.is_some_and(|epoch| epoch < advance.awaited_epoch);
    let is_due = advance.waits_for_target && is_behind;
    if !is_due {
        take_step(group, id, advance.owned.as_ref());
    }
    settle(group, advance.now_ms);
    if is_due {
        return Ok(Applied::TargetDue(Box::new(advance)));
    }
    let own = group.consumer(id).ok_or_else(unknown_member)?;
    let sends_assignment = advance.is_full || own.assigned != assigned_before;
    let assignment = sends_assignment.then(|| own.assigned.clone());
    Ok(Applied::Heartbeat(HeartbeatReply { member_epoch: own.epoch, assignment }))
}

/// Advances a member towards its target assignment.
fn take_step(group: &mut Group<'_>, id: &Arc<str>, owned: Option<&Partitions>) {
    let (Some(consumer), Some(own)) = (&group.document.consumer, group.consumer(id)) else { return };
    let target_epoch = consumer.assignment_epoch;
    let own = own.clone();
    let is_there = own.state == MemberState::Stable && own.epoch == target_epoch;
    let taken = if is_there { BTreeSet::new() } else { taken(group, id, &own) };
    let mut next = own.clone();
    next_assignment(&mut next, target_epoch, owned, |topic, at| taken.contains(&(topic, at)));
    let is_same_step = next.state == MemberState::Revoking && next.revoking == own.revoking;
    if !is_same_step {
        next.due_ms = None;
    }
    if next != own {
        next.since = Arc::new(assigned_since(&own, &next));
        group.change_consumer(id, |own| *own = next);
    }
}

/// The partitions that the member is still to get, and that another member has.
fn taken(group: &mut Group<'_>, id: &Arc<str>, own: &ConsumerMember) -> BTreeSet<(TopicId, i32)> {
    let missing = each(&own.target).filter(|(topic, at)| !holds(&own.assigned, *topic, *at));
    missing.filter(|at| group.is_taken(id, *at)).collect()
}
