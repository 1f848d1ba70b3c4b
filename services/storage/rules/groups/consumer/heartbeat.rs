//! ConsumerGroupHeartbeat, as Kafka's coordinator decides it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{ErrorCode, TopicId};

use super::documents::{ConsumerMember, MemberState, Partitions, each, holds};
use super::reconcile::reconcile;
use super::subscribe::{refresh, retarget, subscribed};
use super::{bump, settle};
use crate::rules::command::Refused;
use crate::rules::groups::change::Member;
use crate::rules::groups::documents::MemberDocument;
use crate::rules::groups::party::{Party, refused, unknown_member};
use crate::rules::working_set::WorkingSet;

/// A static member that has gone for a while, and is expected back (KIP-848).
pub(super) const AWAY: i32 = -2;

/// A heartbeat of a member that joins, or goes on. What is `None` is as it was.
#[derive(Debug, Clone)]
pub struct Beat {
    /// Who; the generation is the epoch that it has come to, 0 to join.
    pub member: Member,
    /// What the client calls itself.
    pub client_id: Arc<str>,
    /// Where it is.
    pub client_host: Arc<str>,
    /// The rack that it is in.
    pub rack: Option<Arc<str>>,
    /// How long it may take to let partitions go.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topics that it subscribes to by name.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// The regular expression that it subscribes to; empty for none.
    pub regex: Option<Arc<str>>,
    /// What its regular expression, said now or before, matches.
    pub matches: Option<Matches>,
    /// The assignor that it votes for.
    pub assignor: Option<Arc<str>>,
    /// What it holds.
    pub owned: Option<Partitions>,
    /// It is gone if nothing is heard of it for so long.
    pub session_timeout_ms: i32,
    /// How many members a group may have.
    pub members_max: usize,
    /// The time, in ms.
    pub now_ms: i64,
}

/// A regular expression, and the topics that fit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matches {
    /// As the member wrote it.
    pub regex: Arc<str>,
    /// The topics.
    pub topics: BTreeSet<Arc<str>>,
}

impl Beat {
    fn joins(&self) -> bool {
        self.member.generation == 0
    }

    /// A member that says everything is told everything.
    fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.regex.is_some();
        self.joins() || (self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some())
    }
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beaten {
    /// The epoch that it has come to.
    pub epoch: i32,
    /// What it may read, if it is to be told.
    pub assignment: Option<Partitions>,
}

pub(in crate::rules::groups) fn heartbeat(
    party: &mut Party,
    set: &WorkingSet<'_>,
    beat: &Beat,
) -> Result<Beaten, Refused> {
    let is_known = party.member(&beat.member.id).is_some();
    if !is_known && party.count() >= beat.members_max {
        return Err(refused(ErrorCode::GroupMaxSizeReached));
    }
    let is_new = take_seat(party, beat)?;
    let id = Arc::clone(&beat.member.id);
    let assigned_before = party.consumer(&id).map(|own| own.assigned.clone()).unwrap_or_default();
    let subscribes_anew = take_in(party, beat);
    let topics_changed = refresh(party, set);
    if is_new || subscribes_anew || topics_changed {
        bump(party);
    }
    retarget(party);
    move_on(party, &id, beat.owned.as_ref());
    settle(party, beat.now_ms);
    let own = party.consumer(&id).ok_or_else(unknown_member)?;
    let is_told = beat.is_full() || own.assigned != assigned_before;
    Ok(Beaten { epoch: own.epoch, assignment: is_told.then(|| own.assigned.clone()) })
}

/// Finds the member, or lets it in. Says whether it is new.
fn take_seat(party: &mut Party, beat: &Beat) -> Result<bool, Refused> {
    let id = &beat.member.id;
    let Some(instance) = &beat.member.instance_id else {
        return match party.member(id) {
            Some(_) => check_epoch(party, beat).map(|()| false),
            None if beat.joins() => Ok(add(party, beat)),
            None => Err(unknown_member()),
        };
    };
    match party.id_of_instance(instance).cloned() {
        None if beat.joins() && party.member(id).is_none() => Ok(add(party, beat)),
        None if beat.joins() => check_epoch(party, beat).map(|()| false),
        None => Err(unknown_member()),
        Some(old) if beat.joins() => come_back(party, beat, &old).map(|()| false),
        Some(old) if old != *id => Err(refused(ErrorCode::FencedInstanceId)),
        Some(_) => check_epoch(party, beat).map(|()| false),
    }
}

fn add(party: &mut Party, beat: &Beat) -> bool {
    let document = MemberDocument {
        instance_id: beat.member.instance_id.clone(),
        client_id: Arc::clone(&beat.client_id),
        client_host: Arc::clone(&beat.client_host),
        session_timeout_ms: beat.session_timeout_ms,
        rebalance_timeout_ms: beat.rebalance_timeout_ms.unwrap_or_default(),
        protocols: Vec::new(),
        assignment: Default::default(),
        has_joined: false,
        has_synced: true,
        lease_ms: beat.now_ms + i64::from(beat.session_timeout_ms),
        consumer: Some(Box::default()),
    };
    party.add(Arc::clone(&beat.member.id), document);
    true
}

