//! The documents that a group command needs, and its decision.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::ErrorCode;

use super::group::{Group, unknown_member};
use super::lookups::Lookups;
use super::{consumer, join, leases, leave, offsets, protocols, resume, sync, tick};
use crate::commands::{Applied, ConsumerHeartbeat, GroupCommand, Join, Outcome, Refused};
use crate::documents::{ConsumerGroup, GroupDocument, MemberDocument, MemberKey, PendingDocument};
use crate::working_set::{Changes, Wanted, WorkingSet};

pub(crate) fn needs(wanted: &mut Wanted, group: &Arc<str>, command: &GroupCommand, set: &WorkingSet<'_>) {
    wanted.write::<GroupDocument>(group);
    let key = |member: &Arc<str>| MemberKey { group: Arc::clone(group), member: Arc::clone(member) };
    for member in member_ids(command) {
        wanted.write::<MemberDocument>(&key(member));
    }
    for member in pending_ids(command) {
        wanted.write::<PendingDocument>(&key(member));
    }
    if wanted.lacks_any_in(set) {
        // What these lead to is known once they are loaded.
        return offsets::needs_always(wanted, group, command);
    }
    let lacking = RefCell::default();
    let lookups = Lookups::new(set, &lacking);
    if offsets::is_about_offsets(command) {
        offsets::needs_always(wanted, group, command);
        offsets::look(lookups, group, command);
    } else {
        // Its outcome is not the decision: it tells only what is looked at.
        let _ = plan(lookups, group, command);
    }
    wanted.extend(lacking.into_inner());
}

/// The members that a command names, or adds.
fn member_ids(command: &GroupCommand) -> Vec<&Arc<str>> {
    match command {
        GroupCommand::Join(join) => vec![&join.fresh_id, &join.member.id],
        GroupCommand::Sync(sync) => vec![&sync.member.id],
        GroupCommand::ConsumerHeartbeat(heartbeat) => vec![&heartbeat.member_id],
        GroupCommand::ConsumerLeave(leave) => vec![&leave.member_id],
        GroupCommand::Leave { members, .. } => members.iter().map(|member| &member.id).collect(),
        GroupCommand::Tick { timed_out, .. } => timed_out.keys().collect(),
        GroupCommand::RenewLeases { heard } => heard.keys().collect(),
        GroupCommand::InstallTarget(target) => target.members.keys().collect(),
        GroupCommand::Advance(advance) => vec![&advance.member_id],
        GroupCommand::CommitOffsets { member, .. } => vec![&member.id],
        GroupCommand::Resume { .. }
        | GroupCommand::DeleteOffsets { .. }
        | GroupCommand::ExpireOffsets { .. }
        | GroupCommand::Delete
        | GroupCommand::Index => Vec::new(),
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

/// The group, with the members and pending ids that a command names.
fn load<'a>(lookups: Lookups<'a>, name: &Arc<str>, command: &GroupCommand) -> Option<Group<'a>> {
    let mut group = Group::load(lookups, name)?;
    group.ensure_tally();
    load_named(&mut group, command);
    Some(group)
}

fn load_named(group: &mut Group<'_>, command: &GroupCommand) {
    member_ids(command).into_iter().for_each(|id| group.load_member(id));
    group.load_pending(pending_ids(command));
}

pub(crate) fn decide(set: &mut WorkingSet<'_>, name: &Arc<str>, command: &GroupCommand) -> Outcome {
    let lacking = RefCell::default();
    if offsets::is_about_offsets(command) {
        return offsets::decide(set, &lacking, name, command);
    }
    let (applied, changes) = plan(Lookups::new(set, &lacking), name, command)?;
    set.apply(changes);
    Ok(applied)
}

type Planned = Result<(Applied, Changes), Refused>;

/// What a command changes, unless it is about offsets alone.
fn plan(lookups: Lookups<'_>, name: &Arc<str>, command: &GroupCommand) -> Planned {
    let found = load(lookups, name, command);
    let new = |now_ms| {
        let mut group = Group::new(lookups, name, now_ms);
        load_named(&mut group, command);
        group
    };
    let mut group = match (found, command) {
        (Some(group), _) => group,
        (None, GroupCommand::Join(join)) if join.member.id.is_empty() => new(join.now_ms),
        (None, GroupCommand::ConsumerHeartbeat(heartbeat)) if heartbeat.joins() => new(heartbeat.now_ms),
        (None, GroupCommand::ConsumerHeartbeat(_) | GroupCommand::ConsumerLeave(_)) => {
            return Err(not_found());
        }
        (None, GroupCommand::RenewLeases { .. }) => {
            return Ok((Applied::LeasesRenewed(BTreeMap::new()), Changes::new()));
        }
        (None, GroupCommand::Tick { .. } | GroupCommand::Resume { .. } | GroupCommand::InstallTarget(_)) => {
            return Ok((Applied::Changed, Changes::new()));
        }
        (None, _) => return Err(unknown_member()),
    };
    group.wall_ms = command.wall_ms();
    let missing = consumer::missing_topics(&mut group, command);
    if !missing.is_empty() {
        return Ok((Applied::MissingTopics(missing), Changes::new()));
    }
    let applied = change(&mut group, command)?;
    Ok((applied, group.into_changes()))
}

