//! The two calls of an engine: which documents a command needs, and its decision.

use crate::commands::{Applied, Command, Outcome, Retain};
use crate::documents::{
    Counters, GroupConfigs, PartitionDocument, ProducerDocument, Subscription, TopicDocument,
};
use crate::working_set::{Needs, Wanted, WorkingSet};
use crate::{
    cleaning, client_metrics, copies, due, group_configs, groups, log, nodes, producers, restore, topics,
    transactions,
};

/// The documents that `command` needs and that are not in the set yet.
///
/// To be called until it is [`Needs::Done`]: a topic's partitions are known only once the topic is loaded.
pub fn needs(command: &Command, set: &WorkingSet<'_>) -> Needs {
    let mut wanted = Wanted::default();
    match command {
        Command::CreateTopic { name, .. } => topics::needs_to_create(&mut wanted, name),
        Command::DeleteTopic { id } => topics::needs_to_delete(&mut wanted, *id, set),
        Command::CreatePartitions { name, .. } => topics::needs_to_grow(&mut wanted, name),
        Command::AlterConfigs { name, .. } => {
            wanted.write::<TopicDocument>(name);
        }
        Command::AlterClientMetrics { name, .. } => {
            wanted.write::<Subscription>(name);
        }
        Command::AlterGroupConfigs { group, .. } => {
            wanted.write::<GroupConfigs>(group);
        }
        Command::Append(append) => log::needs_to_append(&mut wanted, append, set),
        Command::AdvanceLogStart { partition, .. } => log::needs_to_trim(&mut wanted, *partition),
        Command::AllocateProducerId { .. } | Command::RecordEpoch { .. } => {
            wanted.write::<Counters>(&());
        }
        Command::Retain(Retain { partition, .. }) | Command::ForgetAborted { partition } => {
            log::needs_to_trim(&mut wanted, *partition);
        }
        Command::Clean(clean) => cleaning::needs(&mut wanted, clean),
        Command::AwaitCleaning(wait) => cleaning::needs_to_wait(&mut wanted, wait),
        Command::ExpireProducer { producer, .. } => {
            wanted.write::<PartitionDocument>(&producer.partition).write::<ProducerDocument>(producer);
        }
        Command::Due(command) => due::needs(&mut wanted, command),
        Command::Group { group, command } => groups::needs(&mut wanted, group, command, set),
        Command::Transaction { id, command } => transactions::needs(&mut wanted, id, command, set),
        Command::Node(command) => nodes::needs(&mut wanted, command),
        Command::WriteMarker(marker) => transactions::needs_to_write_marker(&mut wanted, marker, set),
        Command::Restore(restored) => restore::needs(&mut wanted, restored),
        Command::Copy(command) => copies::needs(&mut wanted, command),
        Command::Check(inner) => return needs(inner, set),
    }
    wanted.missing_in(set)
}

/// Decides a command, completely or not at all.
///
/// A refused command leaves the set as it was. Deciding before [`needs`] is done treats what is missing as
/// absent.
pub fn decide(set: &mut WorkingSet<'_>, command: &Command) -> Outcome {
    match command {
        Command::CreateTopic { name, id, partitions, configs } => {
            topics::create(set, name, *id, *partitions, configs)
        }
        Command::DeleteTopic { id } => topics::delete(set, *id),
        Command::CreatePartitions { name, count } => topics::create_partitions(set, name, *count),
        Command::AlterConfigs { name, configs } => topics::alter_configs(set, name, configs),
        Command::AlterClientMetrics { name, configs } => client_metrics::alter(set, name, configs),
        Command::AlterGroupConfigs { group, configs, defaults } => {
            group_configs::alter(set, group, configs, *defaults)
        }
        Command::Append(append) => log::append(set, append),
        Command::RecordEpoch { epoch } => {
            log::record_epoch(set, *epoch);
            Ok(Applied::Changed)
        }
        Command::AdvanceLogStart { partition, offset } => log::advance_log_start(set, *partition, *offset),
        Command::AllocateProducerId { seed } => producers::allocate_id(set, *seed),
        Command::Retain(retain) => log::retain(set, retain),
        Command::ForgetAborted { partition } => log::forget_aborted(set, *partition),
        Command::Clean(clean) => cleaning::clean(set, clean),
        Command::AwaitCleaning(wait) => cleaning::wait(set, wait),
        Command::ExpireProducer { producer, taken_ms, now_ms } => {
            producers::expire(set, producer, *taken_ms, *now_ms)
        }
        Command::Due(command) => due::decide(set, command),
        Command::Group { group, command } => groups::decide(set, group, command),
        Command::Transaction { id, command } => transactions::decide(set, id, command),
        Command::Node(command) => nodes::decide(set, command),
        Command::WriteMarker(marker) => transactions::write_marker(set, marker),
        Command::Restore(restored) => restore::decide(set, restored),
        Command::Copy(command) => copies::decide(set, command),
        Command::Check(inner) => decide(&mut set.scratch(), inner),
    }
}
