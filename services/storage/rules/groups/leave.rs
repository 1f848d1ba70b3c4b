//! LeaveGroup, as Kafka's coordinator decides it.

use kernel::ErrorCode;

use super::group::Group;
use crate::commands::{LeftMember, MemberIdentity};

/// Removes members one by one.
pub(super) fn leave(group: &mut Group<'_>, members: &[MemberIdentity], now_ms: i64) -> Vec<LeftMember> {
    members.iter().map(|member| leave_one(group, member, now_ms)).collect()
}

fn leave_one(group: &mut Group<'_>, member: &MemberIdentity, now_ms: i64) -> LeftMember {
    if group.is_pending(&member.id) {
        // A pending member id (KIP-394) is never that of a static member.
        if member.instance_id.is_some() {
            return Err(ErrorCode::UnknownMemberId);
        }
        group.remove_pending(&member.id, now_ms);
        return Ok(());
    }
    let id = group.leaving_member(member)?;
    group.remove(&id, now_ms);
    Ok(())
}
