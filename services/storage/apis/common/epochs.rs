//! Leader epochs that clients send (KIP-320).

use kernel::ErrorCode;
use rules::documents::PartitionDocument;

/// Kafka's "no leader epoch".
const NO_EPOCH: i32 = -1;

/// The leader epoch that a client sent, if it sent one.
pub(crate) fn known_epoch(sent: i32) -> Option<i32> {
    (sent != NO_EPOCH).then_some(sent)
}

/// Checks the client's current leader epoch against the broker's (KIP-320).
pub(crate) fn check_leader_epoch(believed: Option<i32>, log: &PartitionDocument) -> Result<(), ErrorCode> {
    match believed {
        Some(epoch) if epoch < log.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
        Some(epoch) if epoch > log.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// The end of a leader epoch, as Kafka answers it: the epoch and the offset after its last record.
///
/// A partition never changes its leader epoch, so there is no epoch history: an earlier epoch ends at the log
/// start offset, and a later one is unknown.
pub(crate) fn end_of_epoch(log: &PartitionDocument, epoch: i32) -> Option<(i32, i64)> {
    match epoch {
        NO_EPOCH => None,
        epoch if epoch == log.leader_epoch => Some((epoch, log.end)),
        epoch if epoch < log.leader_epoch => Some((epoch, log.log_start)),
        _ => None,
    }
}
