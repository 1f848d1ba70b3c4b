//! Reads the partitions of a fetch once.
//!
//! The partition documents are read first. They show whether a position is valid and about how many bytes
//! there are to read: a consumer at the end of its partitions takes a few KiB of reply memory instead of 50
//! MiB. A batch larger than the memory taken is read again with enough memory.

use bytes::Bytes;
use kernel::budget::Lease;
use kernel::records::Batch;
use kernel::{ErrorCode, TopicPartition};
use rules::documents::PartitionDocument;

use super::FetchTerms;
use super::partition::{FetchResult, Fetched, PartitionRef, Position};
use crate::apis::common::epochs::{check_leader_epoch, end_of_epoch};
use crate::broker::Broker;
use crate::engines::{ReadFrom, ReadOutcome, ReadSpec, StoreError};

/// Added to the estimate for each partition, so that a few records of unusual size do not cut a read short.
const SLACK_BYTES: usize = 16 << 10;

/// A partition that exists.
pub(super) struct KnownPartition {
    pub(super) place: PartitionRef,
    pub(super) position: Position,
    pub(super) at: TopicPartition,
}

/// The result of one pass over the partitions.
pub(super) struct ReadPass {
    /// All partitions of the pass, in order.
    pub(super) fetched: Vec<Fetched>,
    /// Total size of their batches.
    pub(super) bytes: usize,
    /// The reply memory they take.
    pub(super) lease: Lease,
    /// Whether a limit cut the read short.
    is_cut: bool,
}

impl ReadPass {
    /// Whether to answer now. If a limit cut the read short, waiting would add nothing.
    pub(super) fn is_enough(&self, bytes_min: usize) -> bool {
        let is_urgent = |fetched: &Fetched| fetched.found.is_urgent();
        self.bytes >= bytes_min || self.is_cut || self.fetched.iter().any(is_urgent)
    }
}

/// A partition after its document was checked.
enum CheckedPartition {
    /// There is nothing to read.
    Done(FetchResult),
    /// There are records to read.
    Readable(ReadSpec, PartitionDocument),
}

impl CheckedPartition {
    /// The read and its partition, if there are records.
    fn readable(&self) -> Option<(&ReadSpec, &PartitionDocument)> {
        match self {
            CheckedPartition::Done(_) => None,
            CheckedPartition::Readable(spec, log) => Some((spec, log)),
        }
    }
}

/// Checks and reads all partitions.
pub(super) async fn pass(
    broker: &Broker,
    known: &[KnownPartition],
    terms: FetchTerms,
) -> Result<ReadPass, StoreError> {
    let logs = broker.store.logs(known.iter().map(|known| known.at).collect()).await?;
    let checked: Vec<CheckedPartition> = known
        .iter()
        .map(|known| {
            let log = logs.get(&known.at).ok_or(ErrorCode::UnknownTopicOrPartition);
            let partition = log.and_then(|log| check(known, log, terms.is_replica));
            partition.unwrap_or_else(|error| CheckedPartition::Done(FetchResult::Failed(error)))
        })
        .collect();
    let (outcomes, lease) = fill(broker, &checked, terms).await?;
    let is_cut = outcomes.iter().any(is_cut);
    let mut outcomes = outcomes.into_iter();
    let mut found = |partition: CheckedPartition| match partition {
        CheckedPartition::Done(found) => found,
        CheckedPartition::Readable(..) => {
            outcomes.next().map_or(FetchResult::Failed(ErrorCode::UnknownServerError), found_in)
        }
    };
    let fetched = |(known, partition): (&KnownPartition, CheckedPartition)| {
        let (place, position) = (known.place.clone(), known.position);
        Fetched { place, position, found: found(partition) }
    };
    let fetched: Vec<Fetched> = known.iter().zip(checked).map(fetched).collect();
    let bytes = fetched.iter().map(|fetched| fetched.found.bytes()).sum();
    Ok(ReadPass { fetched, bytes, lease, is_cut })
}

