//! Members that leave, or are fenced after a timeout.

use std::sync::Arc;

use kernel::ErrorCode;

use super::migrate;
use super::state::{bump_epoch, settle};
use super::subscriptions::drop_unused_topics;
use crate::commands::{ConsumerLeave, LEAVE_STATIC_EPOCH, Refused};
use crate::documents::MemberState;
use crate::groups::group::{Group, unknown_member};

/// ConsumerGroupHeartbeat of a member that leaves; a static member may leave temporarily.
pub(in crate::groups) fn leave(group: &mut Group<'_>, leave: &ConsumerLeave) -> Result<(), Refused> {
    let id = match &leave.instance_id {
        None => Arc::clone(&leave.member_id),
        Some(instance) => group.id_of_instance(instance).ok_or_else(unknown_member)?,
    };
    if id != leave.member_id {
        return Err(ErrorCode::FencedInstanceId.into());
    }
    if group.consumer(&id).is_none() {
        return Err(unknown_member());
    }
    if leave.member_epoch == LEAVE_STATIC_EPOCH {
        // It keeps its partitions until its session timeout.
        group.change_consumer(&id, |own| {
            own.epoch = LEAVE_STATIC_EPOCH;
            own.state = MemberState::Stable;
            own.revoking = Arc::default();
        });
        settle(group, leave.now_ms);
        return Ok(());
    }
    fence(group, &[id], leave.now_ms);
    Ok(())
}

/// Removes members. The others get their partitions with their next heartbeats.
pub(super) fn fence(group: &mut Group<'_>, ids: &[Arc<str>], now_ms: i64) {
    if ids.is_empty() {
        return;
    }
    ids.iter().for_each(|id| group.take_out(id));
    drop_unused_topics(group);
    if migrate::is_all_classic(group) {
        // The generation id stays: members get REBALANCE_IN_PROGRESS, and no error that makes them lose their
        // partitions.
        migrate::downgrade(group, now_ms);
        return;
    }
    bump_epoch(group);
    if group.count() == 0 {
        // There is nobody left to assign anything to, so no target assignment is due (KAFKA-20442).
        group.enter_target_epoch(group.group_epoch());
    }
    settle(group, now_ms);
}

/// Removes members whose session has timed out, and those that did not revoke, rejoin or sync in time.
pub(in crate::groups) fn fence_late(group: &mut Group<'_>, now_ms: i64, timed_out: &[Arc<str>]) {
    let mut late = timed_out.to_vec();
    let is_due = group.document.deadline.is_some_and(|deadline| deadline.at_ms <= now_ms);
    if is_due {
        group.load_all();
        let overdue = group.members().into_iter().filter(|(id, member)| {
            let due_ms = member.consumer.as_ref().and_then(|own| own.due_ms);
            !timed_out.contains(id) && due_ms.is_some_and(|at| at <= now_ms)
        });
        late.extend(overdue.map(|(id, _)| Arc::clone(id)));
    }
    fence(group, &late, now_ms);
    if is_due && late.is_empty() {
        // Whoever had to act by then has done so: the deadline is that of the next member.
        settle(group, now_ms);
    }
}
