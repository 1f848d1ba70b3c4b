//! The document of a transactional id: who may change it, and how it is kept in the index of what is due.

use std::sync::Arc;

use kernel::ErrorCode;

use crate::commands::{IfNotAdded, ProducerIdAndEpoch, Refused};
use crate::documents::{
    Contents, DueKey, TransactionDocument, TransactionDue, TransactionDueKey, TransactionState,
};
use crate::working_set::WorkingSet;

/// The transaction version of clients that write without adding partitions before (KIP-890).
pub(super) const VERSION_2: i16 = 2;
/// That of clients that add partitions first.
pub(super) const VERSION_1: i16 = 1;

/// The time of an entry that is not there.
pub(super) const NO_LOOK_MS: i64 = i64::MAX;

/// The document of a transactional id, for a call of its producer. One with another epoch gets the error `fenced`.
pub(super) fn current(
    set: &WorkingSet<'_>,
    id: &Arc<str>,
    producer: ProducerIdAndEpoch,
    fenced: ErrorCode,
) -> Result<Arc<TransactionDocument>, Refused> {
    let document = set.get_arc::<TransactionDocument>(id);
    let own = document.filter(|document| document.producer_id == producer.id).ok_or_else(unknown_producer)?;
    if own.epoch == producer.epoch { Ok(own) } else { Err(Refused::from(fenced)) }
}

/// The producer id is not that of the transactional id, or that is not known.
pub(super) fn unknown_producer() -> Refused {
    Refused::from(ErrorCode::InvalidProducerIdMapping)
}

/// The producer of a transactional id.
pub(super) fn producer(document: &TransactionDocument) -> ProducerIdAndEpoch {
    ProducerIdAndEpoch { id: document.producer_id, epoch: document.epoch }
}

/// Whether a write joins its partition, or its group, to the transaction.
pub(super) fn joins(is_added: bool, if_not_added: IfNotAdded) -> Result<bool, Refused> {
    let message = "The partition, or the group, was not added to the transaction.";
    match if_not_added {
        _ if is_added => Ok(false),
        IfNotAdded::Join => Ok(true),
        IfNotAdded::RefuseAbortable => Err(Refused::new(ErrorCode::TransactionAbortable, message)),
        IfNotAdded::Refuse => Err(Refused::new(ErrorCode::InvalidTxnState, message)),
    }
}

/// The document with an open transaction, to which something is added, while so many bytes go. It begins now, unless one is
/// open.
pub(super) fn begun(
    document: &TransactionDocument,
    version: i16,
    now_ms: i64,
    added: Contents,
    gone: usize,
) -> Result<TransactionDocument, Refused> {
    let contents = document.contents.and(added).less(gone);
    if !contents.fits() {
        let error =
            if version >= VERSION_2 { ErrorCode::TransactionAbortable } else { ErrorCode::InvalidTxnState };
        let Contents { documents, bytes } = Contents::MAX;
        let message = format!(
            "A transaction may have {documents} partitions, groups and offsets in it, and {bytes} bytes of their names and \
             metadata."
        );
        return Err(Refused::new(error, message));
    }
    Ok(TransactionDocument {
        previous_id: None,
        state: TransactionState::Ongoing,
        version,
        started_ms: document.open_since_ms().or(Some(now_ms)),
        updated_ms: now_ms,
        contents,
        ..document.clone()
    })
}

/// Stores the document. Its entry in the index is moved only if it is too late: one that is early is moved when it is found,
/// so that most transactions write none.
pub(super) fn put(set: &mut WorkingSet<'_>, id: &Arc<str>, mut document: TransactionDocument, now_ms: i64) {
    let at_ms = DueKey::time(document.due_ms(), now_ms);
    if at_ms < document.look_ms {
        delete_entry(set, id, document.look_ms);
        document.look_ms = at_ms;
        set.put::<TransactionDue>(&entry(id, at_ms), TransactionDue {});
    }
    set.put::<TransactionDocument>(id, document);
}

/// Deletes the entry of a time, if there is one.
pub(super) fn delete_entry(set: &mut WorkingSet<'_>, id: &Arc<str>, at_ms: i64) {
    if at_ms != NO_LOOK_MS {
        set.delete::<TransactionDue>(&entry(id, at_ms));
    }
}

fn entry(id: &Arc<str>, at_ms: i64) -> TransactionDueKey {
    TransactionDueKey { at_ms, transaction: Arc::clone(id) }
}