/// The checks are in Kafka's order.
fn check(
    known: &KnownPartition,
    log: &PartitionDocument,
    is_replica: bool,
) -> Result<CheckedPartition, ErrorCode> {
    let position = known.position;
    if is_replica {
        return Err(not_a_replica(position));
    }
    check_leader_epoch(position.leader_epoch, log)?;
    let (high_watermark, log_start) = (log.end, log.log_start);
    if let Some(epoch) = position.last_fetched_epoch {
        let (epoch, end_offset) = end_of_epoch(log, epoch).ok_or(ErrorCode::OffsetOutOfRange)?;
        if end_offset < position.offset {
            return Ok(CheckedPartition::Done(FetchResult::Diverging {
                epoch,
                end_offset,
                high_watermark,
                log_start,
            }));
        }
    }
    if position.offset < log_start || position.offset > high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if position.offset == high_watermark {
        return Ok(CheckedPartition::Done(FetchResult::Read {
            high_watermark,
            log_start,
            batches: Vec::new(),
        }));
    }
    let from = ReadFrom::Offset(position.offset);
    Ok(CheckedPartition::Readable(
        ReadSpec { partition: known.at, from, bytes_max: position.bytes_max },
        *log,
    ))
}

/// No broker replicates from Yagura. Kafka's answer makes an unknown replica refresh its metadata.
fn not_a_replica(position: Position) -> ErrorCode {
    match position.leader_epoch {
        Some(_) => ErrorCode::UnknownLeaderEpoch,
        None => ErrorCode::NotLeaderOrFollower,
    }
}

/// Reads the readable partitions, and takes the reply memory for them.
async fn fill(
    broker: &Broker,
    checked: &[CheckedPartition],
    terms: FetchTerms,
) -> Result<(Vec<ReadOutcome>, Lease), StoreError> {
    let ready: Vec<(&ReadSpec, &PartitionDocument)> =
        checked.iter().filter_map(CheckedPartition::readable).collect();
    if ready.is_empty() {
        return Ok((Vec::new(), Lease::default()));
    }
    let specs: Vec<ReadSpec> = ready.iter().map(|(spec, _)| **spec).collect();
    let engine = broker.store.engine().await?;
    let sizes = engine.sizes(specs.iter().map(|spec| spec.partition).collect()).await?;
    let likely = ready.iter().zip(sizes).map(|((spec, log), bytes)| likely_bytes(spec, log, bytes));
    let likely = likely.fold(0, usize::saturating_add);
    let pool = broker.replies.bytes_max();
    let mut bytes_max = likely.max(terms.bytes_min).min(terms.bytes_max).min(pool);
    loop {
        let lease = broker.replies.take(bytes_max).await;
        let outcomes = broker.store.read(specs.clone(), bytes_max).await?;
        let bytes: usize = outcomes.iter().map(bytes_of).sum();
        // A batch larger than the whole pool takes the whole pool.
        if bytes <= bytes_max || bytes_max >= pool {
            return Ok((outcomes, lease));
        }
        bytes_max = bytes;
    }
}

/// Twice the bytes from the offset on, estimated as if all records had the same size.
fn likely_bytes(spec: &ReadSpec, log: &PartitionDocument, log_bytes: u64) -> usize {
    let ReadFrom::Offset(offset) = spec.from else { return spec.bytes_max };
    let all = i128::from(log.end - log.log_start).max(1);
    let left = i128::from(log.end - offset).clamp(0, all);
    let share = i128::from(log_bytes) * left / all;
    let likely = usize::try_from(2 * share).unwrap_or(usize::MAX).saturating_add(SLACK_BYTES);
    likely.min(spec.bytes_max)
}

fn bytes_of(outcome: &ReadOutcome) -> usize {
    match outcome {
        ReadOutcome::Read { batches, .. } => batches.iter().map(Bytes::len).sum(),
        ReadOutcome::OutOfRange { .. } | ReadOutcome::UnknownPartition | ReadOutcome::Failed(_) => 0,
    }
}

/// Whether the read ended before the end of the log. No batch at all counts: there were records to read.
fn is_cut(outcome: &ReadOutcome) -> bool {
    let ReadOutcome::Read { high_watermark, batches, .. } = outcome else { return false };
    let next = batches.last().and_then(|batch| Batch::split_first(&mut batch.clone()));
    next.is_none_or(|batch| batch.next_offset() < *high_watermark)
}

fn found_in(outcome: ReadOutcome) -> FetchResult {
    match outcome {
        ReadOutcome::Read { high_watermark, log_start, batches } => {
            FetchResult::Read { high_watermark, log_start, batches }
        }
        ReadOutcome::OutOfRange { .. } => FetchResult::Failed(ErrorCode::OffsetOutOfRange),
        ReadOutcome::UnknownPartition => FetchResult::Failed(ErrorCode::UnknownTopicOrPartition),
        // The engine has logged the error.
        ReadOutcome::Failed(_) => FetchResult::Failed(ErrorCode::KafkaStorageError),
    }
}
