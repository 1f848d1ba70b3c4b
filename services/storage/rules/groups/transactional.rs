//! Offsets that are committed in a transaction (KIP-98, KIP-447), and are pending until it ends.

use std::cell::RefCell;
use std::sync::Arc;

use kernel::{ErrorCode, ProducerId};

use super::group::Group;
use super::lookups::Lookups;
use super::offsets::{CommittingMember, check_consumer, load_for_committer, put_offsets};
use crate::commands::{CommittedOffset, MemberIdentity, Refused};
use crate::documents::{
    DueSubject, GroupDocument, GroupState, MemberDocument, MemberKey, OffsetDocument, OffsetKey,
    PendingOffset, PendingOffsetKey, TransactionOffset, TransactionOffsetKey,
};
use crate::due;
use crate::working_set::{Wanted, WorkingSet};

/// What [`check_commit_in_transaction`] needs.
pub(crate) fn needs_to_commit_in_transaction(
    wanted: &mut Wanted,
    group: &Arc<str>,
    member: &MemberIdentity,
    offsets: &[CommittedOffset],
    set: &WorkingSet<'_>,
) {
    let key = MemberKey { group: Arc::clone(group), member: Arc::clone(&member.id) };
    wanted.write::<GroupDocument>(group).write::<MemberDocument>(&key);
    if wanted.lacks_any_in(set) {
        // What these lead to is known once they are loaded.
        return;
    }
    let lacking = RefCell::default();
    // What it tells is the decision's; here it only looks.
    let _ = check(Lookups::new(set, &lacking), group, member, offsets);
    wanted.extend(lacking.into_inner());
}

/// Checks that a member may commit offsets in a transaction; returns whether the group exists.
pub(crate) fn check_commit_in_transaction(
    set: &WorkingSet<'_>,
    group: &Arc<str>,
    member: &MemberIdentity,
    offsets: &[CommittedOffset],
) -> Result<bool, Refused> {
    let lacking = RefCell::default();
    check(Lookups::new(set, &lacking), group, member, offsets)
}

fn check(
    lookups: Lookups<'_>,
    name: &Arc<str>,
    member: &MemberIdentity,
    offsets: &[CommittedOffset],
) -> Result<bool, Refused> {
    match load_for_committer(lookups, name, member) {
        Some(mut group) => check_member(&mut group, member, offsets).map(|()| true),
        // A producer that has its offsets from elsewhere.
        None if member.generation < 0 => Ok(false),
        None => Err(Refused::from(ErrorCode::IllegalGeneration)),
    }
}

/// Older clients do not say which member has read the records: they fence each other by transactional ids only. A rebalance
/// under way is no reason to refuse, as the generation is still the member's.
fn check_member(
    group: &mut Group<'_>,
    member: &MemberIdentity,
    offsets: &[CommittedOffset],
) -> Result<(), Refused> {
    let is_named = member.generation >= 0 || !member.id.is_empty() || member.instance_id.is_some();
    let is_empty = group.document.state == GroupState::Empty;
    if !is_named || (member.generation < 0 && is_empty) {
        return Ok(());
    }
    let illegal = || Refused::from(ErrorCode::IllegalGeneration);
    if group.document.consumer.is_some() {
        let committer = CommittingMember { member, knows_epochs: true, offsets };
        return check_consumer(group, &committer).map_err(|refused| match refused.error {
            ErrorCode::StaleMemberEpoch => illegal(),
            _ => refused,
        });
    }
    group.check_member(member)?;
    if member.generation == group.document.generation { Ok(()) } else { Err(illegal()) }
}

/// Creates a group that has no members, for the offsets that are pending in it.
pub(crate) fn create_for_offsets(set: &mut WorkingSet<'_>, group: &Arc<str>, now_ms: i64) {
    set.put::<GroupDocument>(group, GroupDocument::empty(now_ms));
    due::look_at_once(set, &DueSubject::Offsets(Arc::clone(group)));
}

fn pending_key(key: &TransactionOffsetKey, producer: ProducerId) -> PendingOffsetKey {
    PendingOffsetKey {
        group: Arc::clone(&key.group),
        topic: Arc::clone(&key.topic),
        partition: key.partition,
        producer,
    }
}

fn offset_key(key: &TransactionOffsetKey) -> OffsetKey {
    OffsetKey { group: Arc::clone(&key.group), topic: Arc::clone(&key.topic), partition: key.partition }
}

/// What [`end_offset`] needs beside the offset itself.
pub(crate) fn needs_to_end_offset(wanted: &mut Wanted, key: &TransactionOffsetKey, producer: ProducerId) {
    wanted.write::<PendingOffset>(&pending_key(key, producer)).write::<OffsetDocument>(&offset_key(key));
}

/// Ends the wait of a pending offset with its transaction. One that was deleted meanwhile, with its group for instance, is
/// not committed; nor is one after which the group has committed another.
pub(crate) fn end_offset(
    set: &mut WorkingSet<'_>,
    key: &TransactionOffsetKey,
    producer: ProducerId,
    commit: bool,
) {
    let pending = pending_key(key, producer);
    if set.get::<PendingOffset>(&pending).is_none() {
        return;
    }
    set.delete::<PendingOffset>(&pending);
    let Some(TransactionOffset(document)) = set.get::<TransactionOffset>(key).filter(|_| commit).cloned()
    else {
        return;
    };
    let known = set.get::<OffsetDocument>(&offset_key(key));
    if known.is_some_and(|known| known.is_later_than(&document)) {
        return;
    }
    let offset = CommittedOffset { topic: Arc::clone(&key.topic), partition: key.partition, document };
    put_offsets(set, &key.group, &[offset], false);
}
