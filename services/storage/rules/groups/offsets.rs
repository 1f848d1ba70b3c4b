//! Committed offsets: OffsetCommit, OffsetDelete, DeleteGroups and expiry, as Kafka's coordinator decides
//! them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{ErrorCode, TopicId};

use super::consumer;
use super::group::{Group, unknown_member};
use super::live;
use super::lookups::Lookups;
use super::protocols::{self, CONSUMER};
use super::{pending, pending_offsets};
use crate::commands::{Applied, CommittedOffset, GroupCommand, MemberIdentity, Outcome, Refused};
use crate::documents::{
    DocumentKind, DueSubject, GroupDocument, GroupState, MemberKey, OffsetDocument, OffsetKey,
    PendingDocument, PendingOffset,
};
use crate::due;
use crate::working_set::{Wanted, WorkingSet};

/// Whether a command is about offsets, and changes no member.
pub(super) fn is_about_offsets(command: &GroupCommand) -> bool {
    matches!(
        command,
        GroupCommand::CommitOffsets { .. }
            | GroupCommand::DeleteOffsets { .. }
            | GroupCommand::ExpireOffsets { .. }
            | GroupCommand::Delete
            | GroupCommand::Index
    )
}

/// The documents that a command about offsets needs, whatever it finds.
pub(super) fn needs_always(wanted: &mut Wanted, group: &Arc<str>, command: &GroupCommand) {
    match command {
        GroupCommand::CommitOffsets { offsets, .. } => {
            for CommittedOffset { topic, partition, .. } in offsets {
                wanted.write::<OffsetDocument>(&key(group, topic, *partition));
            }
        }
        GroupCommand::DeleteOffsets { offsets } => {
            for (topic, partition) in offsets {
                wanted.write::<OffsetDocument>(&key(group, topic, *partition));
                wanted.scan(PendingOffset::of_offset(group, topic, *partition));
            }
        }
        // A group with pending ids does not expire.
        GroupCommand::ExpireOffsets { .. } => {
            wanted.scan(OffsetDocument::of_group(group)).scan(PendingOffset::of_group(group));
        }
        GroupCommand::Delete => {
            wanted.scan(OffsetDocument::of_group(group)).scan(PendingOffset::of_group(group));
            wanted.scan(PendingDocument::of_group(group));
        }
        _ => {}
    }
}

/// Looks at the members that a command about offsets looks at.
pub(super) fn look(lookups: Lookups<'_>, group: &Arc<str>, command: &GroupCommand) {
    match command {
        // Only a static member may be about another one.
        GroupCommand::CommitOffsets { member, knows_epochs, .. } if member.instance_id.is_some() => {
            if let Some(mut group) = load_for_committer(lookups, group, member) {
                let committer = CommittingMember { member, knows_epochs: *knows_epochs, offsets: &[] };
                // What it tells is the decision's; here it only looks.
                let _ = check_committer(&mut group, &committer);
            }
        }
        GroupCommand::DeleteOffsets { .. } | GroupCommand::ExpireOffsets { .. } => {
            load_for_subscriptions(lookups, group);
        }
        _ => {}
    }
}

