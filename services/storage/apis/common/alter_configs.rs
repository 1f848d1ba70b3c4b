//! Code shared by AlterConfigs and IncrementalAlterConfigs.
//!
//! Each resource of a request is altered or refused on its own. Topics, groups and client metrics subscriptions
//! can be altered; a broker's configs are set in its TOML file.

use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode, NodeId};
use rules::commands::{Command, ConfigOperation, NewConfigs, Refused};
use rules::configs;
use rules::topics::check_topic_name;
use tracing::warn;

use crate::apis::common::answer::ApiError;
use crate::apis::common::{config_resources, requests};
use crate::broker::Broker;

/// The message for refused changes of broker configs.
pub(crate) const BROKER_SETTINGS: &str = "the settings of a Yagura broker cannot be altered by a client; \
                                          change its TOML file, and restart it or send it SIGHUP";

/// A resource and the requested change of its configs.
pub(crate) struct Change {
    pub(crate) resource_type: i8,
    pub(crate) resource_name: StrBytes,
    /// An error comes from [`check_entries`] or from parsing the operations.
    pub(crate) configs: Result<NewConfigs, Refused>,
}

/// Alters resources, or only validates the changes. Returns the refusals in the request's order.
pub(crate) async fn alter(
    broker: &Broker,
    call: &Call,
    changes: Vec<Change>,
    is_check: bool,
) -> Result<Vec<Option<Refused>>, ApiError> {
    let key = |change: &Change| (change.resource_type, change.resource_name.clone());
    let keys: Vec<_> = changes.iter().map(key).collect();
    let (_, repeated) = requests::split_repeated(&keys, |key| key);
    let mut results: Vec<Option<Refused>> = Vec::with_capacity(changes.len());
    let (mut commands, mut places) = (Vec::new(), Vec::new());
    for (change, key) in changes.into_iter().zip(&keys) {
        let prepared = if repeated.contains(&key) {
            Err(requests::invalid_request("Each resource must appear at most once."))
        } else {
            prepare(broker, change)
        };
        match prepared {
            Ok(Some(command)) => {
                places.push(results.len());
                commands.push(if is_check { Command::Check(Box::new(command)) } else { command });
                results.push(None);
            }
            Ok(None) => results.push(None),
            Err(refused) => results.push(Some(refused)),
        }
    }
    if !commands.is_empty() {
        let outcomes = broker.store.commit(&call.ticket, commands).await?;
        if !is_check && keys.iter().any(|(kind, _)| *kind == config_resources::CLIENT_METRICS) {
            look_for_subscriptions(broker).await;
        }
        for (place, outcome) in places.into_iter().zip(outcomes) {
            let name = &keys[place].1;
            results[place] = outcome.err().map(|refused| with_kafka_message(refused, name));
        }
    }
    Ok(results)
}

/// Notes whether there is a client metrics subscription now. The change is durable, whatever comes of it.
async fn look_for_subscriptions(broker: &Broker) {
    if let Err(error) = broker.telemetry.look(&broker.store).await {
        warn!(%error, "subscriptions were changed and could not be read: clients are offered what they were before");
    }
}

/// Kafka's message for an unknown topic differs here from the other APIs.
fn with_kafka_message(refused: Refused, topic: &str) -> Refused {
    match refused.error {
        ErrorCode::UnknownTopicOrPartition => {
            Refused::new(refused.error, format!("The topic '{topic}' does not exist."))
        }
        _ => refused,
    }
}

/// The command for a resource; `None` if there is nothing to do.
fn prepare(broker: &Broker, change: Change) -> Result<Option<Command>, Refused> {
    let configs = change.configs?;
    let name = change.resource_name.as_str();
    match change.resource_type {
        config_resources::TOPIC => {
            if name.is_empty() {
                return Err(requests::invalid_request("Default topic resources are not allowed."));
            }
            check_topic_name(name)?;
            // Kafka validates the values before it looks up the topic.
            check_values(&configs)?;
            Ok(Some(Command::AlterConfigs { name: Arc::from(name), configs }))
        }
        config_resources::CLIENT_METRICS => {
            if name.is_empty() {
                return Err(requests::invalid_request("Default client metrics resources are not allowed."));
            }
            Ok(Some(Command::AlterClientMetrics { name: Arc::from(name), configs }))
        }
        config_resources::GROUP => {
            if name.is_empty() {
                return Err(requests::invalid_request("Default group resources are not allowed."));
            }
            let defaults = broker.settings.group_defaults();
            Ok(Some(Command::AlterGroupConfigs { group: Arc::from(name), configs, defaults }))
        }
        config_resources::BROKER => alter_broker(broker, name, &configs).map(|()| None),
        config_resources::BROKER_LOGGER => Err(requests::invalid_request(config_resources::NO_LOGGERS)),
        other => Err(config_resources::not_configurable(other)),
    }
}

fn check_values(change: &NewConfigs) -> Result<(), Refused> {
    let values: Vec<(&str, &str)> = match change {
        NewConfigs::Replace(configs) => {
            configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
        }
        NewConfigs::Incremental(operations) => {
            let set = operations.iter().filter_map(|(name, operation)| match operation {
                ConfigOperation::Set(value) => Some((name.as_str(), value.as_str())),
                _ => None,
            });
            set.collect()
        }
    };
    let unknown = values.iter().find(|(name, _)| configs::find(name).is_none());
    let checked = match unknown {
        Some((name, value)) => configs::validate(name, value),
        None => values.iter().try_for_each(|(name, value)| configs::validate(name, value)),
    };
    checked.map_err(|message| Refused::new(ErrorCode::InvalidConfig, message))
}

/// A broker's configs cannot be changed; an empty change is accepted.
fn alter_broker(broker: &Broker, name: &str, change: &NewConfigs) -> Result<(), Refused> {
    let node = broker.nodes.id().0;
    if !name.is_empty() && !broker.nodes.has(NodeId(config_resources::broker_id("Node", name)?)) {
        let message = format!("Unexpected broker id, expected {node}, but received {name}");
        return Err(requests::invalid_request(message));
    }
    let is_empty = match change {
        NewConfigs::Replace(configs) => configs.is_empty(),
        NewConfigs::Incremental(operations) => operations.is_empty(),
    };
    if is_empty { Ok(()) } else { Err(requests::invalid_request(BROKER_SETTINGS)) }
}

/// The first check of one resource's configs: each at most once, and with a value where one is required.
pub(crate) fn check_entries<'a>(
    names: &[&'a str],
    lacking_value: impl Iterator<Item = &'a str>,
) -> Result<(), Refused> {
    let (_, repeated) = requests::split_repeated(names, |name| *name);
    if !repeated.is_empty() {
        return Err(requests::invalid_request("Error due to duplicate config keys"));
    }
    let lacking: Vec<&str> = lacking_value.collect();
    if !lacking.is_empty() {
        let message = format!("Null value not supported for : {}", lacking.join(", "));
        return Err(requests::invalid_request(message));
    }
    Ok(())
}
