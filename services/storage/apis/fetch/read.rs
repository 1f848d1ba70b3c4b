//! Reads the partitions of a fetch once.
//!
//! The partition documents are read first: they show whether a position is valid. A few batches are read at once, which
//! is all for a consumer at the end of its partitions; what is beyond them is located, and read while it is sent.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::budget::{Lease, PIECE_BYTES_MIN};
use kernel::{ErrorCode, Records, TopicPartition};
use rules::documents::{EpochHistory, PartitionDocument};

use super::FetchTerms;
use super::aborted::{self, LISTS_BYTES_MAX, Lists};
use super::outcome::{bytes_read, next_offset};
use super::partition::{FetchResult, Fetched, LogOffsets, PartitionRef, Position};
use crate::apis::common::epochs::{check_leader_epoch, end_of_epoch};
use crate::broker::Broker;
use crate::effort::LARGE_BYTES;
use crate::engines::{Isolation, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, StoreError};
use crate::store::Aborted;

/// About how many bytes the response has for a partition, without the name of its topic and its records.
const PARTITION_BYTES: usize = 100;
/// Bytes that are read before the reply is sent.
const NOW_BYTES_MAX: usize = 64 << 10;

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
    pub(super) bytes: u64,
    /// The reply memory they take.
    pub(super) lease: Lease,
    /// Whether there are records that its reader sees only once a transaction has ended.
    pub(super) has_unstable: bool,
    /// Whether a limit cut the read short.
    is_cut: bool,
}

impl ReadPass {
    /// Whether to answer now. If a limit cut the read short, waiting would add nothing.
    pub(super) fn is_enough(&self, bytes_min: usize) -> bool {
        let is_urgent = |fetched: &Fetched| fetched.found.is_urgent();
        self.bytes >= bytes_min as u64 || self.is_cut || self.fetched.iter().any(is_urgent)
    }
}

/// A partition after its document was checked.
enum CheckedPartition {
    /// There is nothing to read.
    Done(FetchResult),
    /// There are records to read.
    Readable(ReadSpec),
}

