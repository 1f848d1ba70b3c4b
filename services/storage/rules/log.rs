//! Logs: idempotent appends, and advancing the log start offset.

use kernel::{ErrorCode, TopicPartition};

use crate::commands::{Append, Applied, Effect, Outcome, Refused};
use crate::documents::{PartitionDocument, ProducerDocument};
use crate::producers::{self, Sequence};
use crate::working_set::{Wanted, WorkingSet};

pub(crate) fn needs_to_append(wanted: &mut Wanted, append: &Append) {
    wanted.write::<PartitionDocument>(&append.partition);
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
    let Append { partition, batch, payload, now_ms, origin: _ } = append;
    let mut log = existing(set, *partition)?;
    let base_offset = log.end;
    if batch.is_idempotent() {
        let key = append.producer();
        let known = set.get::<ProducerDocument>(&key);
        if let Sequence::Duplicate(original) = producers::sequence(known, batch)? {
            let (base_offset, log_start) = (original.base_offset, log.log_start);
            return Ok(Applied::Appended { base_offset, log_start, is_duplicate: true });
        }
        let remembered = producers::remember(known, batch, base_offset, *now_ms);
        set.put::<ProducerDocument>(&key, remembered);
    }
    log.end = base_offset + i64::from(batch.record_count);
    set.put::<PartitionDocument>(partition, log);
    set.effect(Effect::Append {
        partition: *partition,
        base_offset,
        leader_epoch: log.leader_epoch,
        batch: *batch,
        payload: payload.clone(),
    });
    Ok(Applied::Appended { base_offset, log_start: log.log_start, is_duplicate: false })
}

pub(crate) fn advance_log_start(set: &mut WorkingSet<'_>, partition: TopicPartition, offset: i64) -> Outcome {
    let mut log = existing(set, partition)?;
    let target = if offset == -1 { log.end } else { offset };
    if target < 0 || target > log.end {
        let message = format!("Offset {offset} is not within the log, which ends at {}.", log.end);
        return Err(Refused::new(ErrorCode::OffsetOutOfRange, message));
    }
    if target > log.log_start {
        let was = std::mem::replace(&mut log.log_start, target);
        set.put::<PartitionDocument>(&partition, log);
        set.effect(Effect::Trim { partition, was, log_start: target });
    }
    Ok(Applied::LogStart(log.log_start))
}
