//! Consumer groups: members, assignments and committed offsets.
//!
//! Classic groups follow Kafka's classic protocol (KIP-62, KIP-345, KIP-394). Members *join*; once all have
//! joined, or the rebalance timeout has passed, a new generation starts and its leader assigns the
//! partitions. Members *sync* to get their assignments. Brokers park JoinGroup and SyncGroup requests that
//! must wait until the group's documents change ([`join_answer`], [`sync_answer`]). Nothing here waits or
//! reads a clock: a [`Tick`](crate::commands::GroupCommand::Tick) carries the time and applies the timeouts
//! that have passed. Any broker may send one, and a repeated one is harmless.
//!
//! Heartbeats write nothing. A broker remembers when it heard from each member, and a tick names those that it
//! has not heard from for a whole session.
//!
//! A group's topics may belong to another service, so the group rules read no topic documents: topic metadata
//! travels in the command ([`missing_topics`]).

mod assignors;
mod consumer;
mod decide;
mod group;
mod join;
mod leave;
mod offsets;
mod pending;
mod protocols;
mod sync;
mod tick;
mod view;

pub use consumer::{must_join_again, rest, subscribed_names};
pub use decide::missing_topics;
pub(crate) use decide::{decide, needs};
pub use protocols::CONSUMER;
pub use view::{GroupView, check_heartbeat, check_offset_fetch, join_answer, sync_answer};

#[cfg(test)]
mod tests;
