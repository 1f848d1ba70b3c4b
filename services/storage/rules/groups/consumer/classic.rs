//! Members of the classic protocol in a group of the consumer protocol, while an application is migrated
//! (KIP-848).
//!
//! Such a member joins, syncs and heartbeats as usual. The broker computes its assignment, and tells it to
//! rejoin (REBALANCE_IN_PROGRESS) when it must revoke partitions or may get more.

use std::sync::Arc;

use kernel::ErrorCode;
use kernel::consumer_protocol::ConsumerSubscription;

use super::classic_assignment::classic_assignment;
use super::heartbeat::{advance, is_taken, replace};
use super::leave::fence;
use super::migrate;
use super::state::{bump_epoch, settle};
use super::subscriptions::{subscribed, update_topics};
use super::target_assignment::update_targets;
use crate::commands::{Join, Joined, KnownTopics, LeftMember, MemberIdentity, Refused, Sync, Synced};
use crate::documents::{
    ConsumerMember, MemberDocument, MemberProtocol, MemberState, Partitions, each, holds,
};
use crate::groups::group::{Group, unknown_member};
use crate::groups::join as classic_join;
use crate::groups::protocols::{self, CONSUMER};
use crate::groups::view::GroupView;

/// JoinGroup.
pub(in crate::groups) fn join(group: &mut Group, join: &Join) -> Result<Joined, Refused> {
    let is_known = group.member(&join.member.id).is_some();
    if !is_known && group.count() >= join.members_max {
        return Err(Refused::from(ErrorCode::GroupMaxSizeReached));
    }
    let subscription = check_protocols(group, join)?;
    let has_no_id = join.member.id.is_empty();
    if has_no_id && join.member.instance_id.is_none() && join.requires_known_id {
        return Ok(Joined::IdRequired(Arc::clone(&join.fresh_id)));
    }
    let id = if has_no_id { &join.fresh_id } else { &join.member.id };
    let (id, is_new) = (Arc::clone(id), find_or_add(group, join, id)?);
    let subscription_changed = update_member(group, join, &id);
    if migrate::is_all_classic(group) {
        // It was the last member of the consumer protocol before it rejoined.
        migrate::downgrade(group, join.now_ms);
        let member = MemberIdentity { id, ..join.member.clone() };
        return classic_join::join(group, &Join { member, ..join.clone() });
    }
    if update_topics(group, &join.known_topics) | is_new | subscription_changed {
        bump_epoch(group);
    }
    update_targets(group);
    advance(group, &id, Some(&owned(&join.known_topics, &subscription)));
    settle(group, join.now_ms);
    let epoch = group.consumer(&id).ok_or_else(unknown_member)?.epoch;
    let protocol = join.protocols.first().map(|own| Arc::clone(&own.name)).unwrap_or_default();
    Ok(Joined::ByBroker { member: id, epoch, protocol })
}

/// Checks that it is a consumer and shares an assignor with the group's other classic members.
fn check_protocols(group: &Group, join: &Join) -> Result<ConsumerSubscription, Refused> {
    let inconsistent = || Refused::from(ErrorCode::InconsistentGroupProtocol);
    let others = || group.members().filter(|(id, member)| member.is_classic() && **id != join.member.id);
    let is_shared = |own: &MemberProtocol| others().all(|(_, other)| other.metadata(&own.name).is_some());
    if &*join.protocol_type != CONSUMER || !join.protocols.iter().any(is_shared) {
        return Err(inconsistent());
    }
    protocols::subscription(&join.protocols).ok_or_else(inconsistent)
}

fn find_or_add(group: &mut Group, join: &Join, id: &Arc<str>) -> Result<bool, Refused> {
    let is_member = group.member(id).is_some();
    match join.member.instance_id.as_ref().map(|instance| group.id_of_instance(instance).cloned()) {
        None if is_member => Ok(false),
        Some(Some(old)) if old == *id => Ok(false),
        Some(Some(old)) if join.member.id.is_empty() => {
            replace(group, &old, id);
            Ok(false)
        }
        Some(Some(_)) => Err(Refused::from(ErrorCode::FencedInstanceId)),
        Some(None) if !join.member.id.is_empty() => Err(unknown_member()),
        None | Some(None) => {
            let consumer = Some(Box::default());
            group.add(
                Arc::clone(id),
                MemberDocument { has_joined: false, consumer, ..classic_join::new_member(join) },
            );
            Ok(true)
        }
    }
}

