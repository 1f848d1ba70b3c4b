//! LeaveGroup, as Kafka's coordinator decides it.

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
    let id = party.leaver(member)?;
    party.remove(&id, now_ms);
    Ok(())
}
