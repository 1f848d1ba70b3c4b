//! Idempotent producers: producer ids and sequence numbers (KIP-98, KIP-360).

use kernel::records::NO_PRODUCER_EPOCH;
use kernel::{ErrorCode, ProducerId};

use crate::commands::{Applied, BatchFacts, Outcome, Refused};
use crate::documents::{
    Counters, DueKey, DueSubject, PartitionDocument, ProducedBatch, ProducerDocument, ProducerKey,
};
use crate::due;
use crate::working_set::WorkingSet;

/// As many batches as an idempotent producer may have in flight, so that a retry of any of them is recognised
/// (KIP-98).
const REMEMBERED_BATCHES: usize = 5;

pub(crate) enum Sequence {
    Next,
    Duplicate(ProducedBatch),
}

fn last_sequence(batch: &BatchFacts) -> i32 {
    sequence_after(batch.base_sequence, batch.last_offset_delta)
}

/// Sequence numbers wrap from 2^31 - 1 to 0.
fn sequence_after(sequence: i32, steps: i32) -> i32 {
    ((i64::from(sequence) + i64::from(steps)) & i64::from(i32::MAX)) as i32
}

/// Checks the sequence number of a batch against the state of its producer. One that joins its partition to its
/// transaction (KIP-890) begins there with sequence number 0.
pub(crate) fn sequence(
    known: Option<&ProducerDocument>,
    batch: &BatchFacts,
    joins: bool,
) -> Result<Sequence, Refused> {
    let epoch = batch.producer_epoch;
    let last_epoch = known.map_or(NO_PRODUCER_EPOCH, |known| known.epoch);
    if epoch < last_epoch {
        let message = format!(
            "Epoch of producer {} is {epoch}, which is smaller than the last seen epoch {last_epoch}",
            batch.producer_id,
        );
        return Err(Refused::new(ErrorCode::InvalidProducerEpoch, message));
    }
    let out_of_order = |expected: i32| {
        let message = format!(
            "Out of order sequence number for producer {}: {} (incoming), {expected} (expected)",
            batch.producer_id, batch.base_sequence,
        );
        Err(Refused::new(ErrorCode::OutOfOrderSequenceNumber, message))
    };
    let (first, last) = (batch.base_sequence, last_sequence(batch));
    // A producer without state may start at any sequence number: its state may have expired (KIP-360).
    let Some(known) = known else {
        return if joins && first != 0 { out_of_order(0) } else { Ok(Sequence::Next) };
    };
    if epoch > known.epoch {
        return if first == 0 { Ok(Sequence::Next) } else { out_of_order(0) };
    }
    // Clients of transaction version 1 give out the sequence numbers of what they have aborted again, although some of it
    // may have been stored. Kafka takes the new batch for the old one, and acknowledges records that it does not have.
    let same = |produced: &&ProducedBatch| {
        produced.first_sequence == first && produced.last_sequence == last && !produced.is_aborted
    };
    if let Some(original) = known.batches.iter().find(same) {
        return Ok(Sequence::Duplicate(*original));
    }
    // An epoch that a marker has begun has no batches yet.
    let expected = known.batches.last().map_or(0, |produced| sequence_after(produced.last_sequence, 1));
    if expected == first { Ok(Sequence::Next) } else { out_of_order(expected) }
}

/// Refuses a batch outside a transaction from a producer that has one open in the partition.
pub(crate) fn check_transactional(
    known: Option<&ProducerDocument>,
    batch: &BatchFacts,
) -> Result<(), Refused> {
    let has_open = known.is_some_and(|known| known.transaction.is_some());
    if has_open && !batch.is_transactional() {
        let message = format!("Expected transactional write from producer {}", batch.producer_id);
        return Err(Refused::new(ErrorCode::InvalidTxnState, message));
    }
    Ok(())
}