fn change(group: &mut Group<'_>, command: &GroupCommand) -> Outcome {
    let is_of_consumers = group.document.consumer.is_some();
    match command {
        GroupCommand::Join(join) => joined(group, join),
        GroupCommand::Sync(sync) if is_of_consumers => consumer::sync(group, sync).map(Applied::Synced),
        GroupCommand::Sync(sync) => sync::sync(group, sync).map(Applied::Synced),
        GroupCommand::ConsumerHeartbeat(heartbeat) => {
            become_consumer_group(group, heartbeat)?;
            consumer::heartbeat(group, heartbeat)
        }
        GroupCommand::Advance(advance) if is_of_consumers => consumer::advance(group, advance),
        GroupCommand::ConsumerLeave(leave) if is_of_consumers => {
            consumer::leave(group, leave).map(|()| Applied::Changed)
        }
        GroupCommand::ConsumerLeave(_) => Err(not_found()),
        GroupCommand::Leave { members, now_ms, .. } if is_of_consumers => {
            Ok(Applied::Left(consumer::leave_classic(group, members, *now_ms)))
        }
        GroupCommand::Leave { members, now_ms, .. } => {
            Ok(Applied::Left(leave::leave(group, members, *now_ms)))
        }
        GroupCommand::Tick { now_ms, timed_out, .. } => {
            tick::tick(group, *now_ms, timed_out);
            Ok(Applied::Changed)
        }
        GroupCommand::RenewLeases { heard } => Ok(Applied::LeasesRenewed(leases::renew(group, heard))),
        GroupCommand::Resume { now_ms } => {
            resume::resume(group, *now_ms);
            Ok(Applied::Changed)
        }
        GroupCommand::InstallTarget(target) => {
            consumer::install(group, target);
            Ok(Applied::Changed)
        }
        // The group was converted to the classic protocol meanwhile: the member joins again, and keeps its id.
        GroupCommand::Advance(advance) if group.member(&advance.member_id).is_some() => {
            Err(Refused::from(ErrorCode::RebalanceInProgress))
        }
        // The others are about offsets.
        GroupCommand::Advance(_)
        | GroupCommand::CommitOffsets { .. }
        | GroupCommand::DeleteOffsets { .. }
        | GroupCommand::ExpireOffsets { .. }
        | GroupCommand::Delete
        | GroupCommand::Index => Err(unknown_member()),
    }
}

fn not_found() -> Refused {
    Refused::from(ErrorCode::GroupIdNotFound)
}

/// JoinGroup. An empty group of the consumer protocol becomes a classic one.
fn joined(group: &mut Group<'_>, join: &Join) -> Outcome {
    if group.document.consumer.is_some() && group.count() == 0 {
        group.document = GroupDocument::empty(join.now_ms);
    }
    if group.document.consumer.is_some() {
        return consumer::join(group, join);
    }
    join::join(group, join).map(Applied::Joined)
}

/// Makes the group of a heartbeat one of the consumer protocol, if it is not. A classic group is upgraded, if possible,
/// when the first member of the consumer protocol joins.
fn become_consumer_group(group: &mut Group<'_>, heartbeat: &ConsumerHeartbeat) -> Result<(), Refused> {
    if group.document.consumer.is_some() {
        return Ok(());
    }
    if !heartbeat.joins() {
        return Err(not_found());
    }
    if group.count() == 0 {
        group.clear_pending();
        let epoch = ConsumerGroup::FIRST_EPOCH;
        group.document = GroupDocument {
            generation: epoch,
            protocol_type: Some(Arc::from(protocols::CONSUMER)),
            consumer: Some(Arc::new(ConsumerGroup::with_target_of(epoch))),
            ..GroupDocument::empty(heartbeat.now_ms)
        };
        return Ok(());
    }
    group.load_all();
    if !consumer::can_upgrade(group) {
        return Err(not_found());
    }
    consumer::upgrade(group, &heartbeat.known_topics, heartbeat.now_ms);
    Ok(())
}
