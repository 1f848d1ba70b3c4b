//! Leader epochs that clients send (KIP-320).

use kernel::ErrorCode;
use rules::documents::{EpochHistory, PartitionDocument};

/// Kafka's "no leader epoch".
const NO_EPOCH: i32 = -1;

/// The leader epoch that a client sent, if it sent one.
pub(crate) fn known_epoch(sent: i32) -> Option<i32> {
    (sent != NO_EPOCH).then_some(sent)
}

/// Checks the leader epoch that the client takes for the current one (KIP-320).
pub(crate) fn check_leader_epoch(believed: Option<i32>, current: i32) -> Result<(), ErrorCode> {
    match believed {
        Some(epoch) if epoch < current => Err(ErrorCode::FencedLeaderEpoch),
        Some(epoch) if epoch > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// The end of a leader epoch, as Kafka answers it: the epoch, or the last one before it in which the partition was
/// appended to, and the offset after its last record. `None` for an epoch that is not known yet.
///
/// `current` is the epoch of the store, which may be later than the last one of the partition.
pub(crate) fn end_of_epoch(
    log: &PartitionDocument,
    history: Option<&EpochHistory>,
    current: i32,
    epoch: i32,
) -> Option<(i32, i64)> {
    if epoch == NO_EPOCH || epoch > current {
        return None;
    }
    if epoch >= log.leader_epoch {
        return Some((if epoch == current { epoch } else { log.leader_epoch }, log.end));
    }
    // Without a history, all records are of one epoch, and an earlier one has none.
    Some(history.and_then(|history| history.end_of(epoch)).unwrap_or((epoch, log.log_start)))
}
