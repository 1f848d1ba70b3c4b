//! Logs: idempotent appends, leader epochs, and advancing the log start offset: by a client, or by retention.

use kernel::{ErrorCode, TopicPartition};

use crate::commands::{Append, Applied, BatchFacts, Effect, Outcome, Refused, Retain};
use crate::documents::{Counters, DueSubject, EpochHistory, PartitionDocument, ProducerDocument};
use crate::due;
use crate::producers::{self, Sequence};
use crate::working_set::{Wanted, WorkingSet};

pub(crate) fn needs_to_append(wanted: &mut Wanted, append: &Append, set: &WorkingSet<'_>) {
    wanted.write::<PartitionDocument>(&append.partition);
    let log = set.get::<PartitionDocument>(&append.partition);
    if log.is_some_and(|log| append.leader_epoch > log.leader_epoch) {
        // Once for a partition and an opening of the store.
        wanted.write::<EpochHistory>(&append.partition).write::<Counters>(&());
    }
    if append.batch.is_idempotent() {
        wanted.write::<ProducerDocument>(&append.producer());
    }
}

fn existing(set: &WorkingSet<'_>, partition: TopicPartition) -> Result<PartitionDocument, Refused> {
    set.get::<PartitionDocument>(&partition).copied().ok_or_else(|| {
        Refused::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    })
}

pub(crate) fn append(set: &mut WorkingSet<'_>, append: &Append) -> Outcome {
    let Append { partition, payload, now_ms, .. } = append;
    let mut log = existing(set, *partition)?;
    let batch = with_time(append.batch, &mut log, *now_ms);
    let (base_offset, log_start, max_timestamp) = (log.end, log.log_start, batch.max_timestamp);
    if batch.is_idempotent() {
        let key = append.producer();
        let known = set.get::<ProducerDocument>(&key);
        if let Sequence::Duplicate(original) = producers::sequence(known, &batch)? {
            let base_offset = original.base_offset;
            return Ok(Applied::Appended { base_offset, log_start, max_timestamp, is_duplicate: true });
        }
        let is_new = known.is_none();
        let remembered = producers::remember(known, &batch, base_offset, *now_ms);
        if is_new {
            producers::look_when_expired(set, &key, &remembered, *now_ms);
        }
        set.put::<ProducerDocument>(&key, remembered);
    }
    // A log with records is in the due index already, at the time of its first batch.
    if log.is_empty() || log.look_after_append {
        due::look_at_once(set, &DueSubject::Partition(*partition));
        log.look_after_append = false;
    }
    if append.leader_epoch > log.leader_epoch {
        begin_epoch(set, *partition, &mut log, append.leader_epoch);
    }
    log.end = base_offset + i64::from(batch.record_count);
    set.put::<PartitionDocument>(partition, log);
    set.effect(Effect::Append {
        partition: *partition,
        base_offset,
        leader_epoch: log.leader_epoch,
        batch,
        appended_ms: *now_ms,
        payload: payload.clone(),
    });
    Ok(Applied::Appended { base_offset, log_start, max_timestamp, is_duplicate: false })
}

/// Settles the log append time of a batch that has one. It never goes back within a partition: consumers that seek by
/// time, and retention, rely on its order.
fn with_time(batch: BatchFacts, log: &mut PartitionDocument, now_ms: i64) -> BatchFacts {
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
        if !log.is_empty() {
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

/// Applies what a look at the log has found. The log may have been appended to since, or trimmed by a client, who has then
/// put an entry of its own.
pub(crate) fn retain(set: &mut WorkingSet<'_>, retain: &Retain) -> Outcome {
    let subject = DueSubject::Partition(retain.partition);
    due::delete(set, &subject, retain.taken_ms);
    let Some(stored) = set.get::<PartitionDocument>(&retain.partition).copied() else {
        return Ok(Applied::Changed);
    };
    let mut log = stored;
    if let Some(log_start) = retain.log_start.filter(|start| (log.log_start + 1..=log.end).contains(start)) {
        trim(set, retain.partition, &mut log, log_start);
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
    Ok(Applied::Changed)
}
