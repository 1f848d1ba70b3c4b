//! Kafka's semantics, written once and pure.
//!
//! A [`Command`] is what a client asks to change. [`needs`] says which documents deciding it takes, [`decide`] changes
//! a [`WorkingSet`] of documents and records what must happen to the logs. There is no I/O, no clock and no randomness
//! in here: a command carries its time and its ids. Every engine runs these rules, so that all behave alike.

mod append;
mod client_metrics;
mod command;
pub(crate) mod configs;
mod documents;
pub mod groups;
mod names;
mod topics;
mod working_set;

pub use client_metrics::Subscription;
pub use command::{Command, ConfigOperation, Done, Effect, NewConfigs, Outcome, Refused};
pub use documents::{
    Counters, Document, Key, PARTITION_NUMBERS_MAX, PartitionDocument, ProducedBatch, ProducerDocument,
    TopicDocument,
};
pub use working_set::{Documents, Lookup, WorkingSet};

pub(crate) use names::check_topic_name;

/// What is still missing before a command can be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: decide.
    Done,
    /// These documents; ask again once they are there.
    More(Vec<Key>),
}

/// The documents that deciding `command` takes and that are not in the set yet.
///
/// It may have to be asked again: which partitions a topic has is known only once the topic is.
pub fn needs(command: &Command, set: &WorkingSet<'_>) -> Needs {
    let mut keys = match command {
        Command::CreateTopic { name, id, .. } => topics::keys_to_create(name, *id),
        Command::DeleteTopic { id } => topics::keys_to_delete(*id, set),
        Command::CreatePartitions { name, .. } => vec![Key::Topic(name.clone()), Key::Counters],
        Command::AlterConfigs { name, .. } => vec![Key::Topic(name.clone())],
        Command::AlterClientMetrics { name, .. } => vec![Key::ClientMetrics(name.clone())],
        Command::Append { partition, batch, .. } => append::keys(*partition, batch),
        Command::AdvanceLogStart { partition, .. } => vec![Key::Partition(*partition)],
        Command::AllocateProducerId => vec![Key::Counters],
        Command::ExpireProducer { partition, producer, .. } => vec![Key::Producer(*partition, *producer)],
        Command::Group { group, change } => groups::keys(group, change, set),
        Command::Check(inner) => return needs(inner, set),
    };
    keys.retain(|key| matches!(set.lookup(key), Lookup::Unknown));
    if keys.is_empty() { Needs::Done } else { Needs::More(keys) }
}

/// Decides a command: all of it or nothing.
///
/// A refused command leaves the set as it was. Deciding before [`needs`] is `Done` treats what is missing as absent.
pub fn decide(set: &mut WorkingSet<'_>, command: Command) -> Outcome {
    match command {
        Command::CreateTopic { name, id, partitions, configs } => {
            topics::create(set, &name, id, partitions, configs)
        }
        Command::DeleteTopic { id } => topics::delete(set, id),
        Command::CreatePartitions { name, count } => topics::create_partitions(set, &name, count),
        Command::AlterConfigs { name, configs } => topics::alter_configs(set, &name, configs),
        Command::AlterClientMetrics { name, configs } => client_metrics::alter(set, &name, configs),
        Command::Append { partition, batch, now_ms, lease } => {
            append::append(set, partition, batch, now_ms, lease)
        }
        Command::AdvanceLogStart { partition, offset } => append::advance_log_start(set, partition, offset),
        Command::AllocateProducerId => append::allocate_producer_id(set),
        Command::ExpireProducer { partition, producer, unused_since_ms } => {
            append::expire_producer(set, partition, producer, unused_since_ms)
        }
        Command::Group { group, change } => groups::decide(set, &group, change),
        Command::Check(inner) => {
            let mut trial = set.trial();
            decide(&mut trial, *inner)
        }
    }
}

#[cfg(test)]
mod tests;