/// A static member that went for a while has what it had, and so has one that comes back with this protocol after it has
/// been there with the classic one. One that is still there is not replaced, nor does it become two members in one.
fn come_back(party: &mut Party, beat: &Beat, old: &Arc<str>) -> Result<(), Refused> {
    let id = &beat.member.id;
    let is_away = party.consumer(old).is_some_and(|own| own.epoch == AWAY);
    let is_free = is_away || party.member(old).is_some_and(MemberDocument::is_classic);
    if !is_free || (old != id && party.member(id).is_some()) {
        return Err(refused(ErrorCode::UnreleasedInstanceId));
    }
    replace(party, old, id);
    if let Some(member) = party.member_mut(id) {
        member.lease_ms = beat.now_ms + i64::from(beat.session_timeout_ms);
    }
    Ok(())
}

/// Gives a static member another id; it begins anew with what it had.
pub(super) fn replace(party: &mut Party, old: &Arc<str>, new: &Arc<str>) {
    party.rename(old, new);
    if let Some(own) = party.consumer_mut(new) {
        (own.epoch, own.previous_epoch, own.due_ms) = (0, 0, None);
        own.state = MemberState::Stable;
        own.revoking.clear();
    }
}

/// A member may be one epoch behind if it did not get the answer that told it of the next; then it holds nothing that
/// it should not.
fn check_epoch(party: &Party, beat: &Beat) -> Result<(), Refused> {
    let own = party.consumer(&beat.member.id).ok_or_else(unknown_member)?;
    let said = beat.member.generation;
    let owns_no_more = |owned: &Partitions| each(owned).all(|(topic, at)| holds(&own.assigned, topic, at));
    let missed_answer = said == own.previous_epoch && beat.owned.as_ref().is_some_and(owns_no_more);
    if said == own.epoch || (said < own.epoch && missed_answer) {
        return Ok(());
    }
    Err(refused(ErrorCode::FencedMemberEpoch))
}

/// What the member says of itself. Says whether it subscribes to other topics than before.
fn take_in(party: &mut Party, beat: &Beat) -> bool {
    let id = &beat.member.id;
    let before = subscriptions(party, id);
    if let Some(matches) = &beat.matches
        && let Some(group) = party.group.consumer.as_mut().map(Arc::make_mut)
    {
        group.regexes.insert(Arc::clone(&matches.regex), matches.topics.clone());
    }
    if let Some(member) = party.member_mut(id) {
        // A member that came by the classic protocol has been moved over.
        member.protocols.clear();
        member.assignment = Default::default();
        member.has_synced = true;
        member.session_timeout_ms = beat.session_timeout_ms;
        member.client_id = Arc::clone(&beat.client_id);
        member.client_host = Arc::clone(&beat.client_host);
        member.instance_id = beat.member.instance_id.clone().or(member.instance_id.take());
        member.rebalance_timeout_ms = beat.rebalance_timeout_ms.unwrap_or(member.rebalance_timeout_ms);
    }
    if let Some(own) = party.consumer_mut(id) {
        own.rack = beat.rack.clone().or(own.rack.take());
        own.assignor = beat.assignor.clone().or(own.assignor.take());
        if let Some(topics) = &beat.topics {
            own.topics.clone_from(topics);
        }
        if let Some(regex) = &beat.regex {
            own.regex = Some(Arc::clone(regex)).filter(|regex| !regex.is_empty());
        }
    }
    subscriptions(party, id) != before
}

fn subscriptions(party: &Party, id: &str) -> Option<BTreeSet<Arc<str>>> {
    Some(subscribed(party.group.consumer.as_deref()?, party.member(id)?))
}

/// The member's next step towards its target.
pub(super) fn move_on(party: &mut Party, id: &Arc<str>, owned: Option<&Partitions>) {
    let (Some(group), Some(own)) = (&party.group.consumer, party.consumer(id)) else { return };
    let target_epoch = group.assignment_epoch;
    let mut next = own.clone();
    let is_taken = |topic: TopicId, at: i32| is_taken(party, id, topic, at);
    reconcile(&mut next, target_epoch, owned, is_taken);
    let is_same_step = next.state == MemberState::Revoking && next.revoking == own.revoking;
    if !is_same_step {
        next.due_ms = None;
    }
    if let Some(own) = party.consumer_mut(id) {
        *own = next;
    }
}

/// Whether somebody else has a partition, or has yet to let it go.
pub(super) fn is_taken(party: &Party, but: &Arc<str>, topic: TopicId, at: i32) -> bool {
    let has = |own: &ConsumerMember| holds(&own.assigned, topic, at) || holds(&own.revoking, topic, at);
    party.members().any(|(id, member)| id != but && member.consumer.as_deref().is_some_and(has))
}