pub(super) fn decide(
    set: &mut WorkingSet<'_>,
    lacking: &RefCell<Wanted>,
    name: &Arc<str>,
    command: &GroupCommand,
) -> Outcome {
    match command {
        GroupCommand::CommitOffsets { member, offsets, knows_epochs, now_ms } => {
            let committer = CommittingMember { member, knows_epochs: *knows_epochs, offsets };
            let group = load_for_committer(Lookups::new(set, lacking), name, member);
            let is_new = group.is_none();
            match group.map(|mut group| check_committer(&mut group, &committer)) {
                Some(checked) => checked?,
                // A consumer that commits offsets and joins no group.
                None if member.generation < 0 => {
                    set.put::<GroupDocument>(name, GroupDocument::empty(*now_ms));
                }
                None => return Err(unknown_group()),
            }
            put_offsets(set, name, offsets, is_new);
            Ok(Applied::Changed)
        }
        GroupCommand::DeleteOffsets { offsets } => {
            let group = load_for_subscriptions(Lookups::new(set, lacking), name).ok_or_else(unknown_group)?;
            let errors = delete_errors(&group, offsets)?;
            let is_empty = group.document.state == GroupState::Empty;
            let unused = offsets.iter().zip(&errors).filter(|(_, error)| error.is_none());
            let unused: Vec<(Arc<str>, i32)> = unused.map(|(offset, _)| offset.clone()).collect();
            remove_offsets(set, name, &unused);
            for (topic, partition) in &unused {
                pending_offsets::delete(set, &PendingOffset::of_offset(name, topic, *partition));
            }
            if is_empty {
                // These may have been its last ones.
                due::look_at_once(set, &DueSubject::Offsets(Arc::clone(name)));
            }
            Ok(Applied::OffsetsDeleted(errors))
        }
        GroupCommand::ExpireOffsets { now_ms, retention_ms, deleted_topics } => {
            let expiry = Expiry { now_ms: *now_ms, retention_ms: *retention_ms, deleted_topics };
            expire(set, lacking, name, &expiry)
        }
        GroupCommand::Delete => delete_group(set, name),
        GroupCommand::Index => {
            live::index(set, name);
            Ok(Applied::Changed)
        }
        _ => Err(unknown_group()),
    }
}

/// The group with the committing member. It may have a thousand others.
pub(super) fn load_for_committer<'a>(
    lookups: Lookups<'a>,
    name: &Arc<str>,
    member: &MemberIdentity,
) -> Option<Group<'a>> {
    let mut group = Group::load(lookups, name)?;
    group.load_member(&member.id);
    Some(group)
}

/// The group with what tells the topics that its members subscribe to: in a classic group, all members.
fn load_for_subscriptions<'a>(lookups: Lookups<'a>, name: &Arc<str>) -> Option<Group<'a>> {
    let mut group = Group::load(lookups, name)?;
    let is_of_consumers = group.document.protocol_type.as_deref() == Some(CONSUMER);
    if group.document.state != GroupState::Empty && is_of_consumers {
        group.ensure_tally();
        if group.document.consumer.is_some() {
            group.load_topics();
        } else {
            group.load_all();
        }
    }
    Some(group)
}

fn key(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> OffsetKey {
    OffsetKey { group: Arc::clone(group), topic: Arc::clone(topic), partition }
}

/// A member that commits.
pub(super) struct CommittingMember<'a> {
    pub(super) member: &'a MemberIdentity,
    /// Whether the request version knows member epochs.
    pub(super) knows_epochs: bool,
    pub(super) offsets: &'a [CommittedOffset],
}

fn check_committer(group: &mut Group<'_>, committer: &CommittingMember<'_>) -> Result<(), Refused> {
    let member = committer.member;
    let is_empty = group.document.state == GroupState::Empty;
    if member.generation < 0 && is_empty {
        return Ok(());
    }
    if group.document.consumer.is_some() {
        return check_consumer(group, committer);
    }
    if member.generation >= 0 || !member.id.is_empty() || member.instance_id.is_some() {
        group.check_member(member)?;
        if member.generation != group.document.generation {
            return Err(Refused::from(ErrorCode::IllegalGeneration));
        }
    } else if !is_empty {
        // Only members may commit to a group that is not empty.
        return Err(unknown_member());
    }
    if group.document.state == GroupState::CompletingRebalance {
        // The member has joined and has no assignment yet.
        return Err(Refused::from(ErrorCode::RebalanceInProgress));
    }
    Ok(())
}

