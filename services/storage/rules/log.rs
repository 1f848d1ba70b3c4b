//! Logs: idempotent appends, leader epochs, and advancing the log start offset: by a client, or by retention.

use kernel::{ErrorCode, TopicPartition};

use crate::cleaning;
use crate::commands::{Append, Applied, BatchFacts, Effect, Outcome, Payload, Refused, Retain};
use crate::documents::{
    AbortedTransaction, Counters, DocumentKind, DueSubject, EpochHistory, LogTransactionKey, OpenTransaction,
    PartitionDocument, ProducerDocument,
};
use crate::due;
use crate::producers::{self, Sequence};
use crate::transactions;
use crate::working_set::{Wanted, WorkingSet};

/// Aborted transactions that are deleted with the records that they are about, in one commit.
const ABORTED_AT_ONCE: usize = 256;

pub(crate) fn needs_to_append(wanted: &mut Wanted, append: &Append, set: &WorkingSet<'_>) {
    wanted.write::<PartitionDocument>(&append.partition);
    needs_to_begin_epoch(wanted, append.partition, append.leader_epoch, set);
    if append.batch.is_idempotent() {
        wanted.write::<ProducerDocument>(&append.producer());
    }
    transactions::needs_to_append(wanted, append);
}

/// What [`store`] needs beside the partition's document.
pub(crate) fn needs_to_begin_epoch(
    wanted: &mut Wanted,
    at: TopicPartition,
    leader_epoch: i32,
    set: &WorkingSet<'_>,
) {
    if set.get::<PartitionDocument>(&at).is_some_and(|log| leader_epoch > log.leader_epoch) {
        // Once for a partition and an opening of the store.
        wanted.write::<EpochHistory>(&at).write::<Counters>(&());
    }
}

fn existing(set: &WorkingSet<'_>, partition: TopicPartition) -> Result<PartitionDocument, Refused> {
    set.get::<PartitionDocument>(&partition).copied().ok_or_else(|| {
        Refused::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    })
}

pub(crate) fn append(set: &mut WorkingSet<'_>, append: &Append) -> Outcome {
    let Append { partition, payload, now_ms, leader_epoch, .. } = append;
    let mut log = existing(set, *partition)?;
    let joins = transactions::check_append(set, append)?;
    let batch = with_time(append.batch, &mut log, *now_ms);
    let (base_offset, log_start, max_timestamp) = (log.end, log.log_start, batch.max_timestamp);
    if batch.is_idempotent() {
        let key = append.producer();
        let known = set.get_arc::<ProducerDocument>(&key);
        if let Sequence::Duplicate(original) = producers::sequence(known.as_deref(), &batch, joins.is_some())?
        {
            let base_offset = original.base_offset;
            return Ok(Applied::Appended { base_offset, log_start, max_timestamp, is_duplicate: true });
        }
        producers::check_transactional(known.as_deref(), &batch)?;
        let mut remembered = producers::remember(known.as_deref(), &batch, base_offset, *now_ms);
        if let Some(transaction) = append.transaction.as_ref().filter(|_| batch.is_transactional())
            && remembered.transaction.is_none()
        {
            remembered.transaction = Some(base_offset);
            log.first_unstable = log.first_unstable.or(Some(base_offset));
            let key =
                LogTransactionKey { partition: *partition, offset: base_offset, producer: key.producer };
            let open = OpenTransaction {
                transactional_id: transaction.id.clone(),
                epoch: batch.producer_epoch,
                started_ms: *now_ms,
            };
            set.put::<OpenTransaction>(&key, open);
        }
        if known.is_none() {
            producers::look_when_expired(set, &key, &remembered, *now_ms);
        }
        set.put::<ProducerDocument>(&key, remembered);
    }
    if let Some(joins) = joins {
        transactions::join(set, joins, *now_ms);
    }
    let new = NewBatch { batch, payload: payload.clone(), now_ms: *now_ms, leader_epoch: *leader_epoch };
    store(set, *partition, log, new);
    Ok(Applied::Appended { base_offset, log_start, max_timestamp, is_duplicate: false })
}

/// A batch that is stored at the end of a log, with its header fields settled.
pub(crate) struct NewBatch {
    pub(crate) batch: BatchFacts,
    pub(crate) payload: Payload,
    pub(crate) now_ms: i64,
    pub(crate) leader_epoch: i32,
}

/// Stores a batch at the end of a log, and the log's document.
pub(crate) fn store(set: &mut WorkingSet<'_>, at: TopicPartition, mut log: PartitionDocument, new: NewBatch) {
    let NewBatch { batch, payload, now_ms, leader_epoch } = new;
    // A log with records is in the due index already, at the time of its first batch.
    if log.is_empty() || log.look_after_append {
        due::look_at_once(set, &DueSubject::Partition(at));
        log.look_after_append = false;
    }
    cleaning::after_append(set, at, &mut log);
    if leader_epoch > log.leader_epoch {
        begin_epoch(set, at, &mut log, leader_epoch);
    }
    let base_offset = log.end;
    log.end = base_offset + i64::from(batch.record_count);
    set.put::<PartitionDocument>(&at, log);
    set.effect(Effect::Append {
        partition: at,
        base_offset,
        leader_epoch: log.leader_epoch,
        batch,
        appended_ms: now_ms,
        payload,
    });
}

