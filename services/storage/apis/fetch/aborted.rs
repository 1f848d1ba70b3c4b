//! The aborted transactions in what is read for readers of committed records: they must be known before the reply is sent,
//! also those in the records that are only located.
//!
//! Most reads have none, which the engine tells with the outcome. A list is as long as there are transactions, so it is
//! bounded: a read whose list would be too long is done again with fewer batches. What one batch needs in any case is not cut.

use std::ops::Range;

use kernel::ErrorCode;
use kernel::budget::Lease;

use super::outcome::{bytes_of, bytes_read, next_offset};
use crate::broker::Broker;
use crate::engines::{Isolation, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, StoreError};
use crate::store::Aborted;

/// Reply memory for one of them: in the list, in the response before it is encoded, and encoded.
const ENTRY_BYTES: usize = 80;
/// Of all partitions of a reply. One batch is always returned with its list: it has as many as were open at a time.
const ENTRIES_MAX: usize = 1_024;

/// Reply memory for the lists, which is drawn before anything is read.
pub(super) const LISTS_BYTES_MAX: usize = ENTRY_BYTES * ENTRIES_MAX;

/// The lists of the outcomes of a read, in their order.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) each: Vec<Vec<Aborted>>,
    entries: usize,
}

impl Lists {
    /// So many empty ones.
    pub(super) fn without(count: usize) -> Self {
        Self { each: vec![Vec::new(); count], entries: 0 }
    }

    /// The reply memory they take.
    pub(super) fn bytes(&self) -> usize {
        ENTRY_BYTES * self.entries
    }

    /// Draws reply memory for what exceeds [`LISTS_BYTES_MAX`]. It is not waited for: if there is none, what has a list is
    /// left out, and the client asks again.
    pub(super) fn overdraw(&mut self, broker: &Broker, outcomes: &mut [ReadOutcome]) -> Lease {
        let over = self.bytes().saturating_sub(LISTS_BYTES_MAX);
        if over == 0 {
            return Lease::default();
        }
        broker.replies.try_take(over).unwrap_or_else(|| {
            let listed = self.each.iter().zip(outcomes).filter(|(list, _)| !list.is_empty());
            listed.for_each(|(_, outcome)| leave_out(outcome));
            *self = Self::without(self.each.len());
            Lease::default()
        })
    }
}

/// The offsets that were read, if there may be aborted records among them that the reader has to skip.
fn range(spec: &ReadSpec, outcome: &ReadOutcome) -> Option<Range<i64>> {
    let (ReadFrom::Offset(from), Isolation::ReadCommitted) = (spec.from, spec.isolation) else { return None };
    let ReadOutcome::Read { last_aborted: Some(last), .. } = outcome else { return None };
    Some(from..next_offset(outcome)?).filter(|_| *last >= from)
}

/// Whether any outcome needs a list.
pub(super) fn are_needed(specs: &[ReadSpec], outcomes: &[ReadOutcome]) -> bool {
    specs.iter().zip(outcomes).any(|(spec, outcome)| range(spec, outcome).is_some())
}

/// The lists of the outcomes. An outcome changes if its list would be too long, or the log has been trimmed or
/// compacted meanwhile.
pub(super) async fn lists(
    broker: &Broker,
    specs: &[ReadSpec],
    outcomes: &mut [ReadOutcome],
) -> Result<Lists, StoreError> {
    let (mut lists, mut read) = (Lists::default(), Vec::new());
    for (index, (spec, outcome)) in specs.iter().zip(outcomes.iter_mut()).enumerate() {
        if range(spec, outcome).is_some() {
            read.push(index);
        }
        let found = list(broker, spec, &mut *outcome, lists.entries).await;
        let found = found.unwrap_or_else(|failure| {
            // Without its list a partition cannot be read; the others of the call can.
            *outcome = ReadOutcome::Failed(failure);
            Vec::new()
        });
        lists.entries += found.len();
        lists.each.push(found);
    }
    if !read.is_empty() {
        check_starts(broker, specs, outcomes, &read).await?;
    }
    Ok(lists)
}

/// The list of one outcome, beside `entries` of others.
async fn list(
    broker: &Broker,
    spec: &ReadSpec,
    outcome: &mut ReadOutcome,
    entries: usize,
) -> Result<Vec<Aborted>, StoreError> {
    let (mut bytes_max, mut limit) = (bytes_of(outcome), ENTRIES_MAX.saturating_sub(entries));
    let mut may_be_longer = entries == 0;
    while let Some(range) = range(spec, outcome) {
        if let Some(list) = broker.store.aborted(spec.partition, range, limit).await? {
            return Ok(list);
        }
        if may_be_longer {
            // One batch is always returned. If it has a long list, as many batches go with it as make that twice as long:
            // else a reader would get the same long list with each batch.
            limit = limit.max(2 * length_of_one(broker, spec).await?);
            may_be_longer = false;
            continue;
        }
        if bytes_max == 0 {
            // The client asks for it again, and gets it first.
            leave_out(outcome);
            break;
        }
        bytes_max /= 4;
        *outcome = read(broker, spec, ReadLimits { bytes_max, now_max: bytes_read(outcome) }).await?;
    }
    Ok(Vec::new())
}

/// How long the list of the first batch alone is: as many transactions as were open at a time.
async fn length_of_one(broker: &Broker, spec: &ReadSpec) -> Result<usize, StoreError> {
    let one = read(broker, spec, ReadLimits { bytes_max: 0, now_max: 0 }).await?;
    let Some(range) = range(spec, &one) else { return Ok(0) };
    let list = broker.store.aborted(spec.partition, range, usize::MAX).await?;
    Ok(list.map_or(0, |list| list.len()))
}

