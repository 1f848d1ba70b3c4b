//! Code shared by engines that hold documents in memory.

mod budget;
mod retention;
mod stats;
mod table;

pub(super) use budget::{Fit, ReadBudget};
pub(super) use retention::{PRODUCER_EXPIRY_MS, RetentionLimits, expire_producer};
pub use stats::Gauges;
pub(super) use stats::{CommitStats, Lag, PartitionGauge, SHOWN_MAX};
pub(super) use table::{Table, empty};