/// A producer's state after a batch.
pub(crate) fn remember(
    known: Option<&ProducerDocument>,
    batch: &BatchFacts,
    base_offset: i64,
    now_ms: i64,
) -> ProducerDocument {
    let epoch = batch.producer_epoch;
    let same_epoch = known.filter(|document| document.epoch == epoch);
    let mut batches = same_epoch.map(|document| document.batches.clone()).unwrap_or_default();
    if batches.len() == REMEMBERED_BATCHES {
        batches.remove(0);
    }
    batches.push(ProducedBatch {
        first_sequence: batch.base_sequence,
        last_sequence: last_sequence(batch),
        base_offset,
        is_aborted: false,
    });
    ProducerDocument {
        epoch,
        batches,
        last_ms: now_ms,
        transaction: known.and_then(|document| document.transaction),
        coordinator_epoch: known.and_then(|document| document.coordinator_epoch),
    }
}

/// A producer's state after the marker that ends its transaction, which was aborted from an offset on, or committed. The
/// marker's epoch fences earlier ones.
pub(crate) fn remember_marker(
    known: Option<&ProducerDocument>,
    epoch: i16,
    coordinator_epoch: i32,
    now_ms: i64,
    aborted_from: Option<i64>,
) -> ProducerDocument {
    let same_epoch = known.filter(|document| document.epoch >= epoch);
    let after_marker = |batch: &ProducedBatch| {
        let is_aborted = batch.is_aborted || aborted_from.is_some_and(|from| batch.base_offset >= from);
        ProducedBatch { is_aborted, ..*batch }
    };
    ProducerDocument {
        epoch: same_epoch.map_or(epoch, |document| document.epoch),
        batches: same_epoch.iter().flat_map(|document| &document.batches).map(after_marker).collect(),
        last_ms: now_ms,
        transaction: None,
        coordinator_epoch: Some(coordinator_epoch),
    }
}

/// The ids of a store follow each other from a multiple of this. Earlier releases began with 0.
const BLOCK_IDS: i64 = 1 << 20;

/// The first id of a store. Ids of different stores differ, so that logs and DescribeProducers tell their producers apart.
///
/// It has at most 52 bits, so that it is exact in a client that has only floating point numbers.
fn first_id(seed: u32) -> i64 {
    i64::from(seed.max(1)) * BLOCK_IDS
}

pub(crate) fn allocate_id(set: &mut WorkingSet<'_>, seed: u32) -> Outcome {
    Ok(Applied::Producer(next_id(set, seed)))
}

/// Takes the next producer id of the store.
pub(crate) fn next_id(set: &mut WorkingSet<'_>, seed: u32) -> ProducerId {
    let mut counters = set.get::<Counters>(&()).copied().unwrap_or_default();
    if counters.next_producer_id < BLOCK_IDS {
        counters.next_producer_id = first_id(seed);
    }
    let id = counters.next_producer_id;
    counters.next_producer_id += 1;
    set.put::<Counters>(&(), counters);
    ProducerId(id)
}

/// Puts an entry into the due index for the time when a producer expires, unless it produces again.
pub(crate) fn look_when_expired(
    set: &mut WorkingSet<'_>,
    key: &ProducerKey,
    producer: &ProducerDocument,
    now_ms: i64,
) {
    let at_ms = DueKey::time(producer.expires_ms(), now_ms);
    due::put(set, &DueSubject::Producer(key.clone()), Some(at_ms));
}

pub(crate) fn expire(
    set: &mut WorkingSet<'_>,
    key: &ProducerKey,
    taken_ms: Option<i64>,
    now_ms: i64,
) -> Outcome {
    due::delete(set, &DueSubject::Producer(key.clone()), taken_ms);
    // The state of producers goes with their partition, which an earlier command of the same commit may have deleted.
    let known = set.get_arc::<ProducerDocument>(key);
    let known = known.filter(|_| set.get::<PartitionDocument>(&key.partition).is_some());
    let Some(known) = known else { return Ok(Applied::ProducerExpired(false)) };
    let has_expired = known.transaction.is_none() && known.expires_ms() <= now_ms;
    if has_expired {
        set.delete::<ProducerDocument>(key);
    } else if known.transaction.is_some() {
        // Its marker will come, and is as good as a batch of now.
        look_when_expired(set, key, &ProducerDocument { last_ms: now_ms, ..(*known).clone() }, now_ms);
    } else {
        look_when_expired(set, key, &known, now_ms);
    }
    Ok(Applied::ProducerExpired(has_expired))
}