impl CheckedPartition {
    /// The read, if there are records.
    fn readable(&self) -> Option<ReadSpec> {
        match self {
            CheckedPartition::Done(_) => None,
            CheckedPartition::Readable(spec) => Some(*spec),
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
    // After the logs, so that it is not older than what they say.
    let epochs = Epochs::of(broker, known).await?;
    let checked: Vec<CheckedPartition> = known
        .iter()
        .map(|known| {
            let partition = logs.get(known.at).and_then(|log| check(known, log, &epochs, terms));
            partition.unwrap_or_else(|error| CheckedPartition::Done(FetchResult::Failed(error)))
        })
        .collect();
    let body_bytes = known.iter().map(|known| PARTITION_BYTES + known.place.name_bytes()).sum();
    let Filled { outcomes, lists, lease } = fill(broker, &checked, terms, body_bytes).await?;
    let is_cut = outcomes.iter().any(|outcome| is_cut(outcome, terms.isolation));
    let mut outcomes = outcomes.into_iter().zip(lists.each);
    let mut found = |partition: CheckedPartition| match partition {
        CheckedPartition::Done(found) => found,
        CheckedPartition::Readable(_) => {
            let next = outcomes.next();
            let missing = FetchResult::Failed(ErrorCode::UnknownServerError);
            next.map_or(missing, |(outcome, aborted)| found_in(outcome, aborted))
        }
    };
    let fetched = |(known, partition): (&KnownPartition, CheckedPartition)| {
        let (place, position) = (known.place.clone(), known.position);
        Fetched { place, position, found: found(partition) }
    };
    let fetched: Vec<Fetched> = known.iter().zip(checked).map(fetched).collect();
    let bytes = fetched.iter().map(|fetched| fetched.found.bytes()).sum();
    let is_committed = terms.isolation == Isolation::ReadCommitted;
    let has_unstable = is_committed && fetched.iter().any(|fetched| fetched.found.has_unstable());
    Ok(ReadPass { fetched, bytes, lease, has_unstable, is_cut })
}

/// The leader epochs that positions are checked against.
struct Epochs {
    current: i32,
    histories: HashMap<TopicPartition, Arc<EpochHistory>>,
}

impl Epochs {
    /// Histories are read only for clients that ask where their last epoch ended, which consumers do otherwise.
    async fn of(broker: &Broker, known: &[KnownPartition]) -> Result<Self, StoreError> {
        let believed = known.iter().filter_map(|known| known.position.leader_epoch).max();
        let current = broker.store.leader_epoch_against(believed, broker.clock.now_ms()).await?;
        let asked = known.iter().filter(|known| known.position.last_fetched_epoch.is_some());
        let histories = broker.store.epoch_histories(asked.map(|known| known.at).collect()).await?;
        Ok(Self { current, histories })
    }
}

/// The checks are in Kafka's order.
fn check(
    known: &KnownPartition,
    log: &PartitionDocument,
    epochs: &Epochs,
    terms: FetchTerms,
) -> Result<CheckedPartition, ErrorCode> {
    let position = known.position;
    if terms.is_replica {
        return Err(not_a_replica(position));
    }
    check_leader_epoch(position.leader_epoch, epochs.current)?;
    let offsets = LogOffsets::of(log);
    if let Some(epoch) = position.last_fetched_epoch {
        let history = epochs.histories.get(&known.at).map(|history| &**history);
        let end = end_of_epoch(log, history, epochs.current, epoch).ok_or(ErrorCode::OffsetOutOfRange)?;
        let (fetched, (epoch, end_offset)) = (epoch, end);
        if epoch < fetched || end_offset < position.offset {
            return Ok(CheckedPartition::Done(FetchResult::Diverging { epoch, end_offset, offsets }));
        }
    }
    if position.offset < log.log_start || position.offset > log.end {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let isolation = terms.isolation;
    if position.offset >= isolation.end_of(log) {
        let (records, aborted) = (Records::default(), Vec::new());
        return Ok(CheckedPartition::Done(FetchResult::Read { offsets, records, aborted }));
    }
    let (from, bytes_max) = (ReadFrom::Offset(position.offset), position.bytes_max);
    Ok(CheckedPartition::Readable(ReadSpec { partition: known.at, from, bytes_max, isolation }))
}

/// No broker replicates from Yagura. Kafka's answer makes an unknown replica refresh its metadata.
fn not_a_replica(position: Position) -> ErrorCode {
    match position.leader_epoch {
        Some(_) => ErrorCode::UnknownLeaderEpoch,
        None => ErrorCode::NotLeaderOrFollower,
    }
}

/// What was read of the readable partitions, in their order.
struct Filled {
    outcomes: Vec<ReadOutcome>,
    lists: Lists,
    lease: Lease,
}

/// Reads the readable partitions, and takes the reply memory for what is read at once.
async fn fill(
    broker: &Broker,
    checked: &[CheckedPartition],
    terms: FetchTerms,
    body_bytes: usize,
) -> Result<Filled, StoreError> {
    let specs: Vec<ReadSpec> = checked.iter().filter_map(CheckedPartition::readable).collect();
    if specs.is_empty() {
        let is_small = body_bytes <= LARGE_BYTES;
        let lease = if is_small { Lease::default() } else { broker.replies.take(body_bytes).await };
        return Ok(Filled { outcomes: Vec::new(), lists: Lists::default(), lease });
    }
    // Also for a piece of the records that are read when they are sent: who holds memory does not wait for more.
    let bytes = NOW_BYTES_MAX + PIECE_BYTES_MIN + body_bytes;
    let mut lease = broker.replies.take(bytes).await;
    let limits = ReadLimits { bytes_max: terms.bytes_max, now_max: NOW_BYTES_MAX };
    let mut outcomes = broker.store.read(specs.clone(), limits).await?;
    let (mut lists, mut of_lists) = (Lists::without(outcomes.len()), Lease::default());
    if aborted::are_needed(&specs, &outcomes) {
        // Only the read tells. If there is no memory for the lists at once, it is done again with enough.
        match broker.replies.try_take(LISTS_BYTES_MAX) {
            Some(taken) => of_lists = taken,
            None => {
                drop((outcomes, lease));
                lease = broker.replies.take(bytes + LISTS_BYTES_MAX).await;
                outcomes = broker.store.read(specs.clone(), limits).await?;
            }
        }
        lists = aborted::lists(broker, &specs, &mut outcomes).await?;
    }
    let overdrawn = lists.overdraw(broker, &mut outcomes);
    let read: usize = outcomes.iter().map(bytes_read).sum();
    let has_rest = outcomes.iter().any(|outcome| matches!(outcome, ReadOutcome::Read { rest: Some(_), .. }));
    let listed = if of_lists.is_empty() { lists.bytes() } else { 0 };
    lease.shrink(body_bytes + read + listed + if has_rest { PIECE_BYTES_MIN } else { 0 });
    of_lists.shrink(lists.bytes());
    lease.join(of_lists);
    lease.join(overdrawn);
    Ok(Filled { outcomes, lists, lease })
}

/// Whether the read ended before the log does for its reader. No batch at all counts: there were records to read.
fn is_cut(outcome: &ReadOutcome, isolation: Isolation) -> bool {
    let ReadOutcome::Read { high_watermark, last_stable, .. } = outcome else { return false };
    let end = match isolation {
        Isolation::ReadUncommitted => *high_watermark,
        Isolation::ReadCommitted => *last_stable,
    };
    next_offset(outcome).is_none_or(|next| next < end)
}

fn found_in(outcome: ReadOutcome, aborted: Vec<Aborted>) -> FetchResult {
    match outcome {
        ReadOutcome::Read { high_watermark, last_stable, log_start, batches, rest, .. } => {
            let offsets = LogOffsets { log_start, last_stable, high_watermark };
            let records = Records { ready: batches, later: rest.map(|rest| rest.records) };
            FetchResult::Read { offsets, records, aborted }
        }
        ReadOutcome::OutOfRange { .. } => FetchResult::Failed(ErrorCode::OffsetOutOfRange),
        ReadOutcome::UnknownPartition => FetchResult::Failed(ErrorCode::UnknownTopicOrPartition),
        // The engine has logged the error.
        ReadOutcome::Failed(_) => FetchResult::Failed(ErrorCode::KafkaStorageError),
    }
}
