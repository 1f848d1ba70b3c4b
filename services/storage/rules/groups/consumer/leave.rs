//! Members that go: by their own word, or because nothing was heard of them.

use std::sync::Arc;

use kernel::ErrorCode;

use super::heartbeat::AWAY;
use super::subscribe::narrow;
use super::{bump, documents::MemberState, migrate, settle};
use crate::rules::command::Refused;
use crate::rules::groups::change::Member;
use crate::rules::groups::documents::MemberDocument;
use crate::rules::groups::party::{Party, refused, unknown_member};

/// ConsumerGroupHeartbeat of a member that goes: for good, or, if it is static, for a while.
pub(in crate::rules::groups) fn leave(
    party: &mut Party,
    member: &Member,
    now_ms: i64,
) -> Result<(), Refused> {
    let id = match &member.instance_id {
        None => Arc::clone(&member.id),
        Some(instance) => party.id_of_instance(instance).cloned().ok_or_else(unknown_member)?,
    };
    if id != member.id {
        return Err(refused(ErrorCode::FencedInstanceId));
    }
    let own = party.consumer_mut(&id).ok_or_else(unknown_member)?;
    if member.generation == AWAY {
        // Its partitions stay with it, until its session is over.
        own.epoch = AWAY;
        own.state = MemberState::Stable;
        own.revoking.clear();
        settle(party, now_ms);
        return Ok(());
    }
    fence(party, &[id], now_ms);
    Ok(())
}

/// Takes members out. Those that stay get their partitions when they next say something.
pub(super) fn fence(party: &mut Party, ids: &[Arc<str>], now_ms: i64) {
    if ids.is_empty() {
        return;
    }
    ids.iter().for_each(|id| party.take_out(id));
    narrow(party);
    if migrate::is_all_classic(party) {
        // In their own generation: they hear of a rebalance, and not that they have lost what they have.
        migrate::downgrade(party, now_ms);
        return;
    }
    bump(party);
    settle(party, now_ms);
}

/// Takes out those who are silent, and those who have not done in time what they were told.
pub(in crate::rules::groups) fn fence_late(party: &mut Party, now_ms: i64) {
    let is_late = |member: &MemberDocument| {
        let is_overdue = member.consumer.as_ref().and_then(|own| own.due_ms).is_some_and(|at| at <= now_ms);
        member.lease_ms <= now_ms || is_overdue
    };
    let late = party.members().filter(|(_, member)| is_late(member));
    let late: Vec<Arc<str>> = late.map(|(id, _)| Arc::clone(id)).collect();
    fence(party, &late, now_ms);
}
