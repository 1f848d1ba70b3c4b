//! Code shared by engines that hold documents in memory.

mod budget;
mod stats;
mod table;
mod times;

pub(super) use budget::{Fit, ReadBudget};
pub use stats::Gauges;
pub(super) use stats::{CommitStats, Lag, OutboxGauge, PartitionGauge, SHOWN_MAX};
pub(super) use table::{Table, empty, outcome_of, outcome_without_log};
pub(super) use times::Times;
