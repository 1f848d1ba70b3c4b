//! Members of the classic protocol in a group of the consumer protocol, while an application is moved over (KIP-848).
//!
//! Such a member joins, syncs and heartbeats as ever; the broker assigns to it as to the others, and tells it to join
//! again (REBALANCE_IN_PROGRESS) whenever it is to let partitions go or may have more.

use std::sync::Arc;

use bytes::Bytes;
use kernel::ErrorCode;
use kernel::consumer_protocol::{Subscription, version, write_assignment};

use super::documents::{ConsumerMember, MemberState, Partitions, each, holds};
use super::heartbeat::{is_taken, move_on, replace};
use super::leave::fence;
use super::subscribe::{refresh, retarget, subscribed};
use super::{bump, migrate, settle};
use crate::rules::command::Refused;
use crate::rules::groups::change::{Join, Joined, LeftMember, Member, Sync, Synced};
use crate::rules::groups::documents::{GroupDocument, MemberDocument, MemberProtocol};
use crate::rules::groups::join::document;
use crate::rules::groups::party::{Party, refused, unknown_member};
use crate::rules::groups::protocols::{self, CONSUMER};
use crate::rules::working_set::WorkingSet;

/// JoinGroup.
pub(in crate::rules::groups) fn join(
    party: &mut Party,
    set: &WorkingSet<'_>,
    join: &Join,
) -> Result<Joined, Refused> {
    let is_known = party.member(&join.member.id).is_some();
    if !is_known && party.count() >= join.members_max {
        return Err(refused(ErrorCode::GroupMaxSizeReached));
    }
    let subscription = check_protocols(party, join)?;
    let is_newcomer = join.member.id.is_empty();
    if is_newcomer && join.member.instance_id.is_none() && join.requires_known_id {
        return Ok(Joined::IdRequired(Arc::clone(&join.fresh_id)));
    }
    let id = if is_newcomer { &join.fresh_id } else { &join.member.id };
    let (id, is_new) = (Arc::clone(id), take_seat(party, join, id)?);
    let subscribes_anew = take_in(party, join, &id);
    if migrate::is_all_classic(party) {
        // The last of the consumer protocol was this one, before it came back.
        migrate::downgrade(party, join.now_ms);
        let member = Member { id, ..join.member.clone() };
        return super::super::join::join(party, Join { member, ..join.clone() });
    }
    if refresh(party, set) | is_new | subscribes_anew {
        bump(party);
    }
    retarget(party);
    move_on(party, &id, Some(&owned(set, &subscription)));
    settle(party, join.now_ms);
    let epoch = party.consumer(&id).ok_or_else(unknown_member)?.epoch;
    let protocol = join.protocols.first().map(|own| Arc::clone(&own.name)).unwrap_or_default();
    Ok(Joined::ByBroker { member: id, epoch, protocol })
}

/// A consumer that this group's other classic members have an assignor in common with.
fn check_protocols(party: &Party, join: &Join) -> Result<Subscription, Refused> {
    let inconsistent = || refused(ErrorCode::InconsistentGroupProtocol);
    let others = || party.members().filter(|(id, member)| member.is_classic() && **id != join.member.id);
    let suits = |own: &MemberProtocol| others().all(|(_, other)| other.metadata(&own.name).is_some());
    if &*join.protocol_type != CONSUMER || !join.protocols.iter().any(suits) {
        return Err(inconsistent());
    }
    protocols::subscription(&join.protocols).ok_or_else(inconsistent)
}

fn take_seat(party: &mut Party, join: &Join, id: &Arc<str>) -> Result<bool, Refused> {
    let is_there = party.member(id).is_some();
    match join.member.instance_id.as_ref().map(|instance| party.id_of_instance(instance).cloned()) {
        None if is_there => Ok(false),
        Some(Some(old)) if old == *id => Ok(false),
        Some(Some(old)) if join.member.id.is_empty() => {
            replace(party, &old, id);
            Ok(false)
        }
        Some(Some(_)) => Err(refused(ErrorCode::FencedInstanceId)),
        Some(None) if !join.member.id.is_empty() => Err(unknown_member()),
        None | Some(None) => {
            let consumer = Some(Box::default());
            party.add(Arc::clone(id), MemberDocument { has_joined: false, consumer, ..document(join) });
            Ok(true)
        }
    }
}

