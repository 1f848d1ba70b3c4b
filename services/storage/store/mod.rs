//! The store as the APIs see it: an engine behind the connection's order, and look-ups that take many keys at once.

mod dry_run;
mod engine;
mod groups;
mod topics;

pub(crate) use dry_run::DryRun;
pub(crate) use engine::{Store, StoreOpener};
pub(crate) use groups::Committed;
pub(crate) use topics::{TopicRef, Topics};