/// Reads less of what was read, at least one batch.
async fn read(broker: &Broker, spec: &ReadSpec, limits: ReadLimits) -> Result<ReadOutcome, StoreError> {
    let fewer = ReadSpec { bytes_max: spec.bytes_max.min(limits.bytes_max), ..*spec };
    let read = broker.store.read(vec![fewer], limits).await?;
    Ok(read.into_iter().next().unwrap_or(ReadOutcome::UnknownPartition))
}

fn leave_out(outcome: &mut ReadOutcome) {
    if let ReadOutcome::Read { batches, rest, .. } = outcome {
        (*batches, *rest) = (Vec::new(), None);
    }
}

/// What is deleted of a log takes the aborted transactions in it along. If that has happened since the read, a list may
/// lack some: then the records are gone as well, and the client is told so. Compaction forgets them too, once their records
/// are gone, but those that were read before may have some: then nothing is sent, and the client asks again.
async fn check_starts(
    broker: &Broker,
    specs: &[ReadSpec],
    outcomes: &mut [ReadOutcome],
    read: &[usize],
) -> Result<(), StoreError> {
    let logs = broker.store.logs(read.iter().map(|index| specs[*index].partition).collect()).await?;
    let is_read = |index: &&usize| matches!(outcomes[**index], ReadOutcome::Read { .. });
    let read: Vec<usize> = read.iter().filter(is_read).copied().collect();
    for index in read {
        let spec = &specs[index];
        match logs.get(spec.partition) {
            Ok(log) if matches!(spec.from, ReadFrom::Offset(from) if from >= log.log_start) => {
                let steps = log.cleaning_steps();
                if matches!(&outcomes[index], ReadOutcome::Read { cleaning_steps, .. } if *cleaning_steps != steps)
                {
                    leave_out(&mut outcomes[index]);
                }
            }
            Ok(log) => {
                let (log_start, high_watermark) = (log.log_start, log.end);
                outcomes[index] = ReadOutcome::OutOfRange { log_start, high_watermark };
            }
            Err(ErrorCode::UnknownTopicOrPartition) => outcomes[index] = ReadOutcome::UnknownPartition,
            Err(_) => {
                let cause = "the log of a partition could not be read again".to_owned();
                outcomes[index] = ReadOutcome::Failed(StoreError(cause));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::{Ticket, TopicPartition};
    use rules::commands::{Applied, Clean, Command};

    use super::*;
    use crate::apis::testing::{broker, topic};
    use crate::apis::testing_transactions::Transactional;

    /// Reads everything of a partition with an aborted transaction, which ends at offset 2.
    async fn read_aborted() -> (Arc<Broker>, TopicPartition, Vec<ReadSpec>, Vec<ReadOutcome>) {
        let broker = broker().await;
        let at = topic(&broker, "t", 1, &[]).await.partition(0).unwrap();
        let mut producer = Transactional::new(&broker, "x").await;
        producer.append(at, 2).await;
        producer.end(false).await;
        let isolation = Isolation::ReadCommitted;
        let spec = ReadSpec { partition: at, from: ReadFrom::Offset(0), bytes_max: 1 << 20, isolation };
        let outcomes = broker.store.read(vec![spec], ReadLimits::all_now(1 << 20)).await.unwrap();
        assert!(are_needed(&[spec], &outcomes));
        (broker, at, vec![spec], outcomes)
    }

    #[tokio::test]
    async fn a_list_that_may_lack_what_was_trimmed_meanwhile_is_not_sent() {
        let (broker, _, specs, mut outcomes) = read_aborted().await;
        let found = lists(&broker, &specs, &mut outcomes).await.unwrap();
        assert_eq!((found.each[0].len(), found.bytes()), (1, ENTRY_BYTES));
        assert!(matches!(outcomes[0], ReadOutcome::Read { .. }));

        let (broker, partition, specs, mut outcomes) = read_aborted().await;
        let trim = Command::AdvanceLogStart { partition, offset: 3 };
        broker.store.commit_one(&Ticket::only(), trim).await.unwrap().unwrap();
        lists(&broker, &specs, &mut outcomes).await.unwrap();
        assert_eq!(outcomes, [ReadOutcome::OutOfRange { log_start: 3, high_watermark: 3 }]);

        let (broker, partition, specs, mut outcomes) = read_aborted().await;
        let delete = Command::DeleteTopic { id: partition.topic };
        broker.store.commit_one(&Ticket::only(), delete).await.unwrap().unwrap();
        lists(&broker, &specs, &mut outcomes).await.unwrap();
        assert_eq!(outcomes, [ReadOutcome::UnknownPartition]);
    }

    #[tokio::test]
    async fn a_list_that_may_lack_what_compaction_has_forgotten_meanwhile_is_not_sent() {
        let (broker, partition, specs, mut outcomes) = read_aborted().await;
        let found = lists(&broker, &specs, &mut outcomes).await.unwrap();
        let ended = vec![(2, found.each[0][0].producer.0)];
        let clean = Clean { partition, steps: 0, log_start: 0, runs: Vec::new(), ended, clean_end: None };
        let done = broker.store.commit_one(&Ticket::only(), Command::Clean(clean)).await.unwrap();
        assert_eq!(done, Ok(Applied::Cleaned(true)));
        let found = lists(&broker, &specs, &mut outcomes).await.unwrap();
        assert!(found.each[0].is_empty(), "it is forgotten");
        assert!(matches!(&outcomes[0], ReadOutcome::Read { batches, .. } if batches.is_empty()));
    }
}
