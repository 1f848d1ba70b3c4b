//! CreateTopics.
//!
//! Of several faults a client gets the one that Kafka checks first: the name, whether the topic exists, the
//! configs, then counts and assignments. The rules check the first three. A topic with wrong counts is
//! therefore checked by the rules as well, with a command that changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, Command, Outcome, Refused};
use rules::configs::{ConfigSource, TopicConfig, topic_configs};
use rules::documents::TopicDocument;

use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::{requests, text, topics};
use crate::broker::Broker;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: CreateTopicsRequest = call.decode()?;
    requests::check_timeout(request.timeout_ms)?;
    check_total(broker, &request.topics)?;
    let (once, repeated) = requests::split_repeated(&request.topics, |topic| topic.name.as_str());
    let is_prohibited = |topic: &&CreatableTopic| topic.name.as_str() == topics::CLUSTER_METADATA_TOPIC;
    let (prohibited, topics): (Vec<_>, Vec<_>) = once.into_iter().partition(is_prohibited);
    let (commands, faults): (Vec<Command>, Vec<Option<Refused>>) =
        topics.iter().map(|topic| prepare(broker, topic, request.validate_only)).unzip();
    let outcomes =
        if commands.is_empty() { Vec::new() } else { broker.store.commit(&call.ticket, commands).await? };
    let with_configs = call.header.version >= 5;
    let mut results: Vec<CreatableTopicResult> = Vec::with_capacity(request.topics.len());
    for ((topic, outcome), fault) in topics.iter().zip(outcomes).zip(faults) {
        // Faults found by the rules come before those found here.
        let outcome = outcome.and_then(|done| fault.map_or(Ok(done), Err));
        results.push(result(&topic.name, outcome, with_configs));
    }
    for topic in repeated {
        results.push(refused(&topic.name, requests::invalid_request("Duplicate topic name.")));
    }
    for topic in prohibited {
        let message = format!("Creation of internal topic {} is prohibited.", topic.name.as_str());
        results.push(refused(&topic.name, requests::invalid_request(message)));
    }
    Ok(Some(call.reply(&CreateTopicsResponse::default().with_topics(results))?))
}

/// Refuses the whole request if it would create too many partitions.
fn check_total(broker: &Broker, topics: &[CreatableTopic]) -> Result<(), ApiError> {
    let partitions = |topic: &CreatableTopic| match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => i64::from(broker.settings.default_partitions),
        (0, count) => i64::from(count.max(0)),
        (assigned, _) => assigned as i64,
    };
    if topics.iter().map(partitions).sum::<i64>() <= topics::PARTITIONS_CREATED_MAX {
        return Ok(());
    }
    let message = "Excessively large number of partitions per request.".to_owned();
    Err(ApiError::Refused(ErrorCode::PolicyViolation, message))
}

/// The command for a topic, and the fault that the rules do not check.
fn prepare(broker: &Broker, topic: &CreatableTopic, is_check: bool) -> (Command, Option<Refused>) {
    let (configs, counted) = match configs(topic) {
        Ok(configs) => (configs, partitions(broker, topic)),
        Err(refused) => (BTreeMap::new(), Err(refused)),
    };
    let (partitions, fault) = match counted {
        Ok(partitions) => (partitions, None),
        Err(refused) => (1, Some(refused)),
    };
    let name = Arc::from(topic.name.as_str());
    let command = Command::CreateTopic { name, id: broker.fresh_topic_id(), partitions, configs };
    if is_check || fault.is_some() { (Command::Check(Box::new(command)), fault) } else { (command, fault) }
}

/// The configs that a client sent; the last of a duplicate counts, as in Kafka.
fn configs(topic: &CreatableTopic) -> Result<BTreeMap<String, String>, Refused> {
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for topic configs: {}", config.name.as_str());
            return Err(Refused::new(ErrorCode::InvalidConfig, message));
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    Ok(configs)
}

/// The partition count, if count, replication factor and assignments are valid.
fn partitions(broker: &Broker, topic: &CreatableTopic) -> Result<i32, Refused> {
    if !topic.assignments.is_empty() {
        return assigned_partitions(broker, topic);
    }
    let factor = topic.replication_factor;
    let invalid_factor = |message: String| Err(Refused::new(ErrorCode::InvalidReplicationFactor, message));
    if factor < -1 || factor == 0 {
        return invalid_factor(
            "Replication factor must be larger than 0, or -1 to use the default value.".to_owned(),
        );
    }
    let count = topic.num_partitions;
    if count < -1 || count == 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refused::new(ErrorCode::InvalidPartitions, message));
    }
    // Nothing is replicated by brokers; as many as are there may be asked for, as of Kafka.
    let brokers = broker.nodes.count();
    let factor_max = broker.settings.replication_factor_max.max(i16::try_from(brokers).unwrap_or(i16::MAX));
    if factor > factor_max {
        return invalid_factor(format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot \
             be reached because only {brokers} broker(s) are registered."
        ));
    }
    Ok(if count == -1 { broker.settings.default_partitions } else { count })
}

fn assigned_partitions(broker: &Broker, topic: &CreatableTopic) -> Result<i32, Refused> {
    let both = |what: &str| {
        let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Err(requests::invalid_request(message))
    };
    if topic.replication_factor != -1 {
        return both("replication factor");
    }
    if topic.num_partitions != -1 {
        return both("numPartitions");
    }
    let invalid = |message: String| Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    let mut assigned = BTreeSet::new();
    for assignment in &topic.assignments {
        let partition = assignment.partition_index;
        if !assigned.insert(partition) {
            return invalid(format!("Found multiple manual partition assignments for partition {partition}"));
        }
        requests::check_assignment(&assignment.broker_ids, &broker.nodes)?;
    }
    let count = assigned.len() as i32;
    if !assigned.into_iter().eq(0..count) {
        return invalid("partitions should be a consecutive 0-based integer sequence".to_owned());
    }
    Ok(count)
}

fn result(name: &TopicName, outcome: Outcome, with_configs: bool) -> CreatableTopicResult {
    match outcome {
        Ok(Applied::Topic(topic)) => CreatableTopicResult::default()
            .with_name(name.clone())
            .with_topic_id(topic.id.0)
            .with_error_message(None)
            .with_num_partitions(topic.partitions)
            .with_replication_factor(1)
            .with_configs(Some(if with_configs { described(&topic) } else { Vec::new() })),
        Ok(other) => {
            let message = format!("creating the topic gave {other:?}");
            refused(name, Refused::new(ErrorCode::UnknownServerError, message))
        }
        Err(refusal) => refused(name, refusal),
    }
}

fn refused(name: &TopicName, refused: Refused) -> CreatableTopicResult {
    let (code, message) = text::error_fields(Some(refused));
    CreatableTopicResult::default().with_name(name.clone()).with_error_code(code).with_error_message(message)
}

/// The configs of the created topic, with values as they were sent.
fn described(topic: &TopicDocument) -> Vec<CreatableTopicConfigs> {
    let entry = |config: &'static TopicConfig| {
        let (value, source) = match topic.configs.get(config.name) {
            Some(value) => (text::str_bytes(value), ConfigSource::DynamicTopicConfig),
            None => (StrBytes::from_static_str(config.default), ConfigSource::DefaultConfig),
        };
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(config.name))
            .with_value(Some(value))
            .with_config_source(source.code())
    };
    topic_configs().iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
