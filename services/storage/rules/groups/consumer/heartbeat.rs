//! ConsumerGroupHeartbeat, as Kafka's coordinator decides it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::ErrorCode;

use super::advance::advance_or_wait;
use super::state::bump_epoch;
use super::subscriptions::{subscribed, update_topics};
use crate::commands::{Advance, Applied, ConsumerHeartbeat, LEAVE_STATIC_EPOCH, Refused, ResolvedRegex};
use crate::documents::{MemberDocument, MemberState, Partitions, each, holds};
use crate::groups::group::{Group, unknown_member};

pub(in crate::groups) fn heartbeat(
    group: &mut Group<'_>,
    heartbeat: &ConsumerHeartbeat,
) -> Result<Applied, Refused> {
    let id = &heartbeat.member_id;
    if group.member(id).is_none() && group.count() >= heartbeat.members_max {
        return Err(Refused::from(ErrorCode::GroupMaxSizeReached));
    }
    find_or_add(group, heartbeat)?;
    let regexes_changed = update_regexes(group, heartbeat);
    let subscription_changed = update_member(group, heartbeat);
    // A new member that subscribes to nothing changes nothing for the others.
    let names_changed = regexes_changed || subscription_changed;
    let may_change_topics = names_changed || !heartbeat.topics_are_current;
    let topics_changed =
        may_change_topics && update_topics(group, &heartbeat.known_topics, heartbeat.topics_are_current);
    if names_changed || topics_changed {
        bump_epoch(group);
    }
    let own = group.consumer(id).ok_or_else(unknown_member)?;
    let advance = Advance {
        member_id: Arc::clone(id),
        member_epoch: own.epoch,
        owned: heartbeat.owned.clone(),
        is_full: heartbeat.is_full(),
        awaited_epoch: group.group_epoch(),
        waits_for_target: true,
        now_ms: heartbeat.now_ms,
    };
    advance_or_wait(group, advance)
}

/// Finds or adds the member.
fn find_or_add(group: &mut Group<'_>, heartbeat: &ConsumerHeartbeat) -> Result<(), Refused> {
    let id = &heartbeat.member_id;
    let Some(instance) = &heartbeat.instance_id else {
        return match group.member(id) {
            Some(_) => check_epoch(group, heartbeat),
            None if heartbeat.joins() => {
                add(group, heartbeat);
                Ok(())
            }
            None => Err(unknown_member()),
        };
    };
    match group.id_of_instance(instance) {
        None if heartbeat.joins() && group.member(id).is_none() => {
            add(group, heartbeat);
            Ok(())
        }
        None if heartbeat.joins() => check_epoch(group, heartbeat),
        None => Err(unknown_member()),
        Some(old) if heartbeat.joins() => rejoin_static(group, heartbeat, &old),
        Some(old) if old != *id => Err(Refused::from(ErrorCode::FencedInstanceId)),
        Some(_) => check_epoch(group, heartbeat),
    }
}

