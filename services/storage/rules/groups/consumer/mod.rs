//! Groups of the consumer protocol (KIP-848): the broker assigns, and members hear of it in their heartbeats.
//!
//! The *group epoch* counts what has changed about a group: members, subscriptions, topics. Each epoch has a target
//! assignment, worked out by an assignor (`assign`); every member moves from its current assignment to its target at its
//! own pace (`current_assignment`), and nobody waits for all. Members of the classic protocol may be among them while an
//! application is moved over (`classic`, `migrate`).

mod assign;
mod classic;
mod classic_assignment;
mod current_assignment;
mod heartbeat;
mod leave;
mod migrate;
mod state;
mod subscriptions;
mod target_assignment;

pub use classic::must_join_again;
pub(super) use classic::{join, leave as leave_classic, sync};
pub(super) use heartbeat::heartbeat;
pub(super) use leave::{fence_late, leave};
pub(super) use migrate::{can_upgrade, upgrade};
pub use subscriptions::subscribed_names;
pub(super) use subscriptions::{is_subscribed, missing_topics};

#[cfg(test)]
mod tests;
