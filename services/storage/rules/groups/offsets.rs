//! Committed offsets: OffsetCommit, OffsetDelete, DeleteGroups and expiry, as Kafka's coordinator decides
//! them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{ErrorCode, TopicId};

use super::consumer;
use super::group::{Group, member_keys, unknown_member};
use super::pending;
use super::protocols::{self, CONSUMER};
use crate::commands::{Applied, CommittedOffset, GroupCommand, MemberIdentity, Outcome, Refused};
use crate::documents::{
    DocumentKind, GroupDocument, GroupState, MemberDocument, MemberKey, OffsetDocument, OffsetKey,
    PendingDocument,
};
use crate::working_set::{Wanted, WorkingSet};

pub(super) fn needs(wanted: &mut Wanted, group: &Arc<str>, command: &GroupCommand) {
    match command {
        GroupCommand::CommitOffsets { offsets, .. } => {
            for CommittedOffset { topic, partition, .. } in offsets {
                wanted.write::<OffsetDocument>(&key(group, topic, *partition));
            }
        }
        GroupCommand::DeleteOffsets { offsets } => {
            for (topic, partition) in offsets {
                wanted.write::<OffsetDocument>(&key(group, topic, *partition));
            }
        }
        GroupCommand::ExpireOffsets { .. } | GroupCommand::Delete => {
            wanted.scan(OffsetDocument::of_group(group)).scan(PendingDocument::of_group(group));
        }
        _ => {}
    }
}

/// The committing member. A group may have a thousand others, which only an error is about.
pub(super) fn needs_of_committer(
    wanted: &mut Wanted,
    group: &Arc<str>,
    member: &MemberIdentity,
    set: &WorkingSet<'_>,
) {
    wanted.read::<MemberDocument>(&member_key(group, member));
    if needs_others(set, group, member) {
        for key in member_keys(group, set) {
            wanted.read::<MemberDocument>(&key);
        }
    }
}

fn member_key(group: &Arc<str>, member: &MemberIdentity) -> MemberKey {
    MemberKey { group: Arc::clone(group), member: Arc::clone(&member.id) }
}

/// Whether another member may have the group instance id.
fn needs_others(set: &WorkingSet<'_>, group: &Arc<str>, member: &MemberIdentity) -> bool {
    let own = set.get::<MemberDocument>(&member_key(group, member));
    member.instance_id.is_some() && own.is_none_or(|own| own.instance_id != member.instance_id)
}

fn load_for(set: &WorkingSet<'_>, group: &Arc<str>, member: &MemberIdentity) -> Option<Group> {
    if needs_others(set, group, member) {
        Group::load(set, group)
    } else {
        Group::load_with(set, group, std::slice::from_ref(&member.id))
    }
}

fn key(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> OffsetKey {
    OffsetKey { group: Arc::clone(group), topic: Arc::clone(topic), partition }
}

/// A member that commits.
pub(super) struct CommittingMember<'a> {
    pub(super) member: &'a MemberIdentity,
    /// Whether the request version knows member epochs.
    pub(super) knows_epochs: bool,
}

pub(super) fn commit(
    set: &mut WorkingSet<'_>,
    name: &Arc<str>,
    committer: &CommittingMember<'_>,
    offsets: &[CommittedOffset],
    now_ms: i64,
) -> Outcome {
    match load_for(set, name, committer.member) {
        Some(group) => check_committer(&group, committer)?,
        // A consumer that commits offsets and joins no group.
        None if committer.member.generation < 0 => {
            set.put::<GroupDocument>(name, GroupDocument::empty(now_ms));
        }
        None => return Err(unknown_group()),
    }
    for CommittedOffset { topic, partition, document } in offsets {
        set.put::<OffsetDocument>(&key(name, topic, *partition), document.clone());
    }
    Ok(Applied::Changed)
}

fn check_committer(group: &Group, committer: &CommittingMember<'_>) -> Result<(), Refused> {
    let member = committer.member;
    let is_empty = group.document.state == GroupState::Empty;
    if member.generation < 0 && is_empty {
        return Ok(());
    }
    if group.document.consumer.is_some() {
        return check_consumer(group, committer);
    }
    if member.generation >= 0 || !member.id.is_empty() || member.instance_id.is_some() {
        group.check_member(member)?;
        if member.generation != group.document.generation {
            return Err(Refused::from(ErrorCode::IllegalGeneration));
        }
    } else if !is_empty {
        // Only members may commit to a group that is not empty.
        return Err(unknown_member());
    }
    if group.document.state == GroupState::CompletingRebalance {
        // The member has joined and has no assignment yet.
        return Err(Refused::from(ErrorCode::RebalanceInProgress));
    }
    Ok(())
}

/// In a group of the consumer protocol, members of both protocols may commit; each gets its own protocol's
/// errors.
fn check_consumer(
    group: &Group,
    CommittingMember { member, knows_epochs }: &CommittingMember<'_>,
) -> Result<(), Refused> {
    let document = group.member(&member.id).ok_or_else(unknown_member)?;
    let own = document.consumer.as_ref().ok_or_else(unknown_member)?;
    let stale = if document.is_classic() {
        ErrorCode::IllegalGeneration
    } else if *knows_epochs {
        ErrorCode::StaleMemberEpoch
    } else {
        return Err(Refused::from(ErrorCode::UnsupportedVersion));
    };
    if member.generation == own.epoch { Ok(()) } else { Err(Refused::from(stale)) }
}

