//! EndTxn: a transaction is committed or aborted at once, in all its partitions and groups.

use std::sync::Arc;

use kernel::{ErrorCode, ProducerId};

use super::marker::{self, COORDINATOR_EPOCH, Marker};
use super::state::{self, VERSION_2};
use crate::commands::{Applied, EndTransaction, Outcome, ProducerIdAndEpoch, Refused};
use crate::documents::{
    Contents, Counters, DocumentKind, Prefix, TransactionDocument, TransactionGroup, TransactionOffset,
    TransactionPartition, TransactionState,
};
use crate::working_set::{Wanted, WorkingSet};
use crate::{groups, producers};

/// What a call leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It is a repeated call.
    Repeated,
    /// The transaction ends, with markers of this epoch.
    Ends { epoch: i16 },
}

fn plan(document: &TransactionDocument, end: &EndTransaction) -> Result<Plan, Refused> {
    if end.version >= VERSION_2 { plan_version_2(document, end) } else { plan_version_1(document, end) }
}

/// Whether the last transaction has ended as the call wants it.
fn has_ended_so(document: &TransactionDocument, commit: bool) -> bool {
    match document.state {
        TransactionState::CompleteCommit => commit,
        TransactionState::CompleteAbort => !commit,
        TransactionState::Empty | TransactionState::Ongoing => false,
    }
}

fn plan_version_1(document: &TransactionDocument, end: &EndTransaction) -> Result<Plan, Refused> {
    if document.producer_id != end.producer.id {
        return Err(state::unknown_producer());
    }
    if document.epoch != end.producer.epoch {
        return Err(Refused::from(ErrorCode::ProducerFenced));
    }
    if document.is_ongoing() {
        return Ok(Plan::Ends { epoch: document.epoch });
    }
    if has_ended_so(document, end.commit) { Ok(Plan::Repeated) } else { Err(invalid_state(document, end)) }
}

/// Each transaction has an epoch of its own (KIP-890): a call with the current epoch is about the next transaction, one with
/// the epoch before is a repeated one. A transaction that has nothing in it may be aborted, not committed.
fn plan_version_2(document: &TransactionDocument, end: &EndTransaction) -> Result<Plan, Refused> {
    let ProducerIdAndEpoch { id, epoch } = end.producer;
    let has_new_id =
        document.previous_id == Some(id) && epoch == TransactionDocument::EPOCH_MAX && document.epoch == 0;
    if document.producer_id != id && !has_new_id {
        return Err(state::unknown_producer());
    }
    let is_current = document.producer_id == id && document.epoch == epoch;
    // The epoch after the last one that producers get is that of a fence.
    let has_next_epoch =
        document.producer_id == id && epoch < TransactionDocument::EPOCH_MAX && document.epoch == epoch + 1;
    let is_complete =
        matches!(document.state, TransactionState::CompleteCommit | TransactionState::CompleteAbort);
    let is_repeated = is_complete && (has_next_epoch || has_new_id);
    if !is_current && !is_repeated {
        return Err(Refused::from(ErrorCode::ProducerFenced));
    }
    if is_repeated && has_ended_so(document, end.commit) {
        return Ok(Plan::Repeated);
    }
    if is_current && (document.is_ongoing() || !end.commit) {
        return Ok(Plan::Ends { epoch: epoch.saturating_add(1) });
    }
    Err(invalid_state(document, end))
}

fn invalid_state(document: &TransactionDocument, end: &EndTransaction) -> Refused {
    let wanted = if end.commit { "committed" } else { "aborted" };
    let state = document.state.name();
    let message = format!("The transaction cannot be {wanted}: its transactional id is in state {state}.");
    Refused::new(ErrorCode::InvalidTxnState, message)
}

/// The epoch of the markers that abort a transaction without its producer, which is fenced by it. As in Kafka, a producer
/// that asks then is told the epoch to go on with; only that it has committed it is not.
pub(super) fn fence_epoch(document: &TransactionDocument) -> i16 {
    document.epoch.saturating_add(1)
}

/// Whether a producer gets a new id when its transaction ends.
fn gets_new_id(document: &TransactionDocument, end: &EndTransaction) -> bool {
    end.version >= VERSION_2 && document.is_exhausted()
}

pub(super) fn needs(wanted: &mut Wanted, id: &Arc<str>, end: &EndTransaction, set: &WorkingSet<'_>) {
    let Some(document) = set.get::<TransactionDocument>(id) else { return };
    let Ok(Plan::Ends { .. }) = plan(document, end) else { return };
    if gets_new_id(document, end) {
        wanted.write::<Counters>(&());
    }
    if document.is_ongoing() {
        needs_to_finish(wanted, id, document.producer_id, end.leader_epoch, set);
    }
}

