//! Committed offsets: OffsetCommit, OffsetDelete, DeleteGroups and expiry, as Kafka's coordinator decides them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::ErrorCode;

use super::change::{CommittedOffset, GroupChange, Member};
use super::consumer;
use super::documents::{GroupDocument, GroupState, OffsetDocument, OffsetIndex};
use super::party::{Party, refused, unknown_member};
use super::protocols::{self, CONSUMER};
use crate::rules::command::{Done, Outcome, Refused};
use crate::rules::documents::{Document, Key};
use crate::rules::working_set::WorkingSet;

/// Beside the index: what is to expire, and whether the topics are still there.
pub(super) fn keys(group: &Arc<str>, change: &GroupChange, set: &WorkingSet<'_>) -> Vec<Key> {
    if !matches!(change, GroupChange::ExpireOffsets { .. }) {
        return Vec::new();
    }
    let offsets = set.offset_index(group).map(all).unwrap_or_default();
    let mut keys = Vec::with_capacity(2 * offsets.len());
    for (topic, partition) in offsets {
        keys.extend(set.offset(group, &topic, partition).map(|offset| Key::TopicName(offset.topic_id)));
        keys.push(Key::Offset(Arc::clone(group), topic, partition));
    }
    keys
}

/// Who commits.
pub(super) struct Committer {
    pub(super) member: Member,
    /// Whether the request can be told of epochs.
    pub(super) knows_epochs: bool,
}

pub(super) fn commit(
    set: &mut WorkingSet<'_>,
    group: &Arc<str>,
    committer: &Committer,
    offsets: Vec<CommittedOffset>,
    now_ms: i64,
) -> Outcome {
    match Party::load(set, group) {
        Some(party) => check_committer(&party, committer)?,
        // Offsets of a consumer that joins no group.
        None if committer.member.generation < 0 => {
            set.put(Key::Group(Arc::clone(group)), Document::Group(Arc::new(GroupDocument::empty(now_ms))));
        }
        None => return Err(unknown_group()),
    }
    let stored = set.offset_index(group);
    let mut index = stored.cloned().unwrap_or_default();
    let mut is_new = false;
    for CommittedOffset { topic, partition, document } in offsets {
        is_new |= index.entry(Arc::clone(&topic)).or_default().insert(partition);
        set.put(Key::Offset(Arc::clone(group), topic, partition), Document::Offset(document));
    }
    if is_new {
        set.put(Key::OffsetIndex(Arc::clone(group)), Document::OffsetIndex(Arc::new(index)));
    }
    Ok(Done::Changed)
}

fn check_committer(party: &Party, committer: &Committer) -> Result<(), Refused> {
    let member = &committer.member;
    let is_empty = party.group.state == GroupState::Empty;
    if member.generation < 0 && is_empty {
        return Ok(());
    }
    if party.group.consumer.is_some() {
        return check_consumer(party, committer);
    }
    if member.generation >= 0 || !member.id.is_empty() || member.instance_id.is_some() {
        party.check_member(member)?;
        if member.generation != party.group.generation {
            return Err(refused(ErrorCode::IllegalGeneration));
        }
    } else if !is_empty {
        // Only members may commit for a group that has some.
        return Err(unknown_member());
    }
    if party.group.state == GroupState::CompletingRebalance {
        // The member has joined, and is yet to hear what it is to read.
        return Err(refused(ErrorCode::RebalanceInProgress));
    }
    Ok(())
}

/// In a group of the consumer protocol, members of both protocols may commit; each hears of it in its own terms.
fn check_consumer(party: &Party, Committer { member, knows_epochs }: &Committer) -> Result<(), Refused> {
    let document = party.member(&member.id).ok_or_else(unknown_member)?;
    let own = document.consumer.as_ref().ok_or_else(unknown_member)?;
    let stale = match document.is_classic() {
        true => ErrorCode::IllegalGeneration,
        false if !knows_epochs => return Err(refused(ErrorCode::UnsupportedVersion)),
        false => ErrorCode::StaleMemberEpoch,
    };
    if member.generation == own.epoch { Ok(()) } else { Err(refused(stale)) }
}

pub(super) fn delete(set: &mut WorkingSet<'_>, group: &Arc<str>, offsets: &[(Arc<str>, i32)]) -> Outcome {
    let party = Party::load(set, group).ok_or_else(unknown_group)?;
    let is_in_use = |topic: &str| party.group.state != GroupState::Empty && subscribes(&party, topic);
    if party.group.state != GroupState::Empty && party.group.protocol_type.as_deref() != Some(CONSUMER) {
        // What other kinds of groups read, only they know.
        return Err(refused(ErrorCode::NonEmptyGroup));
    }
    let refused = |topic: &str| is_in_use(topic).then_some(ErrorCode::GroupSubscribedToTopic);
    let verdicts: Vec<Option<ErrorCode>> = offsets.iter().map(|(topic, _)| refused(topic)).collect();
    let kept = offsets.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_none());
    let gone: Vec<(Arc<str>, i32)> = kept.map(|(offset, _)| offset.clone()).collect();
    forget(set, group, &gone);
    Ok(Done::OffsetsDeleted(verdicts))
}

