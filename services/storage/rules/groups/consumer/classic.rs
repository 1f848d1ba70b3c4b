//! Members of the classic protocol in a group of the consumer protocol, while an application is migrated
//! (KIP-848).
//!
//! Such a member joins, syncs and heartbeats as usual. The broker computes its assignment, and tells it to
//! rejoin (REBALANCE_IN_PROGRESS) when it must revoke partitions or may get more.

use std::sync::Arc;

use kernel::consumer_protocol::ConsumerSubscription;
use kernel::{ErrorCode, TopicId};

use super::advance::advance_or_wait;
use super::classic_assignment::classic_assignment;
use super::heartbeat::replace;
use super::leave::fence;
use super::migrate;
use super::state::{bump_epoch, settle};
use super::subscriptions::{subscribed, update_topics};
use crate::commands::{
    Advance, Applied, HeartbeatReply, Join, Joined, KnownTopics, LeftMember, MemberIdentity, Refused, Sync,
    Synced,
};
use crate::documents::{
    ConsumerMember, GroupDocument, MemberDocument, MemberProtocol, MemberState, Partitions, each, holds,
};
use crate::groups::group::{Group, unknown_member};
use crate::groups::join as classic_join;
use crate::groups::protocols::{self, CONSUMER};

/// JoinGroup.
pub(in crate::groups) fn join(group: &mut Group<'_>, join: &Join) -> Result<Applied, Refused> {
    let is_known = group.member(&join.member.id).is_some();
    if !is_known && group.count() >= join.members_max {
        return Err(Refused::from(ErrorCode::GroupMaxSizeReached));
    }
    let subscription = check_protocols(group, join)?;
    let has_no_id = join.member.id.is_empty();
    if has_no_id && join.member.instance_id.is_none() && join.requires_known_id {
        return Ok(Applied::Joined(Joined::IdRequired(Arc::clone(&join.fresh_id))));
    }
    let id = if has_no_id { &join.fresh_id } else { &join.member.id };
    let (id, is_new) = (Arc::clone(id), find_or_add(group, join, id)?);
    let subscription_changed = update_member(group, join, &id);
    if migrate::is_all_classic(group) {
        // It was the last member of the consumer protocol before it rejoined.
        migrate::downgrade(group, join.now_ms);
        let member = MemberIdentity { id, ..join.member.clone() };
        let joined = classic_join::join(group, &Join { member, ..join.clone() });
        return joined.map(Applied::Joined);
    }
    if update_topics(group, &join.known_topics, false) | is_new | subscription_changed {
        bump_epoch(group);
    }
    let advance = Advance {
        member_epoch: group.consumer(&id).ok_or_else(unknown_member)?.epoch,
        member_id: id,
        owned: Some(owned(&join.known_topics, &subscription)),
        is_full: false,
        awaited_epoch: group.group_epoch(),
        waits_for_target: true,
        now_ms: join.now_ms,
    };
    let member = Arc::clone(&advance.member_id);
    let protocol = join.protocols.first().map(|own| Arc::clone(&own.name)).unwrap_or_default();
    Ok(match advance_or_wait(group, advance)? {
        Applied::Heartbeat(HeartbeatReply { member_epoch: epoch, .. }) => {
            Applied::Joined(Joined::ByBroker { member, epoch, protocol })
        }
        due => due,
    })
}

/// Checks that it is a consumer and shares an assignor with the group's other classic members.
fn check_protocols(group: &Group<'_>, join: &Join) -> Result<ConsumerSubscription, Refused> {
    let inconsistent = || Refused::from(ErrorCode::InconsistentGroupProtocol);
    let own = group.member(&join.member.id).filter(|own| own.is_classic());
    let tally = group.tally();
    let others = tally.classic.saturating_sub(u32::from(own.is_some()));
    let supports = |name: &str| own.is_some_and(|own| own.metadata(name).is_some());
    let is_shared = |protocol: &MemberProtocol| {
        let all = tally.protocols.get(&protocol.name).copied().unwrap_or(0);
        all.saturating_sub(u32::from(supports(&protocol.name))) == others
    };
    if &*join.protocol_type != CONSUMER || !join.protocols.iter().any(is_shared) {
        return Err(inconsistent());
    }
    protocols::subscription(&join.protocols).ok_or_else(inconsistent)
}

fn find_or_add(group: &mut Group<'_>, join: &Join, id: &Arc<str>) -> Result<bool, Refused> {
    let is_member = group.member(id).is_some();
    match join.member.instance_id.as_ref().map(|instance| group.id_of_instance(instance)) {
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
            group.add(id, MemberDocument { has_joined: false, consumer, ..classic_join::new_member(join) });
            Ok(true)
        }
    }
}

/// Updates the member from its JoinGroup. Returns whether its subscription has changed.
fn update_member(group: &mut Group<'_>, join: &Join, id: &Arc<str>) -> bool {
    let subscriptions = |group: &Group<'_>| Some(subscribed(group.topics(), group.member(id)?));
    group.load_topics();
    let before = subscriptions(group);
    group.change(id, |member| {
        let (order, mut consumer) = (member.order, member.consumer.take());
        if let Some(own) = &mut consumer {
            (own.topics, own.regex, own.due_ms) = (Default::default(), None, None);
        }
        *member = MemberDocument { order, has_joined: false, consumer, ..classic_join::new_member(join) };
    });
    subscriptions(group) != before
}

fn owned(known: &KnownTopics, subscription: &ConsumerSubscription) -> Partitions {
    let id = |name: &Arc<str>| known.get(name).map(|topic| topic.id);
    let owned = subscription.owned.iter();
    owned.filter_map(|(name, partitions)| Some((id(name)?, partitions.clone()))).collect()
}

/// SyncGroup.
pub(in crate::groups) fn sync(group: &mut Group<'_>, sync: &Sync) -> Result<Synced, Refused> {
    group.check_member(&sync.member)?;
    group.load_topics();
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
    let assignment = classic_assignment(group.topics(), member, &own.assigned);
    let protocol = Arc::clone(&first.name);
    group.change(&sync.member.id, |member| member.has_synced = true);
    settle(group, sync.now_ms);
    Ok(Synced::ByBroker { assignment, protocol })
}

fn with_consumer(member: Option<&MemberDocument>) -> Option<(&MemberDocument, &ConsumerMember)> {
    member.and_then(|member| Some((member, member.consumer.as_deref()?)))
}

/// The partitions that a member waits for: other members have not released all of them.
pub fn awaited(member: &MemberDocument) -> Vec<(TopicId, i32)> {
    let own = member.consumer.as_deref().filter(|own| own.state == MemberState::Waiting);
    let missing = own
        .into_iter()
        .flat_map(|own| each(&own.target).filter(move |(topic, at)| !holds(&own.assigned, *topic, *at)));
    missing.collect()
}

/// Heartbeat: whether a classic member of a group of the consumer protocol must rejoin. `are_released` tells whether no
/// other member has any of the partitions that it waits for ([`awaited`]).
pub fn must_join_again(group: &GroupDocument, member: &MemberDocument, are_released: bool) -> bool {
    let Some(own) = &member.consumer else { return false };
    own.epoch < group.generation
        || own.state == MemberState::Revoking
        || (own.state == MemberState::Waiting && are_released)
}

/// LeaveGroup. An admin removes members of either protocol with it.
pub(in crate::groups) fn leave(
    group: &mut Group<'_>,
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