/// In a group of the consumer protocol, members of both protocols may commit; each gets its own protocol's
/// errors.
///
/// A member's epoch may have advanced while its commit was under way. It counts if the member has had all the partitions
/// since that epoch: nobody else can have committed for them in between (KIP-1251).
pub(super) fn check_consumer(
    group: &Group<'_>,
    CommittingMember { member, knows_epochs, offsets }: &CommittingMember<'_>,
) -> Result<(), Refused> {
    let document = group.member(&member.id).ok_or_else(unknown_member)?;
    let own = document.consumer.as_ref().ok_or_else(unknown_member)?;
    let stale = if document.is_classic() {
        ErrorCode::IllegalGeneration
    } else if *knows_epochs {
        ErrorCode::StaleMemberEpoch
    } else {
        return Err(Refused::from(ErrorCode::UnsupportedVersion));
    };
    let has_had = |offset: &CommittedOffset| {
        let since = own.assigned_since(offset.document.topic_id, offset.partition);
        since.is_some_and(|since| since <= member.generation)
    };
    let was_current = member.generation < own.epoch && offsets.iter().all(has_had);
    if member.generation == own.epoch || was_current { Ok(()) } else { Err(Refused::from(stale)) }
}

/// For each offset, why it is not deleted, if so.
fn delete_errors(group: &Group<'_>, offsets: &[(Arc<str>, i32)]) -> Result<Vec<Option<ErrorCode>>, Refused> {
    let is_empty = group.document.state == GroupState::Empty;
    if !is_empty && group.document.protocol_type.as_deref() != Some(CONSUMER) {
        // For other protocol types the broker cannot tell which topics the members use.
        return Err(ErrorCode::NonEmptyGroup.into());
    }
    let is_in_use = |topic: &str| !is_empty && subscribes(group, topic);
    let error = |topic: &str| is_in_use(topic).then_some(ErrorCode::GroupSubscribedToTopic);
    Ok(offsets.iter().map(|(topic, _)| error(topic)).collect())
}

/// Whether a member may subscribe to a topic. A subscription that cannot be parsed counts as one to every
/// topic.
fn subscribes(group: &Group<'_>, topic: &str) -> bool {
    if group.document.consumer.is_some() {
        return consumer::is_subscribed(group, topic);
    }
    let protocol = group.document.protocol.as_deref();
    group.members().into_iter().any(|(_, member)| {
        let own = protocols::subscription_to(member, protocol);
        own.is_none_or(|own| own.topics.contains(topic))
    })
}

fn unknown_group() -> Refused {
    Refused::from(ErrorCode::GroupIdNotFound)
}

fn remove_offsets(set: &mut WorkingSet<'_>, group: &Arc<str>, offsets: &[(Arc<str>, i32)]) {
    for (topic, partition) in offsets {
        let key = key(group, topic, *partition);
        if set.get::<OffsetDocument>(&key).is_some() {
            set.delete::<OffsetDocument>(&key);
        }
    }
}

fn all_offsets(set: &WorkingSet<'_>, group: &Arc<str>) -> Vec<(Arc<str>, i32)> {
    let keys = set.keys(&OffsetDocument::of_group(group)).unwrap_or_default();
    let offsets = keys.iter().filter_map(OffsetDocument::parse_key);
    offsets.map(|OffsetKey { topic, partition, .. }| (topic, partition)).collect()
}

fn delete_group(set: &mut WorkingSet<'_>, group: &Arc<str>) -> Outcome {
    let document = set.get::<GroupDocument>(group).ok_or_else(unknown_group)?;
    if document.state != GroupState::Empty {
        return Err(ErrorCode::NonEmptyGroup.into());
    }
    drop_group(set, group);
    Ok(Applied::Changed)
}

fn drop_group(set: &mut WorkingSet<'_>, group: &Arc<str>) {
    let offsets = all_offsets(set, group);
    remove_offsets(set, group, &offsets);
    pending_offsets::delete(set, &PendingOffset::of_group(group));
    for member in pending::ids(set, group) {
        set.delete::<PendingDocument>(&MemberKey { group: Arc::clone(group), member });
    }
    live::note_deleted(set, group);
    set.delete::<GroupDocument>(group);
}

/// Stores offsets. Only one that may expire before all others did puts the group into the due index.
pub(super) fn put_offsets(
    set: &mut WorkingSet<'_>,
    group: &Arc<str>,
    offsets: &[CommittedOffset],
    group_is_new: bool,
) {
    let mut must_look = group_is_new;
    for CommittedOffset { topic, partition, document } in offsets {
        let key = key(group, topic, *partition);
        let known = set.get::<OffsetDocument>(&key);
        must_look |= may_expire_earlier(known, document);
        // One whose document has expired since it was sent counts on.
        let before = known.map_or(0, |known| known.revision).max(document.sent_after.unwrap_or_default());
        set.put::<OffsetDocument>(&key, OffsetDocument { revision: before + 1, ..document.clone() });
    }
    if must_look {
        due::look_at_once(set, &DueSubject::Offsets(Arc::clone(group)));
    }
}

