//! TxnOffsetCommit: offsets that are committed with the transaction, and are pending until then.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::{ErrorCode, ProducerId};

use super::state::{self, VERSION_2};
use crate::commands::{Applied, CommitTransactionOffsets, CommittedOffset, IfNotAdded, Outcome};
use crate::documents::{
    Contents, DocumentKind, OffsetDocument, OffsetKey, PendingOffset, PendingOffsetKey, Prefix,
    TransactionGroup, TransactionGroupKey, TransactionOffset, TransactionOffsetKey,
};
use crate::groups;
use crate::working_set::{Wanted, WorkingSet};

/// Transactions that have the same offset pending, of which the order is kept. Consumers wait for what is pending (KIP-447),
/// so that there is one, and seldom two.
const PENDING_MAX: usize = 16;

fn group_key(id: &Arc<str>, group: &Arc<str>) -> TransactionGroupKey {
    TransactionGroupKey { transaction: Arc::clone(id), group: Arc::clone(group) }
}

fn offset_key(id: &Arc<str>, group: &Arc<str>, offset: &CommittedOffset) -> TransactionOffsetKey {
    TransactionOffsetKey {
        transaction: Arc::clone(id),
        group: Arc::clone(group),
        topic: Arc::clone(&offset.topic),
        partition: offset.partition,
    }
}

fn pending_prefix(group: &Arc<str>, offset: &CommittedOffset) -> Prefix {
    PendingOffset::of_offset(group, &offset.topic, offset.partition)
}

fn pending_key(producer: ProducerId, group: &Arc<str>, offset: &CommittedOffset) -> PendingOffsetKey {
    PendingOffsetKey {
        group: Arc::clone(group),
        topic: Arc::clone(&offset.topic),
        partition: offset.partition,
        producer,
    }
}

fn committed_key(group: &Arc<str>, offset: &CommittedOffset) -> OffsetKey {
    OffsetKey { group: Arc::clone(group), topic: Arc::clone(&offset.topic), partition: offset.partition }
}

pub(super) fn needs(
    wanted: &mut Wanted,
    id: &Arc<str>,
    commit: &CommitTransactionOffsets,
    set: &WorkingSet<'_>,
) {
    wanted.write::<TransactionGroup>(&group_key(id, &commit.group));
    for offset in &commit.offsets {
        wanted
            .write::<OffsetDocument>(&committed_key(&commit.group, offset))
            .write::<TransactionOffset>(&offset_key(id, &commit.group, offset))
            .first(pending_prefix(&commit.group, offset), PENDING_MAX);
    }
    groups::needs_to_commit_in_transaction(wanted, &commit.group, &commit.member, &commit.offsets, set);
}

/// The transaction is checked before the group, as in Kafka.
pub(super) fn commit(set: &mut WorkingSet<'_>, id: &Arc<str>, commit: &CommitTransactionOffsets) -> Outcome {
    let CommitTransactionOffsets { producer, group, member, offsets, if_not_added, now_ms } = commit;
    let document = state::current(set, id, *producer, ErrorCode::InvalidProducerEpoch)?;
    let key = group_key(id, group);
    let is_added = document.is_ongoing() && set.get::<TransactionGroup>(&key).is_some();
    let joins = state::joins(is_added, *if_not_added)?;
    let has_group = groups::check_commit_in_transaction(set, group, member, offsets)?;
    let joined = if joins { Contents::one(id.len() + group.len()) } else { Contents::default() };
    let (added, gone) = contents_of(set, id, group, offsets);
    let version = if *if_not_added == IfNotAdded::Join { VERSION_2 } else { document.version };
    let begun = state::begun(&document, version, *now_ms, joined.and(added), gone)?;
    if joins {
        set.put::<TransactionGroup>(&key, TransactionGroup {});
    }
    if begun.contents != document.contents || joins {
        state::put(set, id, begun, *now_ms);
    }
    if !has_group {
        groups::create_for_offsets(set, group, *now_ms);
    }
    for offset in offsets {
        let known = set.get::<OffsetDocument>(&committed_key(group, offset));
        let sent_after = Some(known.map_or(0, |known| known.revision));
        let sent_as = next_place(set, group, offset);
        let document = OffsetDocument { sent_after, sent_as, ..offset.document.clone() };
        set.put::<PendingOffset>(&pending_key(producer.id, group, offset), PendingOffset { sent_as });
        set.put::<TransactionOffset>(&offset_key(id, group, offset), TransactionOffset(document));
    }
    Ok(Applied::Changed)
}

/// The place after those that are pending for the same offset.
fn next_place(set: &WorkingSet<'_>, group: &Arc<str>, offset: &CommittedOffset) -> u64 {
    let pending = set.first(&pending_prefix(group, offset), PENDING_MAX).unwrap_or_default();
    let keys = pending.iter().filter_map(PendingOffset::parse_key);
    let places = keys.filter_map(|key| Some(set.get::<PendingOffset>(&key)?.sent_as));
    places.max().map_or(0, |last| last + 1)
}

/// What offsets add to a transaction, and how many bytes go with those whose places they take.
fn contents_of(
    set: &WorkingSet<'_>,
    id: &Arc<str>,
    group: &Arc<str>,
    offsets: &[CommittedOffset],
) -> (Contents, usize) {
    let (mut added, mut gone) = (Contents::default(), 0);
    // A request may name a partition twice.
    let mut seen: HashMap<(&str, i32), usize> = HashMap::new();
    for offset in offsets {
        let metadata = offset.document.metadata.len();
        let before = seen.insert((&offset.topic, offset.partition), metadata).or_else(|| {
            let known = set.get::<TransactionOffset>(&offset_key(id, group, offset))?;
            Some(known.0.metadata.len())
        });
        added = added.and(match before {
            Some(before) => {
                gone += before;
                Contents { documents: 0, ..Contents::one(metadata) }
            }
            // It is pending in its group as well, and is committed there.
            None => Contents::one(id.len() + 3 * group.len() + 3 * offset.topic.len() + metadata),
        });
    }
    (added, gone)
}
