//! The documents that a group command needs, and its decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::ErrorCode;

use super::group::{Group, member_keys, unknown_member};
use super::{consumer, join, leave, offsets, protocols, sync, tick};
use crate::commands::{Applied, ConsumerHeartbeat, GroupCommand, Join, Joined, Outcome, Refused};
use crate::documents::{GroupDocument, MemberDocument, MemberKey, PendingDocument};
use crate::working_set::{Wanted, WorkingSet};

pub(crate) fn needs(wanted: &mut Wanted, group: &Arc<str>, command: &GroupCommand, set: &WorkingSet<'_>) {
    wanted.write::<GroupDocument>(group);
    if let GroupCommand::CommitOffsets { member, .. } = command {
        offsets::needs_of_committer(wanted, group, member, set);
        offsets::needs(wanted, group, command);
        return;
    }
    let key = |member: &Arc<str>| MemberKey { group: Arc::clone(group), member: Arc::clone(member) };
    for member in joining_ids(command) {
        wanted.write::<MemberDocument>(&key(member));
    }
    for member in pending_ids(command) {
        wanted.write::<PendingDocument>(&key(member));
    }
    if set.get::<GroupDocument>(group).is_some_and(|group| looks_at_all_pending(group, command)) {
        wanted.scan(PendingDocument::of_group(group));
    }
    for key in member_keys(group, set) {
        match command {
            // These read the members and do not change them.
            GroupCommand::DeleteOffsets { .. } | GroupCommand::ExpireOffsets { .. } => {
                wanted.read::<MemberDocument>(&key)
            }
            _ => wanted.write::<MemberDocument>(&key),
        };
    }
    offsets::needs(wanted, group, command);
}

/// The member ids that a command may add.
fn joining_ids(command: &GroupCommand) -> Vec<&Arc<str>> {
    match command {
        GroupCommand::Join(join) => vec![&join.fresh_id, &join.member.id],
        GroupCommand::ConsumerHeartbeat(heartbeat) => vec![&heartbeat.member_id],
        _ => Vec::new(),
    }
}

/// The member ids of a command that may be pending, or become so.
fn pending_ids(command: &GroupCommand) -> Vec<&Arc<str>> {
    match command {
        GroupCommand::Join(join) => vec![&join.fresh_id, &join.member.id],
        GroupCommand::Leave { members, .. } => members.iter().map(|member| &member.id).collect(),
        _ => Vec::new(),
    }
}

/// Whether a command needs all pending ids: they may have expired, or the group becomes one of the consumer protocol.
fn looks_at_all_pending(group: &GroupDocument, command: &GroupCommand) -> bool {
    match command {
        GroupCommand::Tick { now_ms, .. } => tick::has_due_pending(group, *now_ms),
        GroupCommand::ConsumerHeartbeat(heartbeat) => heartbeat.joins() && group.pending_ids.is_some(),
        _ => false,
    }
}

/// The topics whose metadata a command needs and does not carry. Until it does, it is not applied.
pub fn missing_topics(group: &Arc<str>, command: &GroupCommand, set: &WorkingSet<'_>) -> BTreeSet<Arc<str>> {
    match command {
        GroupCommand::Join(_) | GroupCommand::ConsumerHeartbeat(_) => {
            consumer::missing_topics(Group::load(set, group).as_ref(), command)
        }
        _ => BTreeSet::new(),
    }
}

/// The group with those pending ids that a command may look at.
fn load(set: &WorkingSet<'_>, name: &Arc<str>, command: &GroupCommand) -> Option<Group> {
    let mut group = Group::load(set, name)?;
    group.load_pending(set, pending_ids(command));
    if looks_at_all_pending(&group.document, command) {
        group.load_all_pending(set);
    }
    Some(group)
}

