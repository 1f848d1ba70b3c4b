//! JoinGroup, as Kafka's coordinator decides it.

use std::sync::Arc;

use kernel::ErrorCode;

use super::group::{Group, unknown_member};
use super::protocols;
use crate::commands::{Join, Joined, Refused};
use crate::documents::{GroupState, MemberDocument, MemberProtocol, PendingDocument};

type Decided = Result<Joined, Refused>;

pub(super) fn join(group: &mut Group<'_>, join: &Join) -> Decided {
    check_size(group, join)?;
    if !supports(group, join) {
        return Err(ErrorCode::InconsistentGroupProtocol.into());
    }
    match (join.member.id.is_empty(), join.member.instance_id.clone()) {
        (true, None) => join_new(group, join),
        (true, Some(instance)) => join_new_static(group, join, &instance),
        (false, _) => join_known(group, join),
    }
}

/// Whether the group supports the member's protocol type and one of its assignors.
fn supports(group: &Group<'_>, join: &Join) -> bool {
    if group.document.state == GroupState::Empty {
        return !join.protocol_type.is_empty() && !join.protocols.is_empty();
    }
    let members = group.document.members;
    let by_all = |own: &MemberProtocol| group.tally().protocols.get(&own.name) == Some(&members);
    group.document.protocol_type.as_ref() == Some(&join.protocol_type)
        && join.protocols.iter().any(|own| members == 0 || by_all(own))
}

/// A full group accepts only members that it has already accepted.
fn check_size(group: &Group<'_>, join: &Join) -> Result<(), Refused> {
    let member = group.member(&join.member.id);
    let is_accepted = match group.document.state {
        GroupState::Empty => true,
        GroupState::PreparingRebalance => {
            let joined = usize::try_from(group.tally().joined).unwrap_or(usize::MAX);
            member.is_some_and(|member| member.has_joined) || joined < join.members_max
        }
        _ => member.is_some() || group.count() < join.members_max,
    };
    if is_accepted { Ok(()) } else { Err(ErrorCode::GroupMaxSizeReached.into()) }
}

fn join_new(group: &mut Group<'_>, join: &Join) -> Decided {
    let id = Arc::clone(&join.fresh_id);
    if join.requires_known_id {
        let until_ms = join.now_ms + i64::from(join.session_timeout_ms);
        group.add_pending(&id, PendingDocument { until_ms, session_timeout_ms: join.session_timeout_ms });
        return Ok(Joined::IdRequired(id));
    }
    add(group, join, id)
}

fn join_new_static(group: &mut Group<'_>, join: &Join, instance: &Arc<str>) -> Decided {
    let id = Arc::clone(&join.fresh_id);
    match group.id_of_instance(instance) {
        None => add(group, join, id),
        Some(old) => replace(group, join, &old, id),
    }
}

fn join_known(group: &mut Group<'_>, join: &Join) -> Decided {
    let id = Arc::clone(&join.member.id);
    if join.member.instance_id.is_none() && group.is_pending(&id) {
        return add(group, join, id);
    }
    group.check_member(&join.member)?;
    let is_same = group.member(&id).is_some_and(|member| member.protocols == join.protocols);
    let is_leader = group.is_leader(&id);
    match group.document.state {
        GroupState::PreparingRebalance => rejoin(group, join, id),
        // The reply to its first JoinGroup may have been lost.
        GroupState::CompletingRebalance if is_same => Ok(in_generation(group, id, is_leader)),
        GroupState::Stable if is_same && !is_leader => Ok(in_generation(group, id, false)),
        GroupState::CompletingRebalance | GroupState::Stable => rejoin(group, join, id),
        GroupState::Empty | GroupState::Assigning | GroupState::Reconciling => Err(unknown_member()),
    }
}

fn in_generation(group: &Group<'_>, member: Arc<str>, lists_members: bool) -> Joined {
    let leader = group.document.leader.clone().unwrap_or_default();
    Joined::In { member, lists_members, skips_assignment: false, leader }
}

/// A member that has just joined.
pub(super) fn new_member(join: &Join) -> MemberDocument {
    MemberDocument {
        order: 0,
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

fn add(group: &mut Group<'_>, join: &Join, id: Arc<str>) -> Decided {
    if group.count() == 0 {
        group.document.protocol_type = Some(Arc::clone(&join.protocol_type));
    }
    if let Some(deadline) = &mut group.document.deadline
        && let Some(initial) = &mut deadline.initial
    {
        initial.has_newcomer = true;
    }
    group.add(&id, new_member(join));
    Ok(wait(group, join, id))
}

fn rejoin(group: &mut Group<'_>, join: &Join, id: Arc<str>) -> Decided {
    update_member(group, join, &id);
    Ok(wait(group, join, id))
}

/// Updates the member from its new JoinGroup.
fn update_member(group: &mut Group<'_>, join: &Join, id: &Arc<str>) {
    group.change(id, |member| {
        member.protocols.clone_from(&join.protocols);
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.client_id = Arc::clone(&join.client_id);
        member.client_host = Arc::clone(&join.client_host);
        member.lease_ms = join.now_ms + i64::from(join.session_timeout_ms);
        member.has_joined = true;
    });
}

/// The member has joined and waits. Starts a rebalance unless one is in progress.
fn wait(group: &mut Group<'_>, join: &Join, member: Arc<str>) -> Joined {
    let generation = group.document.generation;
    match group.document.state {
        GroupState::PreparingRebalance => group.complete_if_all_joined(join.now_ms),
        _ => group.prepare(join.initial_delay_ms, join.now_ms),
    }
    Joined::Waits { member, generation }
}

/// A static member rejoins without its member id, after a restart: the old member id is fenced. Without
/// another change there is no rebalance (KIP-345).
fn replace(group: &mut Group<'_>, join: &Join, old: &Arc<str>, id: Arc<str>) -> Decided {
    let leader_before = group.document.leader.clone().unwrap_or_default();
    let supported_before = group.member(old).map(names).unwrap_or_default();
    group.rename(old, &id);
    update_member(group, join, &id);
    if group.document.state != GroupState::Stable || changes_protocol(group, &supported_before, &id) {
        return Ok(wait(group, join, id));
    }
    group.change(&id, |member| member.has_joined = false);
    let skips_assignment = join.can_skip_assignment && group.is_leader(&id);
    // A client that cannot skip the assignment must not learn that it is the leader: the reply names the
    // leader's old member id.
    let leader = if join.can_skip_assignment {
        group.document.leader.clone().unwrap_or_default()
    } else {
        leader_before
    };
    Ok(Joined::In { member: id, lists_members: skips_assignment, skips_assignment, leader })
}

/// The names of a member's assignors, in order of preference.
fn names(member: &MemberDocument) -> Vec<Arc<str>> {
    member.protocols.iter().map(|own| Arc::clone(&own.name)).collect()
}

/// Whether the group would select another assignor than the one in use, now that a member of a Stable group has changed.
/// It would not if the member supports the same ones; only otherwise all members are asked.
fn changes_protocol(group: &mut Group<'_>, supported_before: &[Arc<str>], id: &str) -> bool {
    if group.member(id).is_some_and(|member| names(member) == supported_before) {
        return false;
    }
    group.load_all();
    protocols::select(&group.documents()) != group.document.protocol
}
