//! ConsumerGroupHeartbeat, as Kafka's coordinator decides it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{ErrorCode, TopicId};

use super::current_assignment::next_assignment;
use super::state::{bump_epoch, settle};
use super::subscriptions::{subscribed, update_topics};
use super::target_assignment::update_targets;
use crate::commands::{ConsumerHeartbeat, HeartbeatReply, LEAVE_STATIC_EPOCH, Refused, ResolvedRegex};
use crate::documents::{ConsumerMember, MemberDocument, MemberState, Partitions, each, holds};
use crate::groups::group::{Group, unknown_member};

pub(in crate::groups) fn heartbeat(
    group: &mut Group,
    heartbeat: &ConsumerHeartbeat,
) -> Result<HeartbeatReply, Refused> {
    let is_known = group.member(&heartbeat.member_id).is_some();
    if !is_known && group.count() >= heartbeat.members_max {
        return Err(Refused::from(ErrorCode::GroupMaxSizeReached));
    }
    let is_new = find_or_add(group, heartbeat)?;
    let id = Arc::clone(&heartbeat.member_id);
    let assigned_before = group.consumer(&id).map(|own| own.assigned.clone()).unwrap_or_default();
    let regexes_changed = update_regexes(group, heartbeat);
    let subscription_changed = update_member(group, heartbeat);
    let topics_changed = update_topics(group, &heartbeat.known_topics);
    if is_new || regexes_changed || subscription_changed || topics_changed {
        bump_epoch(group);
    }
    update_targets(group);
    advance(group, &id, heartbeat.owned.as_ref());
    settle(group, heartbeat.now_ms);
    let own = group.consumer(&id).ok_or_else(unknown_member)?;
    let sends_assignment = heartbeat.is_full() || own.assigned != assigned_before;
    Ok(HeartbeatReply { member_epoch: own.epoch, assignment: sends_assignment.then(|| own.assigned.clone()) })
}

/// Finds or adds the member. Returns whether it is new.
fn find_or_add(group: &mut Group, heartbeat: &ConsumerHeartbeat) -> Result<bool, Refused> {
    let id = &heartbeat.member_id;
    let Some(instance) = &heartbeat.instance_id else {
        return match group.member(id) {
            Some(_) => check_epoch(group, heartbeat).map(|()| false),
            None if heartbeat.joins() => Ok(add(group, heartbeat)),
            None => Err(unknown_member()),
        };
    };
    match group.id_of_instance(instance).cloned() {
        None if heartbeat.joins() && group.member(id).is_none() => Ok(add(group, heartbeat)),
        None if heartbeat.joins() => check_epoch(group, heartbeat).map(|()| false),
        None => Err(unknown_member()),
        Some(old) if heartbeat.joins() => rejoin_static(group, heartbeat, &old).map(|()| false),
        Some(old) if old != *id => Err(Refused::from(ErrorCode::FencedInstanceId)),
        Some(_) => check_epoch(group, heartbeat).map(|()| false),
    }
}

fn add(group: &mut Group, heartbeat: &ConsumerHeartbeat) -> bool {
    let document = MemberDocument {
        instance_id: heartbeat.instance_id.clone(),
        client_id: Arc::clone(&heartbeat.client_id),
        client_host: Arc::clone(&heartbeat.client_host),
        session_timeout_ms: heartbeat.session_timeout_ms,
        rebalance_timeout_ms: heartbeat.rebalance_timeout_ms.unwrap_or_default(),
        protocols: Vec::new(),
        assignment: Default::default(),
        has_joined: false,
        has_synced: true,
        lease_ms: heartbeat.now_ms + i64::from(heartbeat.session_timeout_ms),
        consumer: Some(Box::default()),
    };
    group.add(Arc::clone(&heartbeat.member_id), document);
    true
}

/// A static member keeps its assignment if it rejoins after it left temporarily, or after it was a classic
/// member. An active member is not replaced, and two members are never merged into one.
fn rejoin_static(group: &mut Group, heartbeat: &ConsumerHeartbeat, old: &Arc<str>) -> Result<(), Refused> {
    let id = &heartbeat.member_id;
    let left_temporarily = group.consumer(old).is_some_and(|own| own.epoch == LEAVE_STATIC_EPOCH);
    let is_released = left_temporarily || group.member(old).is_some_and(MemberDocument::is_classic);
    if !is_released || (old != id && group.member(id).is_some()) {
        return Err(Refused::from(ErrorCode::UnreleasedInstanceId));
    }
    replace(group, old, id);
    if let Some(member) = group.member_mut(id) {
        member.lease_ms = heartbeat.now_ms + i64::from(heartbeat.session_timeout_ms);
    }
    Ok(())
}

