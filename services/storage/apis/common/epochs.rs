//! The leader epochs that clients believe in (KIP-320).

use kernel::ErrorCode;
use rules::documents::PartitionDocument;

/// Kafka's "no leader epoch".
const NO_EPOCH: i32 = -1;

/// The epoch that a client says it knows, unless it says "none".
pub(crate) fn known_epoch(sent: i32) -> Option<i32> {
    (sent != NO_EPOCH).then_some(sent)
}

/// Whether the client believes in the same leader as the broker (KIP-320).
pub(crate) fn check_leader_epoch(believed: Option<i32>, log: &PartitionDocument) -> Result<(), ErrorCode> {
    match believed {
        Some(epoch) if epoch < log.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
        Some(epoch) if epoch > log.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where an epoch ends, in Kafka's answer: the epoch itself and the offset after its last record.
///
/// A partition keeps its first leader epoch for life, so there is no history to look into: an earlier epoch ended
/// where the log begins, and a later one is not known.
pub(crate) fn end_of_epoch(log: &PartitionDocument, epoch: i32) -> Option<(i32, i64)> {
    match epoch {
        NO_EPOCH => None,
        epoch if epoch == log.leader_epoch => Some((epoch, log.end)),
        epoch if epoch < log.leader_epoch => Some((epoch, log.log_start)),
        _ => None,
    }
}
