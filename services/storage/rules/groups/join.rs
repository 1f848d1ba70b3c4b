//! JoinGroup, as Kafka's coordinator decides it.

use std::sync::Arc;

use kernel::ErrorCode;

use super::group::{Group, unknown_member};
use super::protocols;
use crate::commands::{Join, Joined, Refused};
use crate::documents::{GroupState, MemberDocument};

type Decided = Result<Joined, Refused>;

pub(super) fn join(group: &mut Group, join: &Join) -> Decided {
    check_size(group, join)?;
    if !supports(group, join) {
        return Err(ErrorCode::InconsistentGroupProtocol.into());
    }
    match (join.member.id.is_empty(), join.member.instance_id.clone()) {
        (true, None) => newcomer(group, join),
        (true, Some(instance)) => static_newcomer(group, join, &instance),
        (false, _) => known(group, join),
    }
}

/// Whether a member with these assignors fits into the group.
fn supports(group: &Group, join: &Join) -> bool {
    if group.document.state == GroupState::Empty {
        return !join.protocol_type.is_empty() && !join.protocols.is_empty();
    }
    let known = protocols::known_by_all(&group.documents());
    group.document.protocol_type.as_ref() == Some(&join.protocol_type)
        && join.protocols.iter().any(|own| group.count() == 0 || known.contains(&own.name))
}

/// A group that is full takes back those that it knows.
fn check_size(group: &Group, join: &Join) -> Result<(), Refused> {
    let member = group.member(&join.member.id);
    let is_accepted = match group.document.state {
        GroupState::Empty => true,
        GroupState::PreparingRebalance => {
            member.is_some_and(|member| member.has_joined) || group.count_joined() < join.members_max
        }
        _ => member.is_some() || group.count() < join.members_max,
    };
    if is_accepted { Ok(()) } else { Err(ErrorCode::GroupMaxSizeReached.into()) }
}

fn newcomer(group: &mut Group, join: &Join) -> Decided {
    let id = Arc::clone(&join.fresh_id);
    if join.requires_known_id {
        let until_ms = join.now_ms + i64::from(join.session_timeout_ms);
        group.document.pending.insert(Arc::clone(&id), until_ms);
        return Ok(Joined::IdRequired(id));
    }
    add(group, join, id)
}

fn static_newcomer(group: &mut Group, join: &Join, instance: &str) -> Decided {
    let id = Arc::clone(&join.fresh_id);
    match group.id_of_instance(instance).cloned() {
        None => add(group, join, id),
        Some(old) => replace(group, join, &old, id),
    }
}

fn known(group: &mut Group, join: &Join) -> Decided {
    let id = Arc::clone(&join.member.id);
    if join.member.instance_id.is_none() && group.document.pending.contains_key(&id) {
        return add(group, join, id);
    }
    group.check_member(&join.member)?;
    let is_same = group.member(&id).is_some_and(|member| member.protocols == join.protocols);
    let is_leader = group.is_leader(&id);
    match group.document.state {
        GroupState::PreparingRebalance => rejoin(group, join, id),
        // It may not have got the answer to its first join.
        GroupState::CompletingRebalance if is_same => Ok(stays(group, id, is_leader)),
        GroupState::Stable if is_same && !is_leader => Ok(stays(group, id, false)),
        GroupState::CompletingRebalance | GroupState::Stable => rejoin(group, join, id),
        GroupState::Empty | GroupState::Assigning | GroupState::Reconciling => Err(unknown_member()),
    }
}

fn stays(group: &Group, member: Arc<str>, lists_members: bool) -> Joined {
    let leader = group.document.leader.clone().unwrap_or_default();
    Joined::In { member, lists_members, skips_assignment: false, leader }
}

/// A member as it joins.
pub(super) fn new_member(join: &Join) -> MemberDocument {
    MemberDocument {
        instance_id: join.member.instance_id.clone(),
        client_id: Arc::clone(&join.client_id),
        client_host: Arc::clone(&join.client_host),
        session_timeout_ms: join.session_timeout_ms,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        protocols: join.protocols.clone(),
        assignment: Default::default(),
        has_joined: true,
        has_synced: false,
        lease_ms: join.now_ms + i64::from(join.session_timeout_ms),
        consumer: None,
    }
}

fn add(group: &mut Group, join: &Join, id: Arc<str>) -> Decided {
    if group.count() == 0 {
        group.document.protocol_type = Some(Arc::clone(&join.protocol_type));
    }
    if let Some(deadline) = &mut group.document.deadline
        && let Some(initial) = &mut deadline.initial
    {
        initial.has_newcomer = true;
    }
    group.add(Arc::clone(&id), new_member(join));
    Ok(wait(group, join, id))
}

fn rejoin(group: &mut Group, join: &Join, id: Arc<str>) -> Decided {
    update_member(group, join, &id);
    Ok(wait(group, join, id))
}

/// Takes over what a member says of itself when it joins again.
fn update_member(group: &mut Group, join: &Join, id: &str) {
    if let Some(member) = group.member_mut(id) {
        member.protocols.clone_from(&join.protocols);
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.client_id = Arc::clone(&join.client_id);
        member.client_host = Arc::clone(&join.client_host);
        member.lease_ms = join.now_ms + i64::from(join.session_timeout_ms);
        member.has_joined = true;
    }
}

/// The member has joined; the others are asked to, unless they have been.
fn wait(group: &mut Group, join: &Join, member: Arc<str>) -> Joined {
    let generation = group.document.generation;
    match group.document.state {
        GroupState::PreparingRebalance => group.complete_if_all_joined(join.now_ms),
        _ => group.prepare(join.initial_delay_ms, join.now_ms),
    }
    Joined::Waits { member, generation }
}

/// A static member has come back without its id, after a restart: the one that had the id is fenced. If nothing else
/// has changed the group goes on as it is (KIP-345).
fn replace(group: &mut Group, join: &Join, old: &Arc<str>, id: Arc<str>) -> Decided {
    let leader_before = group.document.leader.clone().unwrap_or_default();
    group.rename(old, &id);
    update_member(group, join, &id);
    if group.document.state != GroupState::Stable
        || protocols::select(&group.documents()) != group.document.protocol
    {
        return Ok(wait(group, join, id));
    }
    if let Some(member) = group.member_mut(&id) {
        member.has_joined = false;
    }
    let skips_assignment = join.can_skip_assignment && group.is_leader(&id);
    // A client that cannot skip the assignment must not learn that it leads: it is told the leader's old id.
    let leader = match join.can_skip_assignment {
        true => group.document.leader.clone().unwrap_or_default(),
        false => leader_before,
    };
    Ok(Joined::In { member: id, lists_members: skips_assignment, skips_assignment, leader })
}