/// Gives a static member a new member id. It restarts at member epoch 0 with its assignment.
pub(super) fn replace(group: &mut Group, old: &Arc<str>, new: &Arc<str>) {
    group.rename(old, new);
    if let Some(own) = group.consumer_mut(new) {
        (own.epoch, own.previous_epoch, own.due_ms) = (0, 0, None);
        own.state = MemberState::Stable;
        own.revoking.clear();
    }
}

/// A member may send its previous member epoch if it missed the reply with the next one. It must then own
/// only partitions that are assigned to it.
fn check_epoch(group: &Group, heartbeat: &ConsumerHeartbeat) -> Result<(), Refused> {
    let own = group.consumer(&heartbeat.member_id).ok_or_else(unknown_member)?;
    let sent_epoch = heartbeat.member_epoch;
    let owns_only_assigned =
        |owned: &Partitions| each(owned).all(|(topic, at)| holds(&own.assigned, topic, at));
    let missed_reply =
        sent_epoch == own.previous_epoch && heartbeat.owned.as_ref().is_some_and(owns_only_assigned);
    if sent_epoch == own.epoch || (sent_epoch < own.epoch && missed_reply) {
        return Ok(());
    }
    Err(Refused::from(ErrorCode::FencedMemberEpoch))
}

/// Updates what the group's regular expressions match. Returns whether one matches other topics than before.
fn update_regexes(group: &mut Group, heartbeat: &ConsumerHeartbeat) -> bool {
    let used: BTreeSet<Arc<str>> =
        group.members().filter_map(|(_, member)| member.consumer.as_ref()?.regex.clone()).collect();
    let Some(consumer) = group.document.consumer.as_mut() else { return false };
    let mut is_changed = false;
    for ResolvedRegex { regex, topics } in &heartbeat.resolved_regexes {
        if consumer.regexes.get(regex) == Some(topics) {
            continue;
        }
        Arc::make_mut(consumer).regexes.insert(Arc::clone(regex), topics.clone());
        // If none has it yet, the member that sends it is the one whose subscription changes.
        is_changed |= used.contains(regex);
    }
    is_changed
}

/// Updates the member from its heartbeat. Returns whether its subscription has changed.
fn update_member(group: &mut Group, heartbeat: &ConsumerHeartbeat) -> bool {
    let id = &heartbeat.member_id;
    let before = subscriptions(group, id);
    if let Some(member) = group.member_mut(id) {
        // It may have been a classic member before.
        member.protocols.clear();
        member.assignment = Default::default();
        member.has_synced = true;
        member.session_timeout_ms = heartbeat.session_timeout_ms;
        member.client_id = Arc::clone(&heartbeat.client_id);
        member.client_host = Arc::clone(&heartbeat.client_host);
        member.instance_id = heartbeat.instance_id.clone().or(member.instance_id.take());
        member.rebalance_timeout_ms = heartbeat.rebalance_timeout_ms.unwrap_or(member.rebalance_timeout_ms);
    }
    if let Some(own) = group.consumer_mut(id) {
        own.rack = heartbeat.rack.clone().or(own.rack.take());
        own.assignor = heartbeat.assignor.clone().or(own.assignor.take());
        if let Some(topics) = &heartbeat.topics {
            own.topics.clone_from(topics);
        }
        if let Some(regex) = &heartbeat.regex {
            own.regex = Some(Arc::clone(regex)).filter(|regex| !regex.is_empty());
        }
    }
    subscriptions(group, id) != before
}

fn subscriptions(group: &Group, id: &str) -> Option<BTreeSet<Arc<str>>> {
    Some(subscribed(group.document.consumer.as_deref()?, group.member(id)?))
}

/// Advances the member towards its target assignment.
pub(super) fn advance(group: &mut Group, id: &Arc<str>, owned: Option<&Partitions>) {
    let (Some(consumer), Some(own)) = (&group.document.consumer, group.consumer(id)) else { return };
    let target_epoch = consumer.assignment_epoch;
    let mut next = own.clone();
    let is_taken = |topic: TopicId, at: i32| is_taken(group, id, topic, at);
    next_assignment(&mut next, target_epoch, owned, is_taken);
    let is_same_step = next.state == MemberState::Revoking && next.revoking == own.revoking;
    if !is_same_step {
        next.due_ms = None;
    }
    if let Some(own) = group.consumer_mut(id) {
        *own = next;
    }
}

/// Whether a partition is assigned to another member, or that member has yet to revoke it.
pub(super) fn is_taken(group: &Group, but: &Arc<str>, topic: TopicId, at: i32) -> bool {
    let has = |own: &ConsumerMember| holds(&own.assigned, topic, at) || holds(&own.revoking, topic, at);
    group.members().any(|(id, member)| id != but && member.consumer.as_deref().is_some_and(has))
}
