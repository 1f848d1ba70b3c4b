//! Snapshots of a group, and the replies that follow from them without a change.
//!
//! Waiting JoinGroup and SyncGroup requests check the group each time it changes; a heartbeat checks it once.

use std::sync::Arc;

use kernel::ErrorCode;

use super::assignors::elected_assignor;
use crate::commands::{Joined, MemberIdentity, Synced};
use crate::documents::{GroupDocument, GroupState, GroupTopics, MemberDocument};

/// A group and its members.
#[derive(Debug, Clone)]
pub struct GroupView {
    /// The group.
    pub group: Arc<GroupDocument>,
    /// Its members by id, in the order in which they joined.
    pub members: Vec<(Arc<str>, Arc<MemberDocument>)>,
    /// The topics that they subscribe to, in a group of the consumer protocol.
    pub topics: Arc<GroupTopics>,
}

impl GroupView {
    /// A group and its members, in any order.
    pub fn new(
        group: Arc<GroupDocument>,
        mut members: Vec<(Arc<str>, Arc<MemberDocument>)>,
        topics: Option<Arc<GroupTopics>>,
    ) -> Self {
        members.sort_by(|(one_id, one), (other_id, other)| (one.order, one_id).cmp(&(other.order, other_id)));
        if group.has_void_assignments {
            members.iter_mut().for_each(|(_, member)| Arc::make_mut(member).assignment = Default::default());
        }
        let topics = GroupTopics::of(&group, topics);
        Self { group, members, topics }
    }

    /// The assignor in use.
    pub fn assignor(&self) -> Option<&str> {
        let votes = || self.members.iter().map(|(_, member)| member.consumer.as_ref()?.assignor.as_deref());
        if self.group.consumer.is_some() {
            Some(elected_assignor(votes()))
        } else {
            self.group.protocol.as_deref()
        }
    }
}

/// A group as far as one member needs it.
#[derive(Debug, Clone)]
pub struct MemberView {
    /// The group.
    pub group: Arc<GroupDocument>,
    /// The member, if it is one.
    pub member: Option<Arc<MemberDocument>>,
    /// Whether a member has the group instance id of the request.
    pub has_instance: bool,
}

/// The error for a member that is not in its group: FENCED_INSTANCE_ID if another member has its group
/// instance id.
fn unknown_or_fenced(view: Option<&MemberView>) -> ErrorCode {
    if view.is_some_and(|view| view.has_instance) {
        ErrorCode::FencedInstanceId
    } else {
        ErrorCode::UnknownMemberId
    }
}

/// The reply to a JoinGroup that waits for the generation after `generation`; `None` while it must wait.
pub fn join_answer(
    view: Option<&MemberView>,
    member: &MemberIdentity,
    generation: i32,
) -> Option<Result<Joined, ErrorCode>> {
    let present = view.and_then(|view| Some((&view.group, view.member.as_ref()?)));
    let Some((group, document)) = present else { return Some(Err(unknown_or_fenced(view))) };
    if group.consumer.is_some() {
        // The group was upgraded to the consumer protocol meanwhile.
        return Some(Err(ErrorCode::RebalanceInProgress));
    }
    let is_over = group.generation != generation
        || (group.state != GroupState::PreparingRebalance && !document.has_joined);
    is_over.then(|| {
        Ok(Joined::In {
            member: Arc::clone(&member.id),
            lists_members: group.leader.as_ref() == Some(&member.id),
            skips_assignment: false,
            leader: group.leader.clone().unwrap_or_default(),
        })
    })
}

/// The reply to a SyncGroup that waits for the assignment; `None` while it must wait.
pub fn sync_answer(view: Option<&MemberView>, member: &MemberIdentity) -> Option<Result<Synced, ErrorCode>> {
    let present = view.and_then(|view| Some((&view.group, view.member.as_ref()?)));
    let Some((group, document)) = present else { return Some(Err(unknown_or_fenced(view))) };
    let is_over = group.consumer.is_some() || group.generation != member.generation;
    match group.state {
        _ if is_over => Some(Err(ErrorCode::RebalanceInProgress)),
        GroupState::CompletingRebalance => None,
        GroupState::Stable => Some(Ok(Synced::Assigned(document.assignment.0.clone()))),
        _ => Some(Err(ErrorCode::RebalanceInProgress)),
    }
}

/// Checks that a classic heartbeat comes from a member and has the current generation id.
///
/// # Errors
/// Kafka's error for the member.
pub fn check_heartbeat<'a>(
    view: Option<&'a MemberView>,
    member: &MemberIdentity,
) -> Result<(&'a GroupDocument, &'a MemberDocument), ErrorCode> {
    let present = view.and_then(|view| Some((&*view.group, view.member.as_deref()?)));
    let (group, document) = present.ok_or_else(|| unknown_or_fenced(view))?;
    if member.instance_id.is_some() && member.instance_id != document.instance_id {
        return Err(unknown_or_fenced(view));
    }
    let generation = match &document.consumer {
        None => group.generation,
        Some(own) if document.is_classic() => own.epoch,
        // Members of the consumer protocol send ConsumerGroupHeartbeat instead.
        Some(_) => return Err(ErrorCode::UnknownMemberId),
    };
    if member.generation == generation { Ok((group, document)) } else { Err(ErrorCode::IllegalGeneration) }
}

/// Checks that a member may fetch the offsets: in a group of the consumer protocol, only with its member
/// epoch.
///
/// # Errors
/// Kafka's error for the member.
pub fn check_offset_fetch(view: Option<&MemberView>, member_epoch: i32) -> Result<(), ErrorCode> {
    let Some(view) = view.filter(|view| view.group.consumer.is_some()) else { return Ok(()) };
    let own = view.member.as_ref().and_then(|member| member.consumer.as_ref());
    let own = own.ok_or(ErrorCode::UnknownMemberId)?;
    if own.epoch == member_epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
}
