//! The heartbeat of a member at rest, decided without the group's other members.

use super::current_assignment::still_owns;
use crate::commands::{ConsumerHeartbeat, HeartbeatReply};
use crate::documents::{ConsumerMember, GroupDocument, MemberDocument, MemberState};

/// The reply to a heartbeat that changes nothing in its group; `None` if it may change something, or if only the
/// whole group can tell.
///
/// Nearly all heartbeats are of this kind, and each would otherwise cost as much as the group has members. Topics
/// must not have changed since the group was last looked at, which the documents cannot tell.
pub fn rest(
    group: &GroupDocument,
    member: &MemberDocument,
    heartbeat: &ConsumerHeartbeat,
) -> Option<HeartbeatReply> {
    let (consumer, own) = (group.consumer.as_ref()?, member.consumer.as_ref()?);
    let is_at_rest = match own.state {
        MemberState::Stable => own.epoch == consumer.assignment_epoch && own.due_ms.is_none(),
        // It has been told what to revoke, and has not done so.
        MemberState::Revoking => own.due_ms.is_some() && still_owns(heartbeat.owned.as_ref(), &own.revoking),
        MemberState::Waiting => false,
    };
    let has_target = consumer.assignment_epoch == group.generation && own.epoch == heartbeat.member_epoch;
    if heartbeat.joins()
        || !is_at_rest
        || !has_target
        || !says_the_same(member, heartbeat)
        || !subscribes_same(own, heartbeat)
    {
        return None;
    }
    let assignment = heartbeat.is_full().then(|| own.assigned.clone());
    Some(HeartbeatReply { member_epoch: own.epoch, assignment })
}

/// Whether what the member says of itself is what is stored. What it leaves out has not changed.
fn says_the_same(member: &MemberDocument, heartbeat: &ConsumerHeartbeat) -> bool {
    let is_same_instance = heartbeat.instance_id.is_none() || heartbeat.instance_id == member.instance_id;
    let timeout_ms = heartbeat.rebalance_timeout_ms;
    !member.is_classic()
        && is_same_instance
        && member.client_id == heartbeat.client_id
        && member.client_host == heartbeat.client_host
        && member.session_timeout_ms == heartbeat.session_timeout_ms
        && timeout_ms.is_none_or(|timeout_ms| timeout_ms == member.rebalance_timeout_ms)
}

fn subscribes_same(own: &ConsumerMember, heartbeat: &ConsumerHeartbeat) -> bool {
    let regex = heartbeat.regex.as_ref().map(|regex| Some(regex).filter(|regex| !regex.is_empty()));
    regex.is_none_or(|regex| regex == own.regex.as_ref())
        && heartbeat.topics.as_ref().is_none_or(|topics| *topics == own.topics)
        && (heartbeat.rack.is_none() || heartbeat.rack == own.rack)
        && (heartbeat.assignor.is_none() || heartbeat.assignor == own.assignor)
}
