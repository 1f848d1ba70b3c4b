//! Groups of the consumer protocol (KIP-848): the broker assigns, and members get their assignments in
//! heartbeats.
//!
//! The *group epoch* is bumped when members, subscriptions or topics change. For each group epoch, an
//! assignor (`assign`) computes a target assignment: aside, from a snapshot ([`target_assignment`]). Each member
//! moves from its current assignment to its target assignment independently (`advance`, `current_assignment`);
//! there is no global barrier. Members of the classic protocol may be in the group while an application is migrated
//! (`classic`, `migrate`).
//!
//! A new group begins in epoch 1 with an empty target assignment of that epoch, and its first member bumps the epoch to 2.
//! So the first target assignment that is computed has epoch 2, and members can be told epoch 1 until it is installed. A
//! group that becomes empty is given its group epoch as assignment epoch.

mod advance;
mod assign;
mod classic;
mod classic_assignment;
mod current_assignment;
mod heartbeat;
mod leave;
mod migrate;
mod rest;
mod state;
mod subscriptions;
mod target_assignment;

pub(super) use advance::advance;
pub use classic::{awaited, must_join_again};
pub(super) use classic::{join, leave as leave_classic, sync};
pub(super) use heartbeat::heartbeat;
pub(super) use leave::{fence_late, leave};
pub(super) use migrate::{can_upgrade, upgrade};
pub use rest::rest;
pub(super) use state::restart_due;
pub(super) use subscriptions::{is_subscribed, missing_topics};
pub(super) use target_assignment::install;
pub use target_assignment::target_assignment;

#[cfg(test)]
mod tests;
