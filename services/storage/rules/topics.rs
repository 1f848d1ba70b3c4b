//! Topics: made, grown, configured and deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{ErrorCode, TopicId, TopicPartition};

use super::command::{Done, Effect, NewConfigs, Outcome, Refused};
use super::configs::{self, ConfigKind};
use super::documents::{Document, Key, PARTITION_NUMBERS_MAX, PartitionDocument, TopicDocument};
use super::names::check_topic_name;
use super::working_set::WorkingSet;

/// More partitions than this in one request are a mistake; Kafka's own bound.
const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;

fn collision_name(name: &str) -> Arc<str> {
    Arc::from(name.replace('.', "_"))
}

pub(super) fn keys_to_create(name: &Arc<str>, id: TopicId) -> Vec<Key> {
    vec![
        Key::Topic(Arc::clone(name)),
        Key::TopicName(id),
        Key::TopicCollision(collision_name(name)),
        Key::Counters,
    ]
}

pub(super) fn keys_to_delete(id: TopicId, set: &WorkingSet<'_>) -> Vec<Key> {
    let mut keys = vec![Key::TopicName(id)];
    if let Some(name) = set.topic_name(id) {
        keys.push(Key::Topic(Arc::clone(name)));
        keys.push(Key::TopicCollision(collision_name(name)));
        if let Some(topic) = set.topic(name) {
            keys.extend(topic.all_partitions().map(Key::Partition));
        }
    }
    keys
}

pub(super) fn create(
    set: &mut WorkingSet<'_>,
    name: &Arc<str>,
    id: TopicId,
    partitions: i32,
    configs: BTreeMap<String, String>,
) -> Outcome {
    check_topic_name(name)?;
    if set.topic(name).is_some() {
        return Err(Refused::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    let collision = collision_name(name);
    if let Some(other) = set.collisions(&collision).first() {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(Refused::new(ErrorCode::InvalidTopicException, message));
    }
    check_partition_count(partitions)?;
    check_configs(&configs)?;
    let topic = Arc::new(TopicDocument::new(Arc::clone(name), id, partitions, configs));
    add_partitions(set, id, 0..partitions)?;
    set.put(Key::Topic(Arc::clone(name)), Document::Topic(Arc::clone(&topic)));
    set.put(Key::TopicName(id), Document::TopicName(Arc::clone(name)));
    if name.contains(['.', '_']) {
        let names = set.collisions(&collision).iter().cloned().chain([Arc::clone(name)]).collect();
        set.put(Key::TopicCollision(collision), Document::TopicCollision(names));
    }
    Ok(Done::Topic(topic))
}

fn check_partition_count(partitions: i32) -> Result<(), Refused> {
    if partitions < 1 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refused::new(ErrorCode::InvalidPartitions, message));
    }
    if partitions > PARTITIONS_PER_TOPIC_MAX {
        let message = format!(
            "Excessively large number of partitions per request: at most {PARTITIONS_PER_TOPIC_MAX}."
        );
        return Err(Refused::new(ErrorCode::PolicyViolation, message));
    }
    Ok(())
}

/// Names first, then values: a client that gets both wrong hears of the name, as from Kafka.
fn check_configs(configs: &BTreeMap<String, String>) -> Result<(), Refused> {
    let invalid = |message| Refused::new(ErrorCode::InvalidConfig, message);
    if let Some(name) = configs.keys().find(|name| configs::find(name).is_none()) {
        return Err(invalid(format!("Unknown topic config name: {name}")));
    }
    configs.iter().try_for_each(|(name, value)| configs::validate(name, value)).map_err(invalid)
}

fn add_partitions(
    set: &mut WorkingSet<'_>,
    topic: TopicId,
    range: std::ops::Range<i32>,
) -> Result<(), Refused> {
    let mut counters = set.counters();
    let left = PARTITION_NUMBERS_MAX.saturating_sub(counters.next_partition_number);
    if range.len() > left as usize {
        let message = format!(
            "This store has given out {} of its {PARTITION_NUMBERS_MAX} partition numbers; start a new one.",
            counters.next_partition_number
        );
        return Err(Refused::new(ErrorCode::PolicyViolation, message));
    }
    for partition in range {
        let document = PartitionDocument {
            number: counters.next_partition_number,
            log_start: 0,
            end: 0,
            bytes: 0,
            leader_epoch: 0,
        };
        counters.next_partition_number += 1;
        set.put(Key::Partition(TopicPartition { topic, partition }), Document::Partition(document));
    }
    set.put(Key::Counters, Document::Counters(counters));
    Ok(())
}

fn unknown_topic() -> Refused {
    let error = ErrorCode::UnknownTopicOrPartition;
    Refused::new(error, "This server does not host this topic-partition.")
}

pub(super) fn delete(set: &mut WorkingSet<'_>, id: TopicId) -> Outcome {
    let unknown = || Refused::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.");
    let name = Arc::clone(set.topic_name(id).ok_or_else(unknown)?);
    let topic = Arc::clone(set.topic(&name).ok_or_else(unknown)?);
    for partition in topic.all_partitions() {
        if let Some(document) = set.partition(partition) {
            set.effect(Effect::Drop { partition, number: document.number });
        }
        set.delete(Key::Partition(partition));
    }
    let collision = collision_name(&name);
    let left: Vec<_> = set.collisions(&collision).iter().filter(|other| **other != name).cloned().collect();
    match left.is_empty() {
        true => set.delete(Key::TopicCollision(collision)),
        false => set.put(Key::TopicCollision(collision), Document::TopicCollision(left)),
    }
    set.delete(Key::TopicName(id));
    set.delete(Key::Topic(name));
    Ok(Done::Topic(topic))
}

pub(super) fn create_partitions(set: &mut WorkingSet<'_>, name: &Arc<str>, count: i32) -> Outcome {
    let topic = Arc::clone(set.topic(name).ok_or_else(unknown_topic)?);
    let invalid = |message: String| Err(Refused::new(ErrorCode::InvalidPartitions, message));
    let has = topic.partitions;
    if count == has {
        return invalid(format!("Topic already has {has} partition(s)."));
    }
    if count < has {
        return invalid(format!(
            "The topic {name} currently has {has} partition(s); {count} would not be an increase."
        ));
    }
    check_partition_count(count - has)?;
    add_partitions(set, topic.id, has..count)?;
    let grown = TopicDocument::new(Arc::clone(name), topic.id, count, topic.configs.clone());
    let grown = Arc::new(grown);
    set.put(Key::Topic(Arc::clone(name)), Document::Topic(Arc::clone(&grown)));
    Ok(Done::Topic(grown))
}

pub(super) fn alter_configs(set: &mut WorkingSet<'_>, name: &Arc<str>, change: NewConfigs) -> Outcome {
    let topic = Arc::clone(set.topic(name).ok_or_else(unknown_topic)?);
    let configs = match change {
        NewConfigs::Replace(configs) => configs,
        NewConfigs::Incremental(operations) => {
            let list_default = |name: &str| {
                configs::find(name)
                    .filter(|config| config.kind == ConfigKind::List)
                    .map(|config| config.default)
            };
            configs::apply(topic.configs.clone(), operations, list_default)?
        }
    };
    check_configs(&configs)?;
    let altered = Arc::new(topic.with_configs(configs));
    set.put(Key::Topic(Arc::clone(name)), Document::Topic(Arc::clone(&altered)));
    Ok(Done::Topic(altered))
}