/// Settles the log append time of a batch that has one. It never goes back within a partition: consumers that seek by
/// time, and retention, rely on its order.
pub(crate) fn with_time(batch: BatchFacts, log: &mut PartitionDocument, now_ms: i64) -> BatchFacts {
    if !batch.has_append_time() {
        return batch;
    }
    let append_time_ms = log.append_time_ms.map_or(now_ms, |last| last.max(now_ms));
    log.append_time_ms = Some(append_time_ms);
    BatchFacts { max_timestamp: append_time_ms, ..batch }
}

/// Records the leader epoch that the next record of a partition is the first of, and that the store has used it.
fn begin_epoch(set: &mut WorkingSet<'_>, at: TopicPartition, log: &mut PartitionDocument, epoch: i32) {
    let mut history = set.get::<EpochHistory>(&at).cloned().unwrap_or_default();
    if history.is_empty() && log.end > log.log_start {
        history.begin(log.leader_epoch, log.log_start);
    }
    history.begin(epoch, log.end);
    history.trim(log.log_start);
    log.leader_epoch = epoch;
    set.put::<EpochHistory>(&at, history);
    record_epoch(set, epoch);
}

/// Records that the store has used a leader epoch. It never goes back.
pub(crate) fn record_epoch(set: &mut WorkingSet<'_>, epoch: i32) {
    let mut counters = set.get::<Counters>(&()).copied().unwrap_or_default();
    if counters.leader_epoch < epoch {
        counters.leader_epoch = epoch;
        set.put::<Counters>(&(), counters);
    }
}

/// What advancing the log start offset needs: what it deletes with the records.
pub(crate) fn needs_to_trim(wanted: &mut Wanted, partition: TopicPartition) {
    wanted.write::<PartitionDocument>(&partition);
    wanted.first(AbortedTransaction::of_partition(partition), ABORTED_AT_ONCE);
}

pub(crate) fn advance_log_start(set: &mut WorkingSet<'_>, partition: TopicPartition, offset: i64) -> Outcome {
    let mut log = existing(set, partition)?;
    let target = if offset == -1 { log.end } else { offset };
    if target < 0 || target > log.end {
        let message = format!("Offset {offset} is not within the log, which ends at {}.", log.end);
        return Err(Refused::new(ErrorCode::OffsetOutOfRange, message));
    }
    if target > log.log_start {
        trim(set, partition, &mut log, target);
        set.put::<PartitionDocument>(&partition, log);
        let has_more = delete_aborted(set, partition, log.log_start);
        if !log.is_empty() || has_more {
            // The batch that is the first one now may be older than the one that was.
            due::look_at_once(set, &DueSubject::Partition(partition));
        }
    }
    Ok(Applied::LogStart(log.log_start))
}

fn trim(set: &mut WorkingSet<'_>, partition: TopicPartition, log: &mut PartitionDocument, log_start: i64) {
    let was = std::mem::replace(&mut log.log_start, log_start);
    set.effect(Effect::Trim { partition, was, log_start });
}

/// Deletes aborted transactions whose records were all deleted, some at a time; returns whether there may be more of them.
fn delete_aborted(set: &mut WorkingSet<'_>, partition: TopicPartition, log_start: i64) -> bool {
    let first = set.first(&AbortedTransaction::of_partition(partition), ABORTED_AT_ONCE).unwrap_or_default();
    let keys = first.iter().filter_map(AbortedTransaction::parse_key);
    let gone: Vec<LogTransactionKey> = keys.take_while(|key| key.offset < log_start).collect();
    gone.iter().for_each(|key| set.delete::<AbortedTransaction>(key));
    gone.len() == ABORTED_AT_ONCE
}

/// Applies what a look at the log has found. The log may have been appended to since, or trimmed by a client, who has then
/// put an entry of its own.
pub(crate) fn retain(set: &mut WorkingSet<'_>, retain: &Retain) -> Outcome {
    let subject = DueSubject::Partition(retain.partition);
    due::delete(set, &subject, retain.taken_ms);
    let Some(stored) = set.get::<PartitionDocument>(&retain.partition).copied() else {
        return Ok(Applied::Retained { has_more: false });
    };
    let mut log = stored;
    if let Some(log_start) = retain.log_start.filter(|start| (log.log_start + 1..=log.end).contains(start)) {
        trim(set, retain.partition, &mut log, log_start);
    }
    let has_more = delete_aborted(set, retain.partition, log.log_start);
    if has_more {
        // Whoever retains goes on at once; this is for when it cannot.
        due::look_at_once(set, &subject);
    }
    // Such an append has found a log that was not empty, and no mark to be looked at: it has put no entry.
    let is_newer = log.end != retain.end;
    if is_newer && (retain.after_append || retain.log_start == Some(retain.end)) {
        due::look_at_once(set, &subject);
    } else {
        log.look_after_append = retain.after_append;
        due::put(set, &subject, retain.next_ms);
    }
    if log != stored {
        set.put::<PartitionDocument>(&retain.partition, log);
    }
    Ok(Applied::Retained { has_more })
}

/// Deletes some more of the aborted transactions whose records were deleted.
pub(crate) fn forget_aborted(set: &mut WorkingSet<'_>, partition: TopicPartition) -> Outcome {
    let log_start = existing(set, partition)?.log_start;
    Ok(Applied::Retained { has_more: delete_aborted(set, partition, log_start) })
}
