//! Code shared by engines that hold documents in memory.

mod retention;
mod stats;
mod table;

pub(super) use retention::{PRODUCER_EXPIRY_MS, RetentionLimits, expire_producer, limited_partitions};
pub(super) use stats::{CommitStats, Gauges};
pub(super) use table::{Table, empty};
