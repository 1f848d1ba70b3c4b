//! Appends in a transaction: the partition must be in it, or joins it.

use std::sync::Arc;

use kernel::{ErrorCode, ProducerId};

use super::state::{self, VERSION_2};
use crate::commands::{Append, ProducerIdAndEpoch, Refused};
use crate::documents::{Contents, TransactionDocument, TransactionPartition, TransactionPartitionKey};
use crate::working_set::{Wanted, WorkingSet};

/// An append that joins its partition to its transaction.
pub(crate) struct Joins {
    key: TransactionPartitionKey,
    begun: TransactionDocument,
}

fn key(id: &Arc<str>, append: &Append) -> TransactionPartitionKey {
    TransactionPartitionKey { transaction: Arc::clone(id), partition: append.partition }
}

pub(crate) fn needs_to_append(wanted: &mut Wanted, append: &Append) {
    if let Some(transaction) = append.transaction.as_ref().filter(|_| append.batch.is_transactional()) {
        wanted
            .write::<TransactionDocument>(&transaction.id)
            .write::<TransactionPartition>(&key(&transaction.id, append));
    }
}

/// Checks that a batch may be appended, if it is transactional, before its partition is looked at; returns that it joins its
/// partition to its transaction, if it does. The transaction begins, if none is open.
pub(crate) fn check_append(set: &WorkingSet<'_>, append: &Append) -> Result<Option<Joins>, Refused> {
    if !append.batch.is_transactional() {
        return Ok(None);
    }
    // Kafka's error for a request without a transactional id: nobody may write in the transactions of no id.
    let transaction = append.transaction.as_ref().ok_or(ErrorCode::TransactionalIdAuthorizationFailed)?;
    if append.origin.is_some() {
        // The transactional id has a producer id of this store.
        return Err(state::unknown_producer());
    }
    let producer =
        ProducerIdAndEpoch { id: ProducerId(append.batch.producer_id), epoch: append.batch.producer_epoch };
    let document = state::current(set, &transaction.id, producer, ErrorCode::InvalidProducerEpoch)?;
    let key = key(&transaction.id, append);
    let is_added = document.is_ongoing() && set.get::<TransactionPartition>(&key).is_some();
    if !state::joins(is_added, transaction.if_not_added)? {
        return Ok(None);
    }
    let begun = state::begun(&document, VERSION_2, append.now_ms, Contents::one(transaction.id.len()), 0)?;
    Ok(Some(Joins { key, begun }))
}

/// Joins a partition to its transaction.
pub(crate) fn join(set: &mut WorkingSet<'_>, joins: Joins, now_ms: i64) {
    let Joins { key, begun } = joins;
    set.put::<TransactionPartition>(&key, TransactionPartition {});
    state::put(set, &key.transaction, begun, now_ms);
}
