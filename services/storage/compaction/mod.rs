//! What compaction keeps of a log: the newest record of each key (`cleanup.policy=compact`).
//!
//! This is the core that all engines share. It does no I/O and has no clock: an engine reads batches and hands them in, and
//! replaces what it gets back, in small steps. One round of cleaning a partition:
//!
//! 1. [`DirtyLog::cleanable`] says which offsets may be cleaned, and [`plan()`] whether that is to be done now, or when to
//!    look again.
//! 2. An [`Indexing`] is fed the batches of the dirty range, and notes the latest offset of each key in memory of a fixed
//!    size.
//! 3. The [`Cleaning`] that comes of it is fed all batches from the log start, and says of each what stays: the very same
//!    bytes, a smaller batch, or nothing.
//! 4. The log is clean up to [`Cleaning::clean_end`]. If that is before the end of the range, the memory was too small for all
//!    keys, and the next pass indexes from there.
//!
//! A step that is not made, or made twice, does no harm: whatever is removed has a later record with its key, which stays
//! until everything before it was looked at. So a round that breaks off is begun anew.
//!
//! Offsets stay: a batch keeps its first and its last one, and its sequence number, whatever records it has left. Where Kafka
//! removes batches of which nothing is left, consecutive ones become one without records, which has their offsets ([`Runs`]).
//!
//! Where it differs from Kafka: there are no segments. What Kafka does not clean because it is in the active segment is
//! cleaned here, up to the last stable offset and `min.compaction.lag.ms`. And memory that is too small even for one batch
//! ends a pass within that batch, where Kafka makes no progress.

mod filter;
mod gap;
mod index;
mod map;
mod plan;
mod runs;
mod transactions;

pub use filter::{Cleaned, CleanerStats, Cleaning, Kept, LastRecord};
pub use gap::gap;
pub use index::{IndexSettings, Indexing};
pub use map::OffsetMap;
pub use plan::{CleaningLimits, DirtyLog, DirtySizes, Plan, YoungBatch, plan};
pub use runs::Runs;
pub use transactions::AbortedTransaction;

#[cfg(test)]
mod tests;