/// What the member says of itself. Says whether it subscribes to other topics than before.
fn take_in(party: &mut Party, join: &Join, id: &str) -> bool {
    let subscriptions = |party: &Party| Some(subscribed(party.group.consumer.as_deref()?, party.member(id)?));
    let before = subscriptions(party);
    if let Some(member) = party.member_mut(id) {
        *member = MemberDocument { has_joined: false, consumer: member.consumer.take(), ..document(join) };
    }
    if let Some(own) = party.consumer_mut(id) {
        (own.topics, own.regex, own.due_ms) = (Default::default(), None, None);
    }
    subscriptions(party) != before
}

fn owned(set: &WorkingSet<'_>, subscription: &Subscription) -> Partitions {
    let id = |name: &Arc<str>| set.topic(name).map(|topic| topic.id);
    let owned = subscription.owned.iter();
    owned.filter_map(|(name, partitions)| Some((id(name)?, partitions.clone()))).collect()
}

/// SyncGroup.
pub(in crate::rules::groups) fn sync(party: &mut Party, sync: &Sync) -> Result<Synced, Refused> {
    party.check_member(&sync.member)?;
    let member = party.member(&sync.member.id).filter(|member| member.is_classic());
    let (member, own) = with_consumer(member).ok_or_else(unknown_member)?;
    if sync.member.generation != own.epoch {
        return Err(refused(ErrorCode::IllegalGeneration));
    }
    let differs = |said: &Option<Arc<str>>, is: &str| said.as_deref().is_some_and(|said| said != is);
    let first = member.protocols.first().ok_or_else(unknown_member)?;
    if differs(&sync.protocol_type, CONSUMER) || differs(&sync.protocol, &first.name) {
        return Err(refused(ErrorCode::InconsistentGroupProtocol));
    }
    if own.epoch < party.group.generation && own.state != MemberState::Revoking {
        return Err(refused(ErrorCode::RebalanceInProgress));
    }
    let assignment = written(&party.group, member, &own.assigned);
    let protocol = Arc::clone(&first.name);
    if let Some(member) = party.member_mut(&sync.member.id) {
        member.has_synced = true;
    }
    settle(party, sync.now_ms);
    Ok(Synced::ByBroker { assignment, protocol })
}

fn with_consumer(member: Option<&MemberDocument>) -> Option<(&MemberDocument, &ConsumerMember)> {
    member.and_then(|member| Some((member, member.consumer.as_deref()?)))
}

/// Partitions as a member's protocol says them.
pub(super) fn written(group: &GroupDocument, member: &MemberDocument, partitions: &Partitions) -> Bytes {
    let named = partitions.iter().filter_map(|(topic, of_topic)| {
        let name = group.consumer.as_ref()?.topic_name(*topic)?;
        Some((Arc::clone(name), of_topic.clone()))
    });
    let version = member.protocols.first().map_or(0, |own| version(&own.metadata.0));
    write_assignment(version, &named.collect())
}

/// Heartbeat: whether the member is to join again. Changes nothing.
pub(in crate::rules::groups) fn must_join_again(party: &Party, id: &Arc<str>) -> bool {
    let Some(own) = party.consumer(id) else { return false };
    let is_free = |(topic, at)| !is_taken(party, id, topic, at);
    let may_have_more = || {
        let mut missing = each(&own.target).filter(|(topic, at)| !holds(&own.assigned, *topic, *at));
        own.state == MemberState::Waiting && missing.all(is_free)
    };
    own.epoch < party.group.generation || own.state == MemberState::Revoking || may_have_more()
}

/// LeaveGroup; an admin takes members of either protocol out by it.
pub(in crate::rules::groups) fn leave(party: &mut Party, members: &[Member], now_ms: i64) -> Vec<LeftMember> {
    let mut gone = Vec::new();
    let mut one = |member: &Member| {
        let id = party.leaver(member)?;
        if gone.contains(&id) {
            return Err(ErrorCode::UnknownMemberId);
        }
        gone.push(id);
        Ok(())
    };
    let left = members.iter().map(&mut one).collect();
    fence(party, &gone, now_ms);
    left
}
