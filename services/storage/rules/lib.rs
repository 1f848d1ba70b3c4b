//! Kafka's semantics, written once, as pure functions.
//!
//! A [`Command`](commands::Command) is a change that a client requests. [`needs`] returns the documents that
//! it needs; [`decide`] changes a [`WorkingSet`] of documents and records the effects on logs. There is no
//! I/O, clock or randomness in here: a command carries its time and its ids. Every engine runs these rules,
//! so that all behave alike.
//!
//! [`documents`] is what a store keeps, [`commands`] are the changes and their outcomes, [`configs`] are
//! Kafka's configs as tables. On these stand `log`, `cleaning`, `producers`, `topics`, `client_metrics`, `group_configs`, `due`, `nodes`, `restore`,
//! [`groups`] and `transactions`, which decide commands, each on its own documents; `decide` dispatches to them.

mod cleaning;
mod client_metrics;
pub mod commands;
pub mod configs;
mod copies;
mod decide;
pub mod documents;
mod due;
mod group_configs;
pub mod groups;
mod loaded;
mod log;
mod nodes;
mod producers;
mod restore;
pub mod topics;
mod transactions;
mod working_set;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use decide::{decide, needs};
pub use loaded::Loaded;
pub use working_set::{Changes, Documents, Lookup, Missing, Needs, WorkingSet};