/// Whether a member reads a topic, as far as a broker can know: a subscription that it cannot read might be to any.
fn subscribes(party: &Party, topic: &str) -> bool {
    if party.group.consumer.is_some() {
        return consumer::is_subscribed(party, topic);
    }
    let protocol = party.group.protocol.as_deref();
    party.members().any(|(_, member)| {
        let own = protocols::subscription_to(member, protocol);
        own.is_none_or(|own| own.topics.contains(topic))
    })
}

fn unknown_group() -> Refused {
    refused(ErrorCode::GroupIdNotFound)
}

fn forget(set: &mut WorkingSet<'_>, group: &Arc<str>, offsets: &[(Arc<str>, i32)]) {
    let mut index = set.offset_index(group).cloned().unwrap_or_default();
    let mut is_changed = false;
    for (topic, partition) in offsets {
        let Some(partitions) = index.get_mut(topic) else { continue };
        if partitions.remove(partition) {
            is_changed = true;
            set.delete(Key::Offset(Arc::clone(group), Arc::clone(topic), *partition));
        }
        if partitions.is_empty() {
            index.remove(topic);
        }
    }
    match (is_changed, index.is_empty()) {
        (false, _) => {}
        (true, true) => set.delete(Key::OffsetIndex(Arc::clone(group))),
        (true, false) => set.put(Key::OffsetIndex(Arc::clone(group)), Document::OffsetIndex(Arc::new(index))),
    }
}

fn all(index: &OffsetIndex) -> Vec<(Arc<str>, i32)> {
    let of_topic = |(topic, partitions): (&Arc<str>, &BTreeSet<i32>)| {
        let topic = Arc::clone(topic);
        partitions.iter().map(move |partition| (Arc::clone(&topic), *partition)).collect::<Vec<_>>()
    };
    index.iter().flat_map(of_topic).collect()
}

pub(super) fn delete_group(set: &mut WorkingSet<'_>, group: &Arc<str>) -> Outcome {
    let document = set.group(group).ok_or_else(unknown_group)?;
    if document.state != GroupState::Empty {
        return Err(refused(ErrorCode::NonEmptyGroup));
    }
    drop_group(set, group);
    Ok(Done::Changed)
}

fn drop_group(set: &mut WorkingSet<'_>, group: &Arc<str>) {
    let offsets = set.offset_index(group).map(all).unwrap_or_default();
    forget(set, group, &offsets);
    set.delete(Key::Group(Arc::clone(group)));
}

/// An offset is kept while its group has members that read its topic, and for a time after that. Offsets of topics that
/// are gone are not kept at all.
pub(super) fn expire(set: &mut WorkingSet<'_>, group: &Arc<str>, now_ms: i64, retention_ms: i64) -> Outcome {
    let Some(party) = Party::load(set, group) else { return Ok(Done::Changed) };
    let is_empty = party.group.state == GroupState::Empty;
    let is_idle = |topic: &str| match is_empty {
        true => true,
        false => {
            let is_stable = party.group.state == GroupState::Stable || party.group.consumer.is_some();
            is_stable && party.group.protocol_type.as_deref() == Some(CONSUMER) && !subscribes(&party, topic)
        }
    };
    // Since when nobody has used the group, which for a group that never had members only its offsets tell.
    let is_classic = party.group.consumer.is_none();
    let since_ms = match is_empty && is_classic && party.group.protocol_type.is_some() {
        true => party.group.since_ms,
        false => i64::MIN,
    };
    let is_over = |offset: &OffsetDocument| match offset.expires_ms {
        Some(expires_ms) => expires_ms <= now_ms,
        None => now_ms - offset.committed_ms.max(since_ms) >= retention_ms,
    };
    let offsets = set.offset_index(group).map(all).unwrap_or_default();
    let expired = |(topic, partition): &(Arc<str>, i32)| {
        let Some(offset) = set.offset(group, topic, *partition) else { return true };
        let is_gone = set.topic_name(offset.topic_id).is_none();
        is_gone || (is_idle(topic) && is_over(offset))
    };
    let gone: Vec<(Arc<str>, i32)> = offsets.iter().filter(|offset| expired(offset)).cloned().collect();
    let is_over = is_empty && party.group.pending.is_empty() && gone.len() == offsets.len();
    match is_over {
        true => drop_group(set, group),
        false => forget(set, group, &gone),
    }
    Ok(Done::Changed)
}