/// Whether an offset may expire before the one that it takes the place of.
fn may_expire_earlier(before: Option<&OffsetDocument>, after: &OffsetDocument) -> bool {
    match before.map(|before| (before.expires_ms, after.expires_ms)) {
        Some((None, None)) => false,
        Some((Some(before_ms), Some(after_ms))) => after_ms < before_ms,
        // Which is earlier depends on how long the broker keeps offsets.
        Some((None, Some(_)) | (Some(_), None)) | None => true,
    }
}

/// An offset that its group uses is looked at again after this time, or after its retention time if that is shorter.
const IN_USE_MS: i64 = 60 * 60 * 1_000;

/// What decides whether an offset has expired.
struct Expiry<'a> {
    now_ms: i64,
    retention_ms: i64,
    deleted_topics: &'a BTreeSet<TopicId>,
}

/// An offset is kept while its group subscribes to its topic, and for the retention time after that, and while another one
/// is pending. Offsets of deleted topics are not kept.
fn expire(
    set: &mut WorkingSet<'_>,
    lacking: &RefCell<Wanted>,
    name: &Arc<str>,
    expiry: &Expiry<'_>,
) -> Outcome {
    let Some(group) = load_for_subscriptions(Lookups::new(set, lacking), name) else {
        return Ok(Applied::NextExpiry(None));
    };
    let is_empty = group.document.state == GroupState::Empty;
    let is_idle = |topic: &str| {
        if is_empty {
            true
        } else {
            let is_stable = group.document.state == GroupState::Stable || group.document.consumer.is_some();
            let is_of_consumers = group.document.protocol_type.as_deref() == Some(CONSUMER);
            is_stable && is_of_consumers && !subscribes(&group, topic)
        }
    };
    // When the group became empty. A group that never had members is judged by its offsets alone.
    let is_classic = group.document.consumer.is_none();
    let since_ms = if is_empty && is_classic && group.document.protocol_type.is_some() {
        group.document.since_ms
    } else {
        i64::MIN
    };
    let expires_ms = |offset: &OffsetDocument| {
        let kept_ms = || offset.committed_ms.max(since_ms).saturating_add(expiry.retention_ms);
        offset.expires_ms.unwrap_or_else(kept_ms)
    };
    let in_use_ms = expiry.now_ms.saturating_add(expiry.retention_ms.min(IN_USE_MS));
    let pending = pending_offsets::of_group(set, name);
    // A transaction will end, and then the group may have no offsets.
    let (mut expired, mut next_ms) = (Vec::new(), (!pending.is_empty()).then_some(in_use_ms));
    for (topic, partition) in all_offsets(set, name) {
        let is_pending = || pending.contains(&(Arc::clone(&topic), partition));
        let offset = set.get::<OffsetDocument>(&key(name, &topic, partition));
        let is_kept = |offset: &&OffsetDocument| !expiry.deleted_topics.contains(&offset.topic_id);
        match offset.filter(is_kept).map(expires_ms) {
            Some(at_ms) if at_ms > expiry.now_ms => next_ms = earliest(next_ms, at_ms),
            Some(_) if !is_idle(&topic) || is_pending() => next_ms = earliest(next_ms, in_use_ms),
            Some(_) | None => expired.push((topic, partition)),
        }
    }
    if is_empty && group.document.pending_ids.is_none() && next_ms.is_none() {
        drop_group(set, name);
    } else {
        remove_offsets(set, name, &expired);
    }
    Ok(Applied::NextExpiry(next_ms))
}

fn earliest(known_ms: Option<i64>, at_ms: i64) -> Option<i64> {
    Some(known_ms.map_or(at_ms, |known_ms| known_ms.min(at_ms)))
}
