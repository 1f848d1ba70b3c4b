//! One partition of a fetch: where it is, from where it is read, and what was found.

use bytes::Bytes;
use kernel::ErrorCode;

use crate::store::TopicRef;

/// What Kafka answers for an offset that it does not know, or does not tell.
pub(super) const NO_OFFSET: i64 = -1;

/// A partition as the client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PartitionRef {
    pub(super) topic: TopicRef,
    pub(super) partition: i32,
}

/// From where, and how, a client reads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: i64,
    pub(super) bytes_max: usize,
    /// The leader's epoch, as the client knows it.
    pub(super) leader_epoch: Option<i32>,
    /// The epoch of the last record that the client has.
    pub(super) last_fetched_epoch: Option<i32>,
}

/// What was found in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FetchResult {
    /// There is no such topic or partition. Kafka lets the rest of the call wait for records none the less.
    Unknown(ErrorCode),
    /// The partition could not be read, of which the client hears at once.
    Failed(ErrorCode),
    /// The client has records that the partition has not (KIP-595).
    Diverging {
        /// The last epoch in common, and its end.
        epoch: i32,
        end_offset: i64,
        high_watermark: i64,
        log_start: i64,
    },
    /// Whole batches, maybe none.
    Read { high_watermark: i64, log_start: i64, batches: Vec<Bytes> },
}

/// A partition with what was found in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) place: PartitionRef,
    pub(super) position: Position,
    pub(super) found: FetchResult,
}

impl FetchResult {
    pub(super) fn error(&self) -> Option<ErrorCode> {
        match self {
            FetchResult::Unknown(error) | FetchResult::Failed(error) => Some(*error),
            FetchResult::Diverging { .. } | FetchResult::Read { .. } => None,
        }
    }

    pub(super) fn high_watermark(&self) -> i64 {
        match self {
            FetchResult::Unknown(_) | FetchResult::Failed(_) => NO_OFFSET,
            FetchResult::Diverging { high_watermark, .. } | FetchResult::Read { high_watermark, .. } => {
                *high_watermark
            }
        }
    }

    pub(super) fn log_start(&self) -> i64 {
        match self {
            FetchResult::Unknown(_) | FetchResult::Failed(_) => NO_OFFSET,
            FetchResult::Diverging { log_start, .. } | FetchResult::Read { log_start, .. } => *log_start,
        }
    }

    pub(super) fn batches(&self) -> &[Bytes] {
        match self {
            FetchResult::Read { batches, .. } => batches,
            _ => &[],
        }
    }

    /// Bytes of all batches.
    pub(super) fn bytes(&self) -> usize {
        self.batches().iter().map(Bytes::len).sum()
    }

    /// Whether the client must hear of it before anything else happens.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self, FetchResult::Failed(_) | FetchResult::Diverging { .. })
    }
}
