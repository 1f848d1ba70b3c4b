//! Consumer groups: who is in one, what each member reads, and how far it has come.
//!
//! A group's life is Kafka's classic protocol (KIP-62, KIP-345, KIP-394). Members *join*; once all have, or the time is
//! up, a new generation begins and its leader assigns the partitions; members *sync* to get their assignment. Joins and
//! syncs that must wait are parked by their brokers until the group's documents change ([`join_answer`], [`sync_answer`]).
//! Nothing here waits or looks at a clock: what happens by itself comes as a [`Tick`](crate::commands::GroupCommand::Tick)
//! that carries the time, and does nothing if its time has not come. So any broker may send one, and twice does no harm.
//!
//! Heartbeats change nothing. A broker reports the members that it has heard from in a tick, well before their sessions
//! end.
//!
//! A group's topics may be another service's, so the rules of groups read no documents of topics: facts about them travel
//! in the command ([`missing_topics`]).

mod assignors;
mod consumer;
mod decide;
mod group;
mod join;
mod leave;
mod offsets;
mod protocols;
mod sync;
mod tick;
mod view;

pub use consumer::{must_join_again, subscribed_names};
pub use decide::missing_topics;
pub(crate) use decide::{decide, needs};
pub use protocols::CONSUMER;
pub use view::{GroupView, check_heartbeat, check_offset_fetch, join_answer, sync_answer};

#[cfg(test)]
mod tests;
