//! How much an outcome of a read has.

use bytes::Bytes;
use kernel::records::Batch;

use crate::engines::ReadOutcome;

/// Bytes of what was read at once.
pub(super) fn bytes_read(outcome: &ReadOutcome) -> usize {
    match outcome {
        ReadOutcome::Read { batches, .. } => batches.iter().map(Bytes::len).sum(),
        ReadOutcome::OutOfRange { .. } | ReadOutcome::UnknownPartition | ReadOutcome::Failed(_) => 0,
    }
}

/// Bytes of all batches, those that are read later as well.
pub(super) fn bytes_of(outcome: &ReadOutcome) -> usize {
    let later = match outcome {
        ReadOutcome::Read { rest: Some(rest), .. } => rest.records.bytes,
        _ => 0,
    };
    bytes_read(outcome).saturating_add(usize::try_from(later).unwrap_or(usize::MAX))
}

/// The offset after the last batch of an outcome; `None` if it has none.
pub(super) fn next_offset(outcome: &ReadOutcome) -> Option<i64> {
    let ReadOutcome::Read { batches, rest, .. } = outcome else { return None };
    let next_after_read = || batches.last().and_then(|batch| Batch::split_first(&mut batch.clone()));
    match rest {
        Some(rest) => Some(rest.next_offset),
        None => next_after_read().map(|batch| batch.next_offset()),
    }
}
