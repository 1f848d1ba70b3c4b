//! The storage service: where a stack ends when Yagura is a broker.
//!
//! A call comes in through [`Storage`], whose `dispatch` table sends it to its API (`apis`, a file each). The API turns it
//! into commands and reads (`store`); the `rules` crate says what a command means; an engine ([`engines`]) makes it
//! durable. The service keeps nothing itself: whatever must survive is in the engine.

mod apis;
mod background;
mod broker;
mod cleaner;
pub mod compaction;
mod coordinator;
pub mod copy;
mod dispatch;
mod due;
mod effort;
pub mod engines;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group_page;
pub mod nodes;
mod outbox;
mod port;
mod regexes;
mod settings;
mod store;
mod targets;
mod telemetry;
mod transaction_metrics;
mod transaction_timeouts;

pub use dispatch::served;
pub use port::Storage;
pub use rules::configs::reference_markdown;
pub use settings::{CheckRecords, Settings};
