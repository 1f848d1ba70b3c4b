//! LeaveGroup, as Kafka's coordinator decides it.

use std::sync::Arc;

use kernel::ErrorCode;

use super::change::{LeftMember, Member};
use super::party::Party;

/// Takes members out, each by itself.
pub(super) fn leave(party: &mut Party, members: &[Member], now_ms: i64) -> Vec<LeftMember> {
    members.iter().map(|member| leave_one(party, member, now_ms)).collect()
}

fn leave_one(party: &mut Party, member: &Member, now_ms: i64) -> LeftMember {
    if party.group.pending.contains_key(&member.id) {
        // An id that has not joined yet cannot be a static member's.
        if member.instance_id.is_some() {
            return Err(ErrorCode::UnknownMemberId);
        }
        party.remove_pending(&member.id, now_ms);
        return Ok(());
    }
    let id = match &member.instance_id {
        // An admin takes a static member out by the id that the operator gave it.
        Some(instance) if member.id.is_empty() => {
            party.id_of_instance(instance).cloned().ok_or(ErrorCode::UnknownMemberId)?
        }
        _ => {
            party.check_member(member).map_err(|refused| refused.error)?;
            Arc::clone(&member.id)
        }
    };
    party.remove(&id, now_ms);
    Ok(())
}