pub(super) fn delete(set: &mut WorkingSet<'_>, name: &Arc<str>, offsets: &[(Arc<str>, i32)]) -> Outcome {
    let group = Group::load(set, name).ok_or_else(unknown_group)?;
    let is_in_use = |topic: &str| group.document.state != GroupState::Empty && subscribes(&group, topic);
    let is_of_consumers = group.document.protocol_type.as_deref() == Some(CONSUMER);
    if group.document.state != GroupState::Empty && !is_of_consumers {
        // For other protocol types the broker cannot tell which topics the members use.
        return Err(ErrorCode::NonEmptyGroup.into());
    }
    let error = |topic: &str| is_in_use(topic).then_some(ErrorCode::GroupSubscribedToTopic);
    let errors: Vec<Option<ErrorCode>> = offsets.iter().map(|(topic, _)| error(topic)).collect();
    let unused = offsets.iter().zip(&errors).filter(|(_, error)| error.is_none());
    let unused: Vec<(Arc<str>, i32)> = unused.map(|(offset, _)| offset.clone()).collect();
    remove_offsets(set, name, &unused);
    Ok(Applied::OffsetsDeleted(errors))
}

/// Whether a member may subscribe to a topic. A subscription that cannot be parsed counts as one to every
/// topic.
fn subscribes(group: &Group, topic: &str) -> bool {
    if group.document.consumer.is_some() {
        return consumer::is_subscribed(group, topic);
    }
    let protocol = group.document.protocol.as_deref();
    group.members().any(|(_, member)| {
        let own = protocols::subscription_to(member, protocol);
        own.is_none_or(|own| own.topics.contains(topic))
    })
}

fn unknown_group() -> Refused {
    Refused::from(ErrorCode::GroupIdNotFound)
}

fn remove_offsets(set: &mut WorkingSet<'_>, group: &Arc<str>, offsets: &[(Arc<str>, i32)]) {
    for (topic, partition) in offsets {
        let key = key(group, topic, *partition);
        if set.get::<OffsetDocument>(&key).is_some() {
            set.delete::<OffsetDocument>(&key);
        }
    }
}

fn all_offsets(set: &WorkingSet<'_>, group: &Arc<str>) -> Vec<(Arc<str>, i32)> {
    let keys = set.keys(&OffsetDocument::of_group(group)).unwrap_or_default();
    let offsets = keys.iter().filter_map(OffsetDocument::parse_key);
    offsets.map(|OffsetKey { topic, partition, .. }| (topic, partition)).collect()
}

pub(super) fn delete_group(set: &mut WorkingSet<'_>, group: &Arc<str>) -> Outcome {
    let document = set.get::<GroupDocument>(group).ok_or_else(unknown_group)?;
    if document.state != GroupState::Empty {
        return Err(ErrorCode::NonEmptyGroup.into());
    }
    drop_group(set, group);
    Ok(Applied::Changed)
}

fn drop_group(set: &mut WorkingSet<'_>, group: &Arc<str>) {
    let offsets = all_offsets(set, group);
    remove_offsets(set, group, &offsets);
    for member in pending::ids(set, group) {
        set.delete::<PendingDocument>(&MemberKey { group: Arc::clone(group), member });
    }
    set.delete::<GroupDocument>(group);
}

/// What decides whether an offset has expired.
pub(super) struct Expiry<'a> {
    pub(super) now_ms: i64,
    pub(super) retention_ms: i64,
    pub(super) deleted_topics: &'a BTreeSet<TopicId>,
}

/// An offset is kept while its group subscribes to its topic, and for the retention time after that. Offsets
/// of deleted topics are not kept.
pub(super) fn expire(set: &mut WorkingSet<'_>, name: &Arc<str>, expiry: &Expiry<'_>) -> Outcome {
    let Some(group) = Group::load(set, name) else { return Ok(Applied::Changed) };
    let is_empty = group.document.state == GroupState::Empty;
    let is_idle = |topic: &str| {
        if is_empty {
            true
        } else {
            let is_stable = group.document.state == GroupState::Stable || group.document.consumer.is_some();
            let is_of_consumers = group.document.protocol_type.as_deref() == Some(CONSUMER);
            is_stable && is_of_consumers && !subscribes(&group, topic)
        }
    };
    // When the group became empty. A group that never had members is judged by its offsets alone.
    let is_classic = group.document.consumer.is_none();
    let since_ms = if is_empty && is_classic && group.document.protocol_type.is_some() {
        group.document.since_ms
    } else {
        i64::MIN
    };
    let is_over = |offset: &OffsetDocument| match offset.expires_ms {
        Some(expires_ms) => expires_ms <= expiry.now_ms,
        None => expiry.now_ms - offset.committed_ms.max(since_ms) >= expiry.retention_ms,
    };
    let offsets = all_offsets(set, name);
    let is_expired = |(topic, partition): &(Arc<str>, i32)| {
        let Some(offset) = set.get::<OffsetDocument>(&key(name, topic, *partition)) else { return true };
        expiry.deleted_topics.contains(&offset.topic_id) || (is_idle(topic) && is_over(offset))
    };
    let expired: Vec<(Arc<str>, i32)> = offsets.iter().filter(|offset| is_expired(offset)).cloned().collect();
    if is_empty && group.document.pending_ids.is_none() && expired.len() == offsets.len() {
        drop_group(set, name);
    } else {
        remove_offsets(set, name, &expired);
    }
    Ok(Applied::Changed)
}
