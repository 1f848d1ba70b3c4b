//! InitProducerId with a transactional id: the next epoch, which fences the producers before it, or a new producer id once
//! no epoch is left.
//!
//! Kafka aborts an open transaction in the background, and the client has to come again. Here it is aborted at once, with the
//! epochs that Kafka's producer would end up with.

use std::sync::Arc;

use kernel::ErrorCode;

use super::end::{self, Ending};
use super::state::{self, NO_LOOK_MS};
use crate::commands::{Applied, InitTransaction, Outcome, ProducerIdAndEpoch, Refused};
use crate::documents::{Contents, Counters, TransactionDocument, TransactionState};
use crate::producers;
use crate::working_set::{Wanted, WorkingSet};

/// What a call leads to.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The epoch of the markers that abort the open transaction, if there is one.
    fence: Option<i16>,
    /// The producer from now on; `None` if it gets a new id.
    next: Option<ProducerIdAndEpoch>,
    /// The epoch that this producer had before.
    last_epoch: Option<i16>,
    /// Whether the call is a repeated one.
    is_repeated: bool,
}

fn plan(document: Option<&TransactionDocument>, init: &InitTransaction) -> Result<Plan, Refused> {
    let plan = Plan { fence: None, next: None, last_epoch: None, is_repeated: false };
    let Some(document) = document else { return Ok(plan) };
    let (current, expected) = (state::producer(document), init.producer);
    let is_current = expected.is_none_or(|expected| expected == current);
    let last_epoch = expected.map(|expected| expected.epoch);
    let with_epoch = |epoch| Some(ProducerIdAndEpoch { epoch, ..current });
    if document.is_ongoing() && is_current {
        let fence = end::fence_epoch(document);
        // Kafka fences first, and then takes a call that names its producer for a repeated one.
        let next_epoch = if expected.is_some() { fence } else { fence.saturating_add(1) };
        let next = if next_epoch <= TransactionDocument::EPOCH_MAX { with_epoch(next_epoch) } else { None };
        return Ok(Plan { fence: Some(fence), next, last_epoch, ..plan });
    }
    if is_current {
        let next = if document.is_exhausted() { None } else { with_epoch(document.epoch + 1) };
        return Ok(Plan { next, last_epoch, ..plan });
    }
    // A producer that has not heard of its next epoch asks again with the one before. After an exhausted epoch, its id is
    // the one before as well.
    let is_repeated = expected.is_some_and(|expected| {
        let has_had_id =
            document.previous_id == Some(expected.id) && expected.epoch >= TransactionDocument::EPOCH_MAX;
        (expected.id == current.id || has_had_id) && document.last_epoch == Some(expected.epoch)
    });
    if is_repeated && !document.is_ongoing() {
        return Ok(Plan { next: Some(current), last_epoch, is_repeated, ..plan });
    }
    Err(Refused::from(ErrorCode::ProducerFenced))
}

pub(super) fn needs(wanted: &mut Wanted, id: &Arc<str>, init: &InitTransaction, set: &WorkingSet<'_>) {
    let document = set.get::<TransactionDocument>(id);
    let Ok(plan) = plan(document, init) else { return };
    if plan.next.is_none() {
        wanted.write::<Counters>(&());
    }
    if let Some(document) = document.filter(|_| plan.fence.is_some()) {
        end::needs_to_finish(wanted, id, document.producer_id, init.leader_epoch, set);
    }
}

pub(super) fn init(set: &mut WorkingSet<'_>, id: &Arc<str>, init: &InitTransaction) -> Outcome {
    let known = set.get_arc::<TransactionDocument>(id);
    let plan = plan(known.as_deref(), init)?;
    let InitTransaction { timeout_ms, version, seed, now_ms, leader_epoch, .. } = *init;
    if let (Some(known), Some(epoch)) = (&known, plan.fence) {
        let producer = ProducerIdAndEpoch { id: known.producer_id, epoch };
        end::finish(set, id, &Ending { producer, commit: false, now_ms, leader_epoch });
    }
    let producer =
        plan.next.unwrap_or_else(|| ProducerIdAndEpoch { id: producers::next_id(set, seed), epoch: 0 });
    let previous_id = known.as_ref().and_then(|known| {
        if plan.is_repeated { known.previous_id } else { plan.next.is_none().then_some(known.producer_id) }
    });
    let document = TransactionDocument {
        producer_id: producer.id,
        epoch: producer.epoch,
        last_epoch: plan.last_epoch,
        previous_id,
        timeout_ms,
        state: TransactionState::Empty,
        version,
        started_ms: None,
        updated_ms: now_ms,
        contents: Contents::default(),
        look_ms: known.map_or(NO_LOOK_MS, |known| known.look_ms),
    };
    state::put(set, id, document, now_ms);
    Ok(Applied::TransactionalProducer(producer))
}
