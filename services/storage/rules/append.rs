//! Logs: batches appended, once each, and the beginning of a log moved forward.

use std::sync::Arc;

use kernel::budget::Lease;
use kernel::records::{Batch, NO_PRODUCER_EPOCH, NO_PRODUCER_ID};
use kernel::{ErrorCode, ProducerId, TopicPartition};

use super::command::{Done, Effect, Outcome, Refused};
use super::documents::{Document, Key, PartitionDocument, ProducedBatch, ProducerDocument};
use super::working_set::WorkingSet;

/// As many batches as an idempotent producer may have in flight, so that any of them can be recognised when it comes
/// again (KIP-98).
const REMEMBERED_BATCHES: usize = 5;

/// Offsets fit into 43 bits beside a partition's number: 8.8 trillion records a partition.
const OFFSET_MAX: i64 = (1 << 43) - 1;

pub(super) fn keys(partition: TopicPartition, batch: &Batch) -> Vec<Key> {
    let mut keys = vec![Key::Partition(partition)];
    if batch.producer_id() != NO_PRODUCER_ID {
        keys.push(Key::Producer(partition, ProducerId(batch.producer_id())));
    }
    keys
}

fn existing(set: &WorkingSet<'_>, partition: TopicPartition) -> Result<PartitionDocument, Refused> {
    set.partition(partition).ok_or_else(|| {
        Refused::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    })
}

pub(super) fn append(
    set: &mut WorkingSet<'_>,
    partition: TopicPartition,
    batch: Batch,
    now_ms: i64,
    lease: Arc<Lease>,
) -> Outcome {
    let mut log = existing(set, partition)?;
    let base_offset = log.end;
    let producer = ProducerId(batch.producer_id());
    let idempotent = (producer.0 != NO_PRODUCER_ID).then(|| set.producer(partition, producer));
    let remembered = match idempotent {
        None => None,
        Some(known) => match sequence(known, &batch)? {
            Sequence::Duplicate(original) => {
                return Ok(Done::Appended {
                    base_offset: original.base_offset,
                    log_start: log.log_start,
                    is_duplicate: true,
                });
            }
            Sequence::Next => Some(remember(known, &batch, base_offset, now_ms)),
        },
    };
    let end = base_offset + i64::from(batch.record_count());
    if end > OFFSET_MAX {
        let message = format!("The partition is full: its offsets have reached {base_offset}.");
        return Err(Refused::new(ErrorCode::KafkaStorageError, message));
    }
    log.end = end;
    log.bytes += batch.bytes().len() as u64;
    if let Some(document) = remembered {
        set.put(Key::Producer(partition, producer), Document::Producer(document));
    }
    set.put(Key::Partition(partition), Document::Partition(log));
    let (number, leader_epoch) = (log.number, log.leader_epoch);
    set.effect(Effect::Append { partition, number, base_offset, leader_epoch, batch, lease });
    Ok(Done::Appended { base_offset, log_start: log.log_start, is_duplicate: false })
}

enum Sequence {
    Next,
    Duplicate(ProducedBatch),
}

fn last_sequence(batch: &Batch) -> i32 {
    sequence_after(batch.base_sequence(), batch.last_offset_delta())
}

/// Sequence numbers wrap from 2^31 - 1 to 0.
fn sequence_after(sequence: i32, steps: i32) -> i32 {
    ((i64::from(sequence) + i64::from(steps)) & i64::from(i32::MAX)) as i32
}

/// Where a batch stands in its producer's sequence (KIP-98, KIP-360).
fn sequence(known: Option<&ProducerDocument>, batch: &Batch) -> Result<Sequence, Refused> {
    let epoch = batch.producer_epoch();
    let last_epoch = known.map_or(NO_PRODUCER_EPOCH, |known| known.epoch);
    if epoch < last_epoch {
        let message = format!(
            "Epoch of producer {} is {epoch}, which is smaller than the last seen epoch {last_epoch}",
            batch.producer_id(),
        );
        return Err(Refused::new(ErrorCode::InvalidProducerEpoch, message));
    }
    // A producer that is not remembered may begin anywhere: it may have been forgotten (KIP-360).
    let Some(known) = known else { return Ok(Sequence::Next) };
    let out_of_order = |expected: i32| {
        let message = format!(
            "Out of order sequence number for producer {}: {} (incoming), {expected} (expected)",
            batch.producer_id(),
            batch.base_sequence(),
        );
        Err(Refused::new(ErrorCode::OutOfOrderSequenceNumber, message))
    };
    if epoch > known.epoch {
        return if batch.base_sequence() == 0 { Ok(Sequence::Next) } else { out_of_order(0) };
    }
    let (first, last) = (batch.base_sequence(), last_sequence(batch));
    let same = |produced: &&ProducedBatch| produced.first_sequence == first && produced.last_sequence == last;
    if let Some(original) = known.batches.iter().find(same) {
        return Ok(Sequence::Duplicate(*original));
    }
    match known.batches.last().map(|produced| sequence_after(produced.last_sequence, 1)) {
        Some(expected) if expected != first => out_of_order(expected),
        _ => Ok(Sequence::Next),
    }
}

fn remember(
    known: Option<&ProducerDocument>,
    batch: &Batch,
    base_offset: i64,
    now_ms: i64,
) -> ProducerDocument {
    let epoch = batch.producer_epoch();
    let same_epoch = known.filter(|document| document.epoch == epoch);
    let mut batches = same_epoch.map(|document| document.batches.clone()).unwrap_or_default();
    if batches.len() == REMEMBERED_BATCHES {
        batches.remove(0);
    }
    batches.push(ProducedBatch {
        first_sequence: batch.base_sequence(),
        last_sequence: last_sequence(batch),
        base_offset,
    });
    ProducerDocument { epoch, batches, last_ms: now_ms }
}

pub(super) fn advance_log_start(set: &mut WorkingSet<'_>, partition: TopicPartition, offset: i64) -> Outcome {
    let mut log = existing(set, partition)?;
    let target = if offset == -1 { log.end } else { offset };
    if target < 0 || target > log.end {
        let message = format!("Offset {offset} is not within the log, which ends at {}.", log.end);
        return Err(Refused::new(ErrorCode::OffsetOutOfRange, message));
    }
    if target > log.log_start {
        let was = std::mem::replace(&mut log.log_start, target);
        set.put(Key::Partition(partition), Document::Partition(log));
        set.effect(Effect::Trim { partition, number: log.number, was, log_start: target });
    }
    Ok(Done::LogStart(log.log_start))
}

pub(super) fn allocate_producer_id(set: &mut WorkingSet<'_>) -> Outcome {
    let mut counters = set.counters();
    let id = counters.next_producer_id;
    counters.next_producer_id += 1;
    set.put(Key::Counters, Document::Counters(counters));
    Ok(Done::Producer(ProducerId(id)))
}

pub(super) fn expire_producer(
    set: &mut WorkingSet<'_>,
    partition: TopicPartition,
    producer: ProducerId,
    unused_since_ms: i64,
) -> Outcome {
    if set.producer(partition, producer).is_some_and(|document| document.last_ms <= unused_since_ms) {
        set.delete(Key::Producer(partition, producer));
    }
    Ok(Done::Changed)
}
