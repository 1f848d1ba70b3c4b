//! Topics: creation, new partitions, configs and deletion.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{ErrorCode, TopicId, TopicPartition};

use crate::commands::{Applied, Effect, NewConfigs, Outcome, Refused};
use crate::configs::{self, ConfigKind};
use crate::documents::{
    DueSubject, EpochHistory, PartitionDocument, TopicCollision, TopicDocument, TopicName,
};
use crate::due;
use crate::working_set::{Wanted, WorkingSet};

/// Kafka leaves room for a partition number and a suffix in a file name of 255 bytes.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Kafka's bound on the partitions of one request: more are a mistake.
const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;

fn collision_name(name: &str) -> Arc<str> {
    Arc::from(name.replace('.', "_"))
}

/// The documents of a new id and of new partitions are not among them: there are none yet, and nobody else knows of them.
pub(crate) fn needs_to_create(wanted: &mut Wanted, name: &Arc<str>) {
    wanted.write::<TopicDocument>(name).write::<TopicCollision>(&collision_name(name));
}

pub(crate) fn needs_to_grow(wanted: &mut Wanted, name: &Arc<str>) {
    wanted.write::<TopicDocument>(name);
}

pub(crate) fn needs_to_delete(wanted: &mut Wanted, id: TopicId, set: &WorkingSet<'_>) {
    wanted.write::<TopicName>(&id);
    let Some(TopicName(name)) = set.get::<TopicName>(&id) else { return };
    wanted.write::<TopicDocument>(name).write::<TopicCollision>(&collision_name(name));
    for partition in set.get::<TopicDocument>(name).into_iter().flat_map(TopicDocument::all_partitions) {
        wanted.write::<PartitionDocument>(&partition).write::<EpochHistory>(&partition);
    }
}

/// Checks a new topic's name as Kafka does.
///
/// # Errors
/// Kafka's INVALID_TOPIC_EXCEPTION, with the reason.
pub fn check_topic_name(name: &str) -> Result<(), Refused> {
    let invalid = |why: String| Err(Refused::new(ErrorCode::InvalidTopicException, why));
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return invalid("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return invalid(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return invalid(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}"
        ));
    }
    if !name.chars().all(is_legal) {
        return invalid(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

pub(crate) fn create(
    set: &mut WorkingSet<'_>,
    name: &Arc<str>,
    id: TopicId,
    partitions: i32,
    configs: &BTreeMap<String, String>,
) -> Outcome {
    check_topic_name(name)?;
    if set.get::<TopicDocument>(name).is_some() {
        return Err(Refused::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    let collision = collision_name(name);
    let mut colliding = set.get::<TopicCollision>(&collision).cloned().unwrap_or_default();
    if let Some(other) = colliding.0.first() {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(Refused::new(ErrorCode::InvalidTopicException, message));
    }
    check_partition_count(partitions)?;
    check_configs(configs)?;
    let topic = Arc::new(TopicDocument::new(Arc::clone(name), id, partitions, configs.clone()));
    add_partitions(set, id, 0..partitions);
    set.put::<TopicDocument>(name, Arc::clone(&topic));
    set.put::<TopicName>(&id, TopicName(Arc::clone(name)));
    if name.contains(['.', '_']) {
        colliding.0.push(Arc::clone(name));
        set.put::<TopicCollision>(&collision, colliding);
    }
    Ok(Applied::Topic(topic))
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

/// Names first, then values: if both are wrong, the client gets the error for the name, as from Kafka.
fn check_configs(configs: &BTreeMap<String, String>) -> Result<(), Refused> {
    let invalid = |message| Refused::new(ErrorCode::InvalidConfig, message);
    if let Some(name) = configs.keys().find(|name| configs::find(name).is_none()) {
        return Err(invalid(format!("Unknown topic config name: {name}")));
    }
    configs.iter().try_for_each(|(name, value)| configs::validate(name, value)).map_err(invalid)?;
    configs::validate_together(configs).map_err(invalid)
}

fn add_partitions(set: &mut WorkingSet<'_>, topic: TopicId, range: std::ops::Range<i32>) {
    for partition in range {
        let at = TopicPartition { topic, partition };
        let log = PartitionDocument {
            log_start: 0,
            end: 0,
            leader_epoch: 0,
            look_after_append: false,
            append_time_ms: None,
            first_unstable: None,
            last_aborted: None,
            cleaning: None,
        };
        set.put::<PartitionDocument>(&at, log);
        set.effect(Effect::CreateLog { partition: at });
    }
}

fn unknown_topic() -> Refused {
    let error = ErrorCode::UnknownTopicOrPartition;
    Refused::new(error, "This server does not host this topic-partition.")
}

pub(crate) fn delete(set: &mut WorkingSet<'_>, id: TopicId) -> Outcome {
    let unknown = || Refused::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.");
    let TopicName(name) = set.get::<TopicName>(&id).cloned().ok_or_else(unknown)?;
    let topic = set.get_arc::<TopicDocument>(&name).ok_or_else(unknown)?;
    for partition in topic.all_partitions() {
        if set.get::<PartitionDocument>(&partition).is_some() {
            set.effect(Effect::DropLog { partition });
        }
        set.delete::<PartitionDocument>(&partition);
        if set.get::<EpochHistory>(&partition).is_some() {
            set.delete::<EpochHistory>(&partition);
        }
    }
    let collision = collision_name(&name);
    let mut colliding = set.get::<TopicCollision>(&collision).cloned().unwrap_or_default();
    colliding.0.retain(|other| *other != name);
    if colliding.0.is_empty() {
        set.delete::<TopicCollision>(&collision);
    } else {
        set.put::<TopicCollision>(&collision, colliding);
    }
    set.delete::<TopicName>(&id);
    set.delete::<TopicDocument>(&name);
    due::look_at_once(set, &DueSubject::DeletedTopic(id));
    Ok(Applied::Topic(topic))
}

pub(crate) fn create_partitions(set: &mut WorkingSet<'_>, name: &Arc<str>, count: i32) -> Outcome {
    let topic = set.get_arc::<TopicDocument>(name).ok_or_else(unknown_topic)?;
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
    add_partitions(set, topic.id, has..count);
    let grown = TopicDocument::new(Arc::clone(name), topic.id, count, topic.configs.clone());
    let grown = Arc::new(grown);
    set.put::<TopicDocument>(name, Arc::clone(&grown));
    Ok(Applied::Topic(grown))
}

pub(crate) fn alter_configs(set: &mut WorkingSet<'_>, name: &Arc<str>, change: &NewConfigs) -> Outcome {
    let topic = set.get_arc::<TopicDocument>(name).ok_or_else(unknown_topic)?;
    let configs = match change {
        NewConfigs::Replace(configs) => configs.clone(),
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
    let limits = |topic: &TopicDocument| {
        let config = topic.effective();
        let compaction = config.cleanup_policy.compacts().then_some(config.compaction);
        (config.retention_ms, config.retention_bytes, compaction)
    };
    if limits(&altered) != limits(&topic) {
        // One entry, however many partitions it has.
        due::look_at_once(set, &DueSubject::Topic(Arc::clone(name)));
    }
    set.put::<TopicDocument>(name, Arc::clone(&altered));
    Ok(Applied::Topic(altered))
}
