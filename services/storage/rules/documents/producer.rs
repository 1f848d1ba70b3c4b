//! Idempotent producers (KIP-98), and the counters of the store.

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::key::{Prefix, ProducerKey};
use super::kind::{DocumentKind, LockRoot};

/// Counters whose values are given out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The next producer id.
    pub next_producer_id: i64,
    /// The last leader epoch with which anything was appended (KIP-320).
    #[serde(default)]
    pub leader_epoch: i32,
}

/// One per store.
impl DocumentKind for Counters {
    const PREFIX: &'static str = "counters";
    type Key = ();

    fn lock_root((): &()) -> LockRoot {
        LockRoot::Store
    }
}

/// The state of an idempotent producer in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerDocument {
    /// Producer epoch.
    #[cfg_attr(feature = "next-level", serde(rename = "generation"))]
    pub epoch: i16,
    /// Its last batches, oldest first, five at most: as many as a producer may have in flight. None after a marker that has
    /// begun its epoch.
    pub batches: Vec<ProducedBatch>,
    /// When its last batch was received, or its last marker written, in ms.
    pub last_ms: i64,
    /// The first offset of its open transaction in this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<i64>,
    /// The coordinator epoch of its last marker; `None` before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator_epoch: Option<i32>,
}

/// A batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducedBatch {
    /// The sequence number of its first record.
    pub first_sequence: i32,
    /// The sequence number of its last record.
    pub last_sequence: i32,
    /// The offset of its first record.
    pub base_offset: i64,
    /// Whether its transaction was aborted: then a batch with the same sequence numbers does not repeat it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_aborted: bool,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// By partition, producer id, and the origin of that.
impl DocumentKind for ProducerDocument {
    const PREFIX: &'static str = "producer";
    type Key = ProducerKey;
    #[cfg(feature = "next-level")]
    super::next_level::renames!("epoch" => "generation");

    fn lock_root(key: &ProducerKey) -> LockRoot {
        LockRoot::Partition(key.partition)
    }
}

impl ProducerDocument {
    /// Kafka's `producer.id.expiration.ms`: producers expire after a day without a batch.
    pub const EXPIRY_MS: i64 = 86_400_000;

    /// When it expires, unless it produces again.
    pub fn expires_ms(&self) -> i64 {
        self.last_ms.saturating_add(Self::EXPIRY_MS)
    }

    /// The keys of all producers of a partition.
    pub fn of_partition(partition: TopicPartition) -> Prefix {
        Prefix::of_partition(Self::PREFIX, partition)
    }
}
