//! Looks at the partitions of a fetch once.
//!
//! Their documents come first. They tell what is wrong with a position, and about how many bytes there are to read:
//! a consumer at the end of its partitions gets by with a few KiB of reply memory, where it would take 50 MiB. A batch
//! that turns out larger than what was taken is read again with enough.

use bytes::Bytes;
use kernel::budget::Lease;
use kernel::records::Batch;
use kernel::{ErrorCode, TopicPartition};

use super::Terms;
use super::partition::{FetchResult, Fetched, PartitionRef, Position};
use crate::apis::common::epochs::{check_leader_epoch, end_of_epoch};
use crate::broker::Broker;
use crate::engines::{From, ReadOutcome, ReadSpec, StoreError};
use rules::documents::PartitionDocument;

/// Taken beside the estimate for each partition, so that a few records of unusual size do not cut a read short.
const SLACK_BYTES: usize = 16 << 10;

/// A partition that exists.
pub(super) struct Known {
    pub(super) place: PartitionRef,
    pub(super) position: Position,
    pub(super) at: TopicPartition,
}

/// What one look gave.
pub(super) struct Pass {
    /// All partitions that were looked at, in their order.
    pub(super) fetched: Vec<Fetched>,
    /// Bytes of their batches.
    pub(super) bytes: usize,
    /// The reply memory they take.
    pub(super) lease: Lease,
    /// Whether there was more to read than fitted.
    is_cut: bool,
}

impl Pass {
    /// Whether the client is to be answered now. Where a limit cut the read short, waiting would bring no more.
    pub(super) fn is_enough(&self, bytes_min: usize) -> bool {
        let is_urgent = |fetched: &Fetched| fetched.found.is_urgent();
        self.bytes >= bytes_min || self.is_cut || self.fetched.iter().any(is_urgent)
    }
}

/// A partition after a look at its document.
enum Look {
    /// There is nothing to read.
    Told(FetchResult),
    /// There are records.
    Ready(ReadSpec, PartitionDocument),
}

impl Look {
    /// The read, if there are records, and the log that it is of.
    fn ready(&self) -> Option<(&ReadSpec, &PartitionDocument)> {
        match self {
            Look::Told(_) => None,
            Look::Ready(spec, log) => Some((spec, log)),
        }
    }
}

/// Looks at all partitions.
pub(super) async fn pass(broker: &Broker, known: &[Known], terms: Terms) -> Result<Pass, StoreError> {
    let logs = broker.store.logs(known.iter().map(|known| known.at).collect()).await?;
    let looks: Vec<Look> = known
        .iter()
        .map(|known| {
            let log = logs.get(&known.at).ok_or(ErrorCode::UnknownTopicOrPartition);
            let look = log.and_then(|log| look(known, log, terms.is_replica));
            look.unwrap_or_else(|error| Look::Told(FetchResult::Failed(error)))
        })
        .collect();
    let (outcomes, lease) = fill(broker, &looks, terms).await?;
    let is_cut = outcomes.iter().any(is_cut);
    let mut outcomes = outcomes.into_iter();
    let mut found = |look: Look| match look {
        Look::Told(found) => found,
        Look::Ready(..) => {
            outcomes.next().map_or(FetchResult::Failed(ErrorCode::UnknownServerError), found_in)
        }
    };
    let fetched = |(known, look): (&Known, Look)| {
        let (place, position) = (known.place.clone(), known.position);
        Fetched { place, position, found: found(look) }
    };
    let fetched: Vec<Fetched> = known.iter().zip(looks).map(fetched).collect();
    let bytes = fetched.iter().map(|fetched| fetched.found.bytes()).sum();
    Ok(Pass { fetched, bytes, lease, is_cut })
}

/// The checks stand in Kafka's order.
fn look(known: &Known, log: &PartitionDocument, is_replica: bool) -> Result<Look, ErrorCode> {
    let position = known.position;
    if is_replica {
        return Err(not_a_replica(position));
    }
    check_leader_epoch(position.leader_epoch, log)?;
    let (high_watermark, log_start) = (log.end, log.log_start);
    if let Some(epoch) = position.last_fetched_epoch {
        let (epoch, end_offset) = end_of_epoch(log, epoch).ok_or(ErrorCode::OffsetOutOfRange)?;
        if end_offset < position.offset {
            return Ok(Look::Told(FetchResult::Diverging { epoch, end_offset, high_watermark, log_start }));
        }
    }
    if position.offset < log_start || position.offset > high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    if position.offset == high_watermark {
        return Ok(Look::Told(FetchResult::Read { high_watermark, log_start, batches: Vec::new() }));
    }
    let from = From::Offset(position.offset);
    Ok(Look::Ready(ReadSpec { partition: known.at, from, bytes_max: position.bytes_max }, *log))
}

/// No broker replicates from Yagura. Kafka tells a broker that it does not know to look at its metadata again.
fn not_a_replica(position: Position) -> ErrorCode {
    match position.leader_epoch {
        Some(_) => ErrorCode::UnknownLeaderEpoch,
        None => ErrorCode::NotLeaderOrFollower,
    }
}

/// Reads those that are ready, with the reply memory that it takes.
async fn fill(
    broker: &Broker,
    looks: &[Look],
    terms: Terms,
) -> Result<(Vec<ReadOutcome>, Lease), StoreError> {
    let ready: Vec<(&ReadSpec, &PartitionDocument)> = looks.iter().filter_map(Look::ready).collect();
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
        // A batch larger than all of the pool is sent with all of the pool.
        if bytes <= bytes_max || bytes_max >= pool {
            return Ok((outcomes, lease));
        }
        bytes_max = bytes;
    }
}

/// Twice the bytes that the records from the offset on would have if all were alike.
fn likely_bytes(spec: &ReadSpec, log: &PartitionDocument, log_bytes: u64) -> usize {
    let From::Offset(offset) = spec.from else { return spec.bytes_max };
    let all = i128::from(log.end - log.log_start).max(1);
    let left = i128::from(log.end - offset).clamp(0, all);
    let share = i128::from(log_bytes) * left / all;
    let likely = usize::try_from(2 * share).unwrap_or(usize::MAX).saturating_add(SLACK_BYTES);
    likely.min(spec.bytes_max)
}

fn bytes_of(outcome: &ReadOutcome) -> usize {
    match outcome {
        ReadOutcome::Read { batches, .. } => batches.iter().map(Bytes::len).sum(),
        ReadOutcome::OutOfRange { .. } | ReadOutcome::UnknownPartition => 0,
    }
}

/// Whether the read ended before the log did. It was ready, so it had records to give.
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
    }
}