pub(crate) fn decide(set: &mut WorkingSet<'_>, name: &Arc<str>, command: &GroupCommand) -> Outcome {
    let missing = missing_topics(name, command, set);
    if !missing.is_empty() {
        return Ok(Applied::MissingTopics(missing));
    }
    match command {
        GroupCommand::CommitOffsets { member, offsets, knows_epochs, now_ms } => offsets::commit(
            set,
            name,
            &offsets::CommittingMember { member, knows_epochs: *knows_epochs },
            offsets,
            *now_ms,
        ),
        GroupCommand::DeleteOffsets { offsets } => offsets::delete(set, name, offsets),
        GroupCommand::ExpireOffsets { now_ms, retention_ms, deleted_topics } => offsets::expire(
            set,
            name,
            &offsets::Expiry { now_ms: *now_ms, retention_ms: *retention_ms, deleted_topics },
        ),
        GroupCommand::Delete => offsets::delete_group(set, name),
        GroupCommand::Join(join) => {
            let mut group = match load(set, name, command) {
                Some(group) => group,
                None if join.member.id.is_empty() => Group::new(name, join.now_ms),
                None => return Err(unknown_member()),
            };
            let joined = joined(&mut group, join)?;
            group.store(set);
            Ok(Applied::Joined(joined))
        }
        GroupCommand::Sync(sync) => {
            let mut group = Group::load(set, name).ok_or_else(unknown_member)?;
            let synced = if group.document.consumer.is_some() {
                consumer::sync(&mut group, sync)?
            } else {
                sync::sync(&mut group, sync)?
            };
            group.store(set);
            Ok(Applied::Synced(synced))
        }
        GroupCommand::ConsumerHeartbeat(heartbeat) => {
            let mut group = consumer_group(set, name, heartbeat)?;
            let reply = consumer::heartbeat(&mut group, heartbeat)?;
            group.store(set);
            Ok(Applied::Heartbeat(reply))
        }
        GroupCommand::ConsumerLeave(leave) => {
            let group = Group::load(set, name).filter(|group| group.document.consumer.is_some());
            let mut group = group.ok_or_else(|| Refused::from(ErrorCode::GroupIdNotFound))?;
            consumer::leave(&mut group, leave)?;
            group.store(set);
            Ok(Applied::Changed)
        }
        GroupCommand::Leave { members, now_ms } => {
            let mut group = load(set, name, command).ok_or_else(unknown_member)?;
            let left = if group.document.consumer.is_some() {
                consumer::leave_classic(&mut group, members, *now_ms)
            } else {
                leave::leave(&mut group, members, *now_ms)
            };
            group.store(set);
            Ok(Applied::Left(left))
        }
        GroupCommand::Tick { now_ms, timed_out } => {
            if let Some(mut group) = load(set, name, command) {
                tick::tick(&mut group, *now_ms, timed_out);
                group.store(set);
            }
            Ok(Applied::Changed)
        }
    }
}

/// JoinGroup. An empty group of the consumer protocol becomes a classic one.
fn joined(group: &mut Group, join: &Join) -> Result<Joined, Refused> {
    if group.document.consumer.is_some() && group.count() == 0 {
        group.document = GroupDocument::empty(join.now_ms);
    }
    if group.document.consumer.is_some() { consumer::join(group, join) } else { join::join(group, join) }
}

/// The group of the consumer protocol that a heartbeat is for. A classic group is upgraded, if possible, when
/// the first member of the consumer protocol joins.
fn consumer_group(
    set: &WorkingSet<'_>,
    name: &Arc<str>,
    heartbeat: &ConsumerHeartbeat,
) -> Result<Group, Refused> {
    let not_found = || Refused::from(ErrorCode::GroupIdNotFound);
    let mut group = match Group::load(set, name) {
        Some(group) if group.document.consumer.is_some() => return Ok(group),
        _ if !heartbeat.joins() => return Err(not_found()),
        Some(group) => group,
        None => Group::new(name, heartbeat.now_ms),
    };
    group.load_all_pending(set);
    if group.count() == 0 {
        group.clear_pending();
        group.document = GroupDocument::empty(heartbeat.now_ms);
        group.document.protocol_type = Some(Arc::from(protocols::CONSUMER));
        group.document.consumer = Some(Arc::default());
    } else if consumer::can_upgrade(&group) {
        consumer::upgrade(&mut group, &heartbeat.known_topics, heartbeat.now_ms);
    } else {
        return Err(not_found());
    }
    Ok(group)
}
