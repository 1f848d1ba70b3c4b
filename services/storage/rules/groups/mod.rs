//! Consumer groups: members, assignments and committed offsets.
//!
//! Classic groups follow Kafka's classic protocol (KIP-62, KIP-345, KIP-394). Members *join*; once all have
//! joined, or the rebalance timeout has passed, a new generation starts and its leader assigns the
//! partitions. Members *sync* to get their assignments. Brokers park JoinGroup and SyncGroup requests that
//! must wait until the group's documents change ([`join_answer`], [`sync_answer`]). Nothing here waits or
//! reads a clock: a [`Tick`](crate::commands::GroupCommand::Tick) carries the time and applies the timeouts
//! that have passed. Any broker may send one, and a repeated one is harmless. Times are store time, which begins anew
//! with each run of a broker: a [`Resume`](crate::commands::GroupCommand::Resume) comes before the first tick.
//!
//! Heartbeats write nothing. A broker remembers when it heard from each member, and a tick names those that it
//! has not heard from for a whole session.
//!
//! A group knows of its members what it must know at each call (`tally`), and a call loads those members that it
//! names. All members are loaded once per rebalance: when a generation is complete, and when its leader assigns.
//!
//! A group's topics may belong to another service, so the group rules read no topic documents: topic metadata
//! travels in the command ([`KnownTopics`](crate::commands::KnownTopics)).

mod assigned;
mod assignors;
mod consumer;
mod decide;
mod group;
mod instances;
mod join;
mod leases;
mod leave;
mod live;
mod lookups;
mod offsets;
mod pending;
mod pending_offsets;
mod protocols;
mod rebalance;
mod resume;
mod sync;
mod tally;
mod tick;
mod transactional;
mod view;

pub use consumer::{awaited, must_join_again, rest, target_assignment};
pub(crate) use decide::{decide, needs};
pub use protocols::{CONSUMER, subscribed_names};
pub use resume::must_resume;
pub(crate) use transactional::{
    check_commit_in_transaction, create_for_offsets, end_offset, needs_to_commit_in_transaction,
    needs_to_end_offset,
};
pub use view::{GroupView, MemberView, check_heartbeat, check_offset_fetch, join_answer, sync_answer};

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod tests;
