//! The store as the APIs use it: an engine called in connection order, and look-ups of many keys at once.

mod aborted;
mod dry_run;
mod engine;
mod epochs;
mod groups;
mod topics;

pub(crate) use aborted::Aborted;
#[cfg(test)]
pub(crate) use aborted::aborted_in;
pub(crate) use dry_run::{DryRun, GroupSnapshot};
pub(crate) use engine::{Store, StoreOpener};
pub(crate) use epochs::next_epoch_of;
pub(crate) use groups::Committed;
pub(crate) use topics::{TopicRef, Topics};