pub(super) fn end(set: &mut WorkingSet<'_>, id: &Arc<str>, end: &EndTransaction) -> Outcome {
    let document = set.get_arc::<TransactionDocument>(id).ok_or_else(state::unknown_producer)?;
    let Plan::Ends { epoch } = plan(&document, end)? else {
        return Ok(Applied::TransactionEnded(state::producer(&document)));
    };
    let EndTransaction { commit, version, now_ms, leader_epoch, .. } = *end;
    let marked = ProducerIdAndEpoch { id: document.producer_id, epoch };
    if document.is_ongoing() {
        finish(set, id, &Ending { producer: marked, commit, now_ms, leader_epoch });
    }
    let gets_new_id = gets_new_id(&document, end);
    // Every store that has transactional ids has given out producer ids: it needs no seed.
    let next =
        if gets_new_id { ProducerIdAndEpoch { id: producers::next_id(set, 0), epoch: 0 } } else { marked };
    let ended = TransactionDocument {
        producer_id: next.id,
        epoch: next.epoch,
        last_epoch: if version >= VERSION_2 { Some(document.epoch) } else { document.last_epoch },
        previous_id: gets_new_id.then_some(document.producer_id),
        version,
        ..complete(&document, commit, now_ms)
    };
    state::put(set, id, ended, now_ms);
    Ok(Applied::TransactionEnded(next))
}

/// The document after its transaction has ended.
pub(super) fn complete(document: &TransactionDocument, commit: bool, now_ms: i64) -> TransactionDocument {
    let state = if commit { TransactionState::CompleteCommit } else { TransactionState::CompleteAbort };
    // That it began is shown until the next one does. One that had nothing in it has begun and ended at once.
    let started_ms = if document.is_ongoing() { document.started_ms } else { Some(now_ms) };
    TransactionDocument {
        state,
        started_ms,
        updated_ms: now_ms,
        contents: Contents::default(),
        ..document.clone()
    }
}

/// How an open transaction ends.
pub(super) struct Ending {
    /// The producer, with the epoch of the markers.
    pub(super) producer: ProducerIdAndEpoch,
    pub(super) commit: bool,
    pub(super) now_ms: i64,
    pub(super) leader_epoch: i32,
}

/// The typed keys of a prefix; none if they are not loaded.
fn keys<T: DocumentKind>(set: &WorkingSet<'_>, prefix: &Prefix) -> Vec<T::Key> {
    set.keys(prefix).unwrap_or_default().iter().filter_map(T::parse_key).collect()
}

/// What [`finish`] needs.
pub(super) fn needs_to_finish(
    wanted: &mut Wanted,
    id: &Arc<str>,
    producer: ProducerId,
    leader_epoch: i32,
    set: &WorkingSet<'_>,
) {
    let (partitions, groups, offsets) = prefixes(id);
    for key in keys::<TransactionPartition>(set, &partitions) {
        marker::needs(wanted, key.partition, producer, leader_epoch, set);
    }
    for key in keys::<TransactionOffset>(set, &offsets) {
        groups::needs_to_end_offset(wanted, &key, producer);
    }
    wanted.scan(partitions).scan(groups).scan(offsets);
}

fn prefixes(id: &str) -> (Prefix, Prefix, Prefix) {
    (
        TransactionPartition::of_transaction(id),
        TransactionGroup::of_transaction(id),
        TransactionOffset::of_transaction(id),
    )
}

/// Ends an open transaction everywhere but in the document of its id.
pub(super) fn finish(set: &mut WorkingSet<'_>, id: &Arc<str>, ending: &Ending) {
    let Ending { producer, commit, now_ms, leader_epoch } = *ending;
    let (partitions, groups, offsets) = prefixes(id);
    let marker = Marker { producer, commit, coordinator_epoch: COORDINATOR_EPOCH, now_ms, leader_epoch };
    for key in keys::<TransactionPartition>(set, &partitions) {
        marker::write(set, key.partition, &marker);
        set.delete::<TransactionPartition>(&key);
    }
    for key in keys::<TransactionGroup>(set, &groups) {
        set.delete::<TransactionGroup>(&key);
    }
    for key in keys::<TransactionOffset>(set, &offsets) {
        groups::end_offset(set, &key, producer.id, commit);
        set.delete::<TransactionOffset>(&key);
    }
}