/// Updates the member from its JoinGroup. Returns whether its subscription has changed.
fn update_member(group: &mut Group, join: &Join, id: &str) -> bool {
    let subscriptions =
        |group: &Group| Some(subscribed(group.document.consumer.as_deref()?, group.member(id)?));
    let before = subscriptions(group);
    if let Some(member) = group.member_mut(id) {
        *member = MemberDocument {
            has_joined: false,
            consumer: member.consumer.take(),
            ..classic_join::new_member(join)
        };
    }
    if let Some(own) = group.consumer_mut(id) {
        (own.topics, own.regex, own.due_ms) = (Default::default(), None, None);
    }
    subscriptions(group) != before
}

fn owned(known: &KnownTopics, subscription: &ConsumerSubscription) -> Partitions {
    let id = |name: &Arc<str>| known.get(name).map(|topic| topic.id);
    let owned = subscription.owned.iter();
    owned.filter_map(|(name, partitions)| Some((id(name)?, partitions.clone()))).collect()
}

/// SyncGroup.
pub(in crate::groups) fn sync(group: &mut Group, sync: &Sync) -> Result<Synced, Refused> {
    group.check_member(&sync.member)?;
    let member = group.member(&sync.member.id).filter(|member| member.is_classic());
    let (member, own) = with_consumer(member).ok_or_else(unknown_member)?;
    if sync.member.generation != own.epoch {
        return Err(Refused::from(ErrorCode::IllegalGeneration));
    }
    let differs = |said: &Option<Arc<str>>, is: &str| said.as_deref().is_some_and(|said| said != is);
    let first = member.protocols.first().ok_or_else(unknown_member)?;
    if differs(&sync.protocol_type, CONSUMER) || differs(&sync.protocol, &first.name) {
        return Err(Refused::from(ErrorCode::InconsistentGroupProtocol));
    }
    if own.epoch < group.group_epoch() && own.state != MemberState::Revoking {
        return Err(Refused::from(ErrorCode::RebalanceInProgress));
    }
    let assignment = classic_assignment(&group.document, member, &own.assigned);
    let protocol = Arc::clone(&first.name);
    if let Some(member) = group.member_mut(&sync.member.id) {
        member.has_synced = true;
    }
    settle(group, sync.now_ms);
    Ok(Synced::ByBroker { assignment, protocol })
}

fn with_consumer(member: Option<&MemberDocument>) -> Option<(&MemberDocument, &ConsumerMember)> {
    member.and_then(|member| Some((member, member.consumer.as_deref()?)))
}

/// Heartbeat: whether a classic member of a group of the consumer protocol must rejoin. Changes nothing.
pub fn must_join_again(view: &GroupView, id: &Arc<str>) -> bool {
    let group = Group::of_view(view);
    let Some(own) = group.consumer(id) else { return false };
    let is_released = |(topic, at)| !is_taken(&group, id, topic, at);
    let can_get_more = || {
        let mut missing = each(&own.target).filter(|(topic, at)| !holds(&own.assigned, *topic, *at));
        own.state == MemberState::Waiting && missing.all(is_released)
    };
    own.epoch < group.group_epoch() || own.state == MemberState::Revoking || can_get_more()
}

/// LeaveGroup. An admin removes members of either protocol with it.
pub(in crate::groups) fn leave(
    group: &mut Group,
    members: &[MemberIdentity],
    now_ms: i64,
) -> Vec<LeftMember> {
    let mut leaving = Vec::new();
    let mut one = |member: &MemberIdentity| {
        let id = group.leaving_member(member)?;
        if leaving.contains(&id) {
            return Err(ErrorCode::UnknownMemberId);
        }
        leaving.push(id);
        Ok(())
    };
    let left = members.iter().map(&mut one).collect();
    fence(group, &leaving, now_ms);
    left
}