fn add(group: &mut Group<'_>, heartbeat: &ConsumerHeartbeat) {
    let document = MemberDocument {
        order: 0,
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
    group.add(&heartbeat.member_id, document);
}

/// A static member keeps its assignment if it rejoins after it left temporarily, or after it was a classic
/// member, or because it was not answered. An active member is not replaced by another process, and two members are
/// never merged into one.
fn rejoin_static(
    group: &mut Group<'_>,
    heartbeat: &ConsumerHeartbeat,
    old: &Arc<str>,
) -> Result<(), Refused> {
    let id = &heartbeat.member_id;
    let has_epoch = |epoch| group.consumer(old).is_some_and(|own| own.epoch == epoch);
    // A process makes up its member id when it starts, so this is the same one, which did not get its answer. Kafka lets
    // a dynamic member ask again and refuses a static one until its session times out, which its client takes as fatal.
    let is_again = old == id;
    let is_released = has_epoch(LEAVE_STATIC_EPOCH)
        || is_again
        || group.member(old).is_some_and(MemberDocument::is_classic);
    if !is_released || (old != id && group.member(id).is_some()) {
        return Err(Refused::from(ErrorCode::UnreleasedInstanceId));
    }
    replace(group, old, id);
    group.change(id, |member| {
        member.lease_ms = heartbeat.now_ms + i64::from(heartbeat.session_timeout_ms);
    });
    Ok(())
}

/// Gives a static member a new member id. It restarts at member epoch 0 with its assignment.
pub(super) fn replace(group: &mut Group<'_>, old: &Arc<str>, new: &Arc<str>) {
    group.rename(old, new);
    group.change_consumer(new, |own| {
        (own.epoch, own.previous_epoch, own.due_ms) = (0, 0, None);
        own.state = MemberState::Stable;
        own.revoking = Arc::default();
    });
}

/// A member may send its previous member epoch if it missed the reply with the next one. It must then own
/// only partitions that are assigned to it. It may always join again, as it then owns none.
fn check_epoch(group: &Group<'_>, heartbeat: &ConsumerHeartbeat) -> Result<(), Refused> {
    let own = group.consumer(&heartbeat.member_id).ok_or_else(unknown_member)?;
    let sent_epoch = heartbeat.member_epoch;
    let owns_only_assigned =
        |owned: &Partitions| each(owned).all(|(topic, at)| holds(&own.assigned, topic, at));
    let missed_reply =
        sent_epoch == own.previous_epoch && heartbeat.owned.as_ref().is_some_and(owns_only_assigned);
    if heartbeat.joins() || sent_epoch == own.epoch || (sent_epoch < own.epoch && missed_reply) {
        return Ok(());
    }
    Err(Refused::from(ErrorCode::FencedMemberEpoch))
}

/// Updates what the group's regular expressions match. Returns whether one matches other topics than before.
fn update_regexes(group: &mut Group<'_>, heartbeat: &ConsumerHeartbeat) -> bool {
    let mut is_changed = false;
    for ResolvedRegex { regex, topics } in &heartbeat.resolved_regexes {
        group.load_topics();
        if group.topics().regexes.get(regex) != Some(topics) {
            // If no member has it yet, the one that sends it is the one whose subscription changes.
            is_changed |= group.topics().by_regex.contains_key(regex);
            group.change_topics(|own| {
                Arc::make_mut(own).regexes.insert(Arc::clone(regex), topics.clone());
            });
        }
    }
    is_changed
}

/// Updates the member from its heartbeat. Returns whether its subscription has changed.
fn update_member(group: &mut Group<'_>, heartbeat: &ConsumerHeartbeat) -> bool {
    let id = &heartbeat.member_id;
    if heartbeat.topics.is_some() || heartbeat.regex.is_some() {
        // Only then the expressions before and after may differ.
        group.load_topics();
    }
    let before = subscriptions(group, id);
    group.change(id, |member| {
        // It may have been a classic member before.
        member.protocols.clear();
        member.assignment = Default::default();
        member.has_synced = true;
        member.session_timeout_ms = heartbeat.session_timeout_ms;
        member.client_id = Arc::clone(&heartbeat.client_id);
        member.client_host = Arc::clone(&heartbeat.client_host);
        member.instance_id = heartbeat.instance_id.clone().or(member.instance_id.take());
        member.rebalance_timeout_ms = heartbeat.rebalance_timeout_ms.unwrap_or(member.rebalance_timeout_ms);
    });
    group.change_consumer(id, |own| {
        own.rack = heartbeat.rack.clone().or(own.rack.take());
        own.assignor = heartbeat.assignor.clone().or(own.assignor.take());
        if let Some(topics) = &heartbeat.topics {
            own.topics.clone_from(topics);
        }
        if let Some(regex) = &heartbeat.regex {
            own.regex = Some(Arc::clone(regex)).filter(|regex| !regex.is_empty());
        }
    });
    subscriptions(group, id) != before
}

fn subscriptions(group: &Group<'_>, id: &str) -> Option<BTreeSet<Arc<str>>> {
    Some(subscribed(group.topics(), group.member(id)?))
}
