//! Kafka's semantics, written once and pure.
//!
//! A [`Command`](commands::Command) is what a client asks to change. [`needs`] says which documents deciding it takes,
//! [`decide`] changes a [`WorkingSet`] of documents and records what must happen to the logs. There is no I/O, no clock
//! and no randomness in here: a command carries its time and its ids. Every engine runs these rules, so that all behave
//! alike.
//!
//! Data stands below those who decide: [`documents`] is what a store keeps, [`commands`] is what is asked of it and what
//! comes of that, [`configs`] are Kafka's configs as tables. Above them `log`, `producers`, `topics`, `client_metrics` and
//! [`groups`] decide, each about its own documents; `decide` is their one list.

mod client_metrics;
pub mod commands;
pub mod configs;
mod decide;
pub mod documents;
pub mod groups;
mod log;
mod producers;
pub mod topics;
mod working_set;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use decide::{decide, needs};
pub use working_set::{Changes, Documents, Lookup, Needs, WorkingSet};
