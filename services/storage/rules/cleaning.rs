//! Compaction: a cleaner's steps, and when a log is looked at again. What stays of a batch is worked out by the cleaner.

use kernel::{ProducerId, TopicPartition};

use crate::commands::{Applied, AwaitCleaning, Clean, Effect, Outcome};
use crate::documents::{AbortedTransaction, DueSubject, LogTransactionKey, PartitionDocument};
use crate::due;
use crate::working_set::{Wanted, WorkingSet};

pub(crate) fn needs(wanted: &mut Wanted, clean: &Clean) {
    wanted.write::<PartitionDocument>(&clean.partition);
    for ended in &clean.ended {
        wanted.write::<AbortedTransaction>(&key_of(clean.partition, *ended));
    }
}

/// The key of an aborted transaction.
fn key_of(partition: TopicPartition, (offset, producer): (i64, i64)) -> LogTransactionKey {
    LogTransactionKey { partition, offset, producer: ProducerId(producer) }
}

/// Replaces batches, if the log is as the cleaner has read it.
///
/// Whoever replaces batches counts that in the same commit, so an equal count and log start offset mean that those that were
/// read are there.
pub(crate) fn clean(set: &mut WorkingSet<'_>, clean: &Clean) -> Outcome {
    let Some(mut log) = set.get::<PartitionDocument>(&clean.partition).copied() else {
        return Ok(Applied::Cleaned(false));
    };
    let mut cleaning = log.cleaning.unwrap_or_default();
    if cleaning.steps != clean.steps || !fits(&log, clean) {
        return Ok(Applied::Cleaned(false));
    }
    cleaning.steps += 1;
    if let Some(clean_end) = clean.clean_end {
        cleaning.clean_end = clean_end;
    }
    log.cleaning = Some(cleaning);
    set.put::<PartitionDocument>(&clean.partition, log);
    for ended in &clean.ended {
        set.delete::<AbortedTransaction>(&key_of(clean.partition, *ended));
    }
    for run in &clean.runs {
        set.effect(Effect::Clean { partition: clean.partition, run: run.clone() });
    }
    Ok(Applied::Cleaned(true))
}

/// Whether all runs are within the part of the log that may be cleaned, in order, and replaced without a gap.
fn fits(log: &PartitionDocument, clean: &Clean) -> bool {
    let mut at = None;
    let is_in_order = clean.runs.iter().all(|run| {
        let is_after = at.replace(run.until).is_none_or(|at| at <= run.from);
        is_after && run.until > log.log_start && run.is_whole()
    });
    is_in_order
        && log.log_start == clean.log_start
        && at.is_none_or(|end| end <= log.last_stable())
        && clean.clean_end.is_none_or(|end| (0..=log.last_stable()).contains(&end))
}

pub(crate) fn needs_to_wait(wanted: &mut Wanted, wait: &AwaitCleaning) {
    wanted.write::<PartitionDocument>(&wait.partition);
}

/// Ends a look at a log. It may have been appended to since: then it is looked at once more.
pub(crate) fn wait(set: &mut WorkingSet<'_>, wait: &AwaitCleaning) -> Outcome {
    let subject = DueSubject::Cleaning(wait.partition);
    due::delete(set, &subject, wait.taken_ms);
    let Some(mut log) = set.get::<PartitionDocument>(&wait.partition).copied() else {
        return Ok(Applied::Changed);
    };
    if log.end != wait.end {
        due::look_at_once(set, &subject);
        return Ok(Applied::Changed);
    }
    due::put(set, &subject, wait.next_ms);
    let cleaning = log.cleaning.get_or_insert_default();
    if !cleaning.look_after_append {
        cleaning.look_after_append = true;
        set.put::<PartitionDocument>(&wait.partition, log);
    }
    Ok(Applied::Changed)
}

/// Has a log looked at that was appended to, if that was waited for.
pub(crate) fn after_append(set: &mut WorkingSet<'_>, partition: TopicPartition, log: &mut PartitionDocument) {
    if let Some(cleaning) = log.cleaning.as_mut().filter(|cleaning| cleaning.look_after_append) {
        cleaning.look_after_append = false;
        due::look_at_once(set, &DueSubject::Cleaning(partition));
    }
}
