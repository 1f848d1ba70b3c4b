//! The marker that ends a transaction in one partition, and an operator's, which ends what nobody else will.

use std::sync::Arc;

use kernel::records::control;
use kernel::{ErrorCode, ProducerId, TopicPartition};

use crate::commands::{Applied, BatchFacts, Outcome, Payload, ProducerIdAndEpoch, Refused, WriteMarker};
use crate::documents::{
    AbortedTransaction, DocumentKind, LogTransactionKey, OpenTransaction, PartitionDocument,
    ProducerDocument, ProducerKey, TransactionDocument, TransactionPartition, TransactionPartitionKey,
};
use crate::log::{self, NewBatch};
use crate::producers;
use crate::working_set::{Wanted, WorkingSet};

/// The coordinator epoch of markers. In Kafka it fences coordinators that were replaced; here there are none.
pub(super) const COORDINATOR_EPOCH: i32 = 0;

/// A marker.
pub(super) struct Marker {
    pub(super) producer: ProducerIdAndEpoch,
    pub(super) commit: bool,
    pub(super) coordinator_epoch: i32,
    pub(super) now_ms: i64,
    pub(super) leader_epoch: i32,
}

fn producer_key(partition: TopicPartition, producer: ProducerId) -> ProducerKey {
    ProducerKey { partition, producer, origin: None }
}

/// The key of the transaction that a producer has open in a partition.
fn open_key(set: &WorkingSet<'_>, at: TopicPartition, producer: ProducerId) -> Option<LogTransactionKey> {
    let offset = set.get::<ProducerDocument>(&producer_key(at, producer))?.transaction?;
    Some(LogTransactionKey { partition: at, offset, producer })
}

/// What [`write`] needs.
pub(super) fn needs(
    wanted: &mut Wanted,
    at: TopicPartition,
    producer: ProducerId,
    leader_epoch: i32,
    set: &WorkingSet<'_>,
) {
    wanted.write::<PartitionDocument>(&at).write::<ProducerDocument>(&producer_key(at, producer));
    log::needs_to_begin_epoch(wanted, at, leader_epoch, set);
    let first = set.get::<PartitionDocument>(&at).and_then(|log| log.first_unstable);
    if first.is_some() && open_key(set, at, producer).map(|key| key.offset) == first {
        // The one after it is the next one.
        wanted.first(OpenTransaction::of_partition(at), 2);
    }
}

/// Writes a marker, and ends the transaction that its producer has open in the partition, if any. A partition that was
/// deleted needs none.
pub(super) fn write(set: &mut WorkingSet<'_>, at: TopicPartition, marker: &Marker) {
    let Some(mut log) = set.get::<PartitionDocument>(&at).copied() else { return };
    let Marker { producer, commit, coordinator_epoch, now_ms, leader_epoch } = *marker;
    let key = producer_key(at, producer.id);
    let mut aborted_from = None;
    if let Some(open) = open_key(set, at, producer.id) {
        set.delete::<OpenTransaction>(&open);
        if log.first_unstable == Some(open.offset) {
            log.first_unstable = first_open(set, at);
        }
        if !commit {
            aborted_from = Some(open.offset);
            let after_marker = log.end + 1;
            let last_stable = log.first_unstable.map_or(after_marker, |first| first.max(log.log_start));
            let aborted = AbortedTransaction { first_offset: open.offset, last_stable };
            let key = LogTransactionKey { offset: log.end, ..open };
            set.put::<AbortedTransaction>(&key, aborted);
            log.last_aborted = Some(log.end);
        }
    }
    let known = set.get_arc::<ProducerDocument>(&key);
    let epoch = producer.epoch;
    let remembered =
        producers::remember_marker(known.as_deref(), epoch, coordinator_epoch, now_ms, aborted_from);
    if known.is_none() {
        producers::look_when_expired(set, &key, &remembered, now_ms);
    }
    set.put::<ProducerDocument>(&key, remembered);
    let payload = control::marker(producer.id.0, producer.epoch, commit, coordinator_epoch, now_ms);
    // A marker is some eighty bytes.
    let mut batch = BatchFacts::of_marker(producer, now_ms, payload.len() as u32);
    if log.append_time_ms.is_some() {
        batch = log::with_time(batch.with_append_time(), &mut log, now_ms);
    }
    log::store(set, at, log, NewBatch { batch, payload: Payload(payload), now_ms, leader_epoch });
}

/// Where the first open transaction of a partition begins.
fn first_open(set: &WorkingSet<'_>, at: TopicPartition) -> Option<i64> {
    let first = set.first(&OpenTransaction::of_partition(at), 1)?;
    first.first().and_then(OpenTransaction::parse_key).map(|key| key.offset)
}

fn partition_key(id: &Arc<str>, partition: TopicPartition) -> TransactionPartitionKey {
    TransactionPartitionKey { transaction: Arc::clone(id), partition }
}

pub(crate) fn needs_to_write_marker(wanted: &mut Wanted, marker: &WriteMarker, set: &WorkingSet<'_>) {
    let WriteMarker { partition, producer, leader_epoch, .. } = *marker;
    needs(wanted, partition, producer.id, leader_epoch, set);
    let Some(open) = open_key(set, partition, producer.id) else { return };
    wanted.write::<OpenTransaction>(&open);
    if let Some(OpenTransaction { transactional_id, .. }) = set.get::<OpenTransaction>(&open) {
        wanted
            .write::<TransactionDocument>(transactional_id)
            .write::<TransactionPartition>(&partition_key(transactional_id, partition));
    }
}

/// Whether the transactional id of what a producer has open in a partition will end it itself.
fn will_be_ended(set: &WorkingSet<'_>, open: &LogTransactionKey, now_ms: i64) -> bool {
    let Some(OpenTransaction { transactional_id: id, .. }) = set.get::<OpenTransaction>(open) else {
        return false;
    };
    let document = set.get::<TransactionDocument>(id);
    let is_ongoing = document.is_some_and(|document| {
        // One that has begun in the future, by a clock that was ahead, would be ended long after its timeout.
        let has_begun = document.open_since_ms().is_some_and(|since_ms| since_ms <= now_ms);
        document.producer_id == open.producer && has_begun
    });
    is_ongoing && set.get::<TransactionPartition>(&partition_key(id, open.partition)).is_some()
}

pub(crate) fn write_marker(set: &mut WorkingSet<'_>, marker: &WriteMarker) -> Outcome {
    let WriteMarker { partition, producer, commit, coordinator_epoch, now_ms, leader_epoch } = *marker;
    if set.get::<PartitionDocument>(&partition).is_none() {
        return Err(Refused::from(ErrorCode::UnknownTopicOrPartition));
    }
    if let Some(known) = set.get::<ProducerDocument>(&producer_key(partition, producer.id)) {
        if producer.epoch < known.epoch {
            return Err(Refused::from(ErrorCode::InvalidProducerEpoch));
        }
        if known.coordinator_epoch.is_some_and(|known| known > coordinator_epoch) {
            return Err(Refused::from(ErrorCode::TransactionCoordinatorFenced));
        }
    }
    let Some(open) = open_key(set, partition, producer.id) else { return Ok(Applied::MarkerWritten(false)) };
    if will_be_ended(set, &open, now_ms) {
        let message =
            "The transaction is not hanging: its transactional id will end it, at its timeout at the latest.";
        return Err(Refused::new(ErrorCode::InvalidTxnState, message));
    }
    write(set, partition, &Marker { producer, commit, coordinator_epoch, now_ms, leader_epoch });
    Ok(Applied::MarkerWritten(true))
}
