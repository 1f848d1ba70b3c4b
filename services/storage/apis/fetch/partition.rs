//! One partition of a fetch: its name, the position to read from, and the result.

use kernel::{ErrorCode, Records};
use rules::documents::PartitionDocument;

use crate::store::{Aborted, TopicRef};

/// Kafka's "no offset".
pub(super) const NO_OFFSET: i64 = -1;

/// A partition as the client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PartitionRef {
    pub(super) topic: TopicRef,
    pub(super) partition: i32,
}

impl PartitionRef {
    /// The length of its topic's name in a request or response.
    pub(super) fn name_bytes(&self) -> usize {
        match &self.topic {
            TopicRef::Name(name) => name.len(),
            TopicRef::Id(_) => 16,
        }
    }
}

/// The position that a client reads a partition from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: i64,
    pub(super) bytes_max: usize,
    /// The client's current leader epoch.
    pub(super) leader_epoch: Option<i32>,
    /// The leader epoch of the last record that the client has fetched.
    pub(super) last_fetched_epoch: Option<i32>,
}

/// What a log is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogOffsets {
    pub(super) log_start: i64,
    pub(super) last_stable: i64,
    pub(super) high_watermark: i64,
}

impl LogOffsets {
    /// Those of a partition that cannot be read.
    pub(super) const NONE: Self =
        Self { log_start: NO_OFFSET, last_stable: NO_OFFSET, high_watermark: NO_OFFSET };

    pub(super) fn of(log: &PartitionDocument) -> Self {
        Self { log_start: log.log_start, last_stable: log.last_stable(), high_watermark: log.end }
    }
}

/// The result for a partition.
#[derive(Debug)]
pub(super) enum FetchResult {
    /// There is no such topic or partition. As in Kafka, the call still waits for the other partitions.
    Unknown(ErrorCode),
    /// The partition could not be read. The call is answered at once.
    Failed(ErrorCode),
    /// The client has records that the partition does not have (KIP-595).
    Diverging {
        /// The last common leader epoch and its end offset.
        epoch: i32,
        end_offset: i64,
        offsets: LogOffsets,
    },
    /// Whole batches, possibly none.
    Read {
        offsets: LogOffsets,
        records: Records,
        /// What a reader of committed records skips of them.
        aborted: Vec<Aborted>,
    },
}

/// A partition and its result.
#[derive(Debug)]
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

    pub(super) fn offsets(&self) -> LogOffsets {
        match self {
            FetchResult::Unknown(_) | FetchResult::Failed(_) => LogOffsets::NONE,
            FetchResult::Diverging { offsets, .. } | FetchResult::Read { offsets, .. } => *offsets,
        }
    }

    /// Whether there are records that a reader of committed ones sees only once a transaction has ended.
    pub(super) fn has_unstable(&self) -> bool {
        let offsets = self.offsets();
        offsets.last_stable < offsets.high_watermark
    }

    /// Total size of the batches.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            FetchResult::Read { records, .. } => records.bytes(),
            _ => 0,
        }
    }

    /// Whether the call must be answered at once.
    pub(super) fn is_urgent(&self) -> bool {
        matches!(self, FetchResult::Failed(_) | FetchResult::Diverging { .. })
    }
}
