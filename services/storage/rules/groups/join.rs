//! JoinGroup, as Kafka's coordinator decides it.

use std::sync::Arc;

use kernel::ErrorCode;

use super::change::{Join, Joined};
use super::documents::{GroupState, MemberDocument};
use super::party::{Party, refused, unknown_member};
use super::protocols;
use crate::rules::command::Refused;

type Decided = Result<Joined, Refused>;

pub(super) fn join(party: &mut Party, join: Join) -> Decided {
    check_size(party, &join)?;
    if !protocols::supports(party, &join.protocol_type, &join.protocols) {
        return Err(refused(ErrorCode::InconsistentGroupProtocol));
    }
    match (join.member.id.is_empty(), join.member.instance_id.clone()) {
        (true, None) => newcomer(party, &join),
        (true, Some(instance)) => static_newcomer(party, &join, &instance),
        (false, _) => known(party, &join),
    }
}

/// A group that is full takes back those that it knows.
fn check_size(party: &Party, join: &Join) -> Result<(), Refused> {
    let member = party.member(&join.member.id);
    let is_accepted = match party.group.state {
        GroupState::Empty => true,
        GroupState::PreparingRebalance => {
            member.is_some_and(|member| member.has_joined) || party.count_joined() < join.members_max
        }
        _ => member.is_some() || party.count() < join.members_max,
    };
    if is_accepted { Ok(()) } else { Err(refused(ErrorCode::GroupMaxSizeReached)) }
}

fn newcomer(party: &mut Party, join: &Join) -> Decided {
    let id = Arc::clone(&join.fresh_id);
    if join.requires_known_id {
        let until_ms = join.now_ms + i64::from(join.session_timeout_ms);
        party.group.pending.insert(Arc::clone(&id), until_ms);
        return Ok(Joined::IdRequired(id));
    }
    add(party, join, id)
}

fn static_newcomer(party: &mut Party, join: &Join, instance: &str) -> Decided {
    let id = Arc::clone(&join.fresh_id);
    match party.id_of_instance(instance).cloned() {
        None => add(party, join, id),
        Some(old) => replace(party, join, &old, id),
    }
}

fn known(party: &mut Party, join: &Join) -> Decided {
    let id = Arc::clone(&join.member.id);
    if join.member.instance_id.is_none() && party.group.pending.contains_key(&id) {
        return add(party, join, id);
    }
    party.check_member(&join.member)?;
    let is_same = party.member(&id).is_some_and(|member| member.protocols == join.protocols);
    let is_leader = party.is_leader(&id);
    match party.group.state {
        GroupState::PreparingRebalance => again(party, join, id),
        // It may not have got the answer to its first join.
        GroupState::CompletingRebalance if is_same => Ok(stays(party, id, is_leader)),
        GroupState::Stable if is_same && !is_leader => Ok(stays(party, id, false)),
        GroupState::CompletingRebalance | GroupState::Stable => again(party, join, id),
        GroupState::Empty | GroupState::Assigning | GroupState::Reconciling => Err(unknown_member()),
    }
}

fn stays(party: &Party, member: Arc<str>, lists_members: bool) -> Joined {
    let leader = party.group.leader.clone().unwrap_or_default();
    Joined::In { member, lists_members, skips_assignment: false, leader }
}

pub(super) fn document(join: &Join) -> MemberDocument {
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

fn add(party: &mut Party, join: &Join, id: Arc<str>) -> Decided {
    if party.count() == 0 {
        party.group.protocol_type = Some(Arc::clone(&join.protocol_type));
    }
    if let Some(deadline) = &mut party.group.deadline
        && let Some(initial) = &mut deadline.initial
    {
        initial.has_newcomer = true;
    }
    party.add(Arc::clone(&id), document(join));
    Ok(wait(party, join, id))
}

fn again(party: &mut Party, join: &Join, id: Arc<str>) -> Decided {
    take_in(party, join, &id);
    Ok(wait(party, join, id))
}

/// What a member says of itself when it comes again.
fn take_in(party: &mut Party, join: &Join, id: &str) {
    if let Some(member) = party.member_mut(id) {
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
fn wait(party: &mut Party, join: &Join, member: Arc<str>) -> Joined {
    let generation = party.group.generation;
    match party.group.state {
        GroupState::PreparingRebalance => party.complete_if_all_joined(join.now_ms),
        _ => party.prepare(join.initial_delay_ms, join.now_ms),
    }
    Joined::Waits { member, generation }
}

/// A static member has come back without its id, after a restart: the one that had the id is fenced. If nothing else
/// has changed the group goes on as it is (KIP-345).
fn replace(party: &mut Party, join: &Join, old: &Arc<str>, id: Arc<str>) -> Decided {
    let leader_before = party.group.leader.clone().unwrap_or_default();
    party.rename(old, &id);
    take_in(party, join, &id);
    if party.group.state != GroupState::Stable || protocols::select(party) != party.group.protocol {
        return Ok(wait(party, join, id));
    }
    if let Some(member) = party.member_mut(&id) {
        member.has_joined = false;
    }
    let skips_assignment = join.can_skip_assignment && party.is_leader(&id);
    // A client that cannot skip the assignment must not learn that it leads: it is told the leader's old id.
    let leader = match join.can_skip_assignment {
        true => party.group.leader.clone().unwrap_or_default(),
        false => leader_before,
    };
    Ok(Joined::In { member: id, lists_members: skips_assignment, skips_assignment, leader })
}
