//! Transaction timeout, and the expiry of transactional ids.

use std::sync::Arc;

use super::end::{self, Ending};
use super::state::{self, NO_LOOK_MS};
use crate::commands::{Applied, Expired, Outcome, ProducerIdAndEpoch};
use crate::documents::TransactionDocument;
use crate::working_set::{Wanted, WorkingSet};

pub(super) fn needs(
    wanted: &mut Wanted,
    id: &Arc<str>,
    now_ms: i64,
    leader_epoch: i32,
    set: &WorkingSet<'_>,
) {
    let Some(document) = set.get::<TransactionDocument>(id) else { return };
    if document.is_ongoing() && document.due_ms() <= now_ms {
        end::needs_to_finish(wanted, id, document.producer_id, leader_epoch, set);
    }
}

/// Any broker may look, at any time and repeatedly: what was found by an entry is looked up in the document.
pub(super) fn expire(
    set: &mut WorkingSet<'_>,
    id: &Arc<str>,
    taken_ms: i64,
    now_ms: i64,
    leader_epoch: i32,
) -> Outcome {
    let Some(document) = set.get_arc::<TransactionDocument>(id) else {
        state::delete_entry(set, id, taken_ms);
        return Ok(Applied::TransactionExpired(Expired::Nothing));
    };
    if taken_ms != document.look_ms {
        state::delete_entry(set, id, taken_ms);
    }
    state::delete_entry(set, id, document.look_ms);
    if document.due_ms() > now_ms {
        let document = TransactionDocument { look_ms: NO_LOOK_MS, ..(*document).clone() };
        state::put(set, id, document, now_ms);
        return Ok(Applied::TransactionExpired(Expired::Nothing));
    }
    if !document.is_ongoing() {
        set.delete::<TransactionDocument>(id);
        return Ok(Applied::TransactionExpired(Expired::Id));
    }
    let producer = ProducerIdAndEpoch { id: document.producer_id, epoch: end::fence_epoch(&document) };
    end::finish(set, id, &Ending { producer, commit: false, now_ms, leader_epoch });
    let aborted = TransactionDocument {
        epoch: producer.epoch,
        last_epoch: Some(document.epoch),
        look_ms: NO_LOOK_MS,
        ..end::complete(&document, false, now_ms)
    };
    state::put(set, id, aborted, now_ms);
    Ok(Applied::TransactionExpired(Expired::Transaction))
}
