//! DescribeConfigs: configs of topics, brokers, groups and client metrics subscriptions.

use std::sync::Arc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode, NodeId};

mod client_metrics;
mod group;

use rules::commands::Refused;
use rules::configs::{self, BrokerConfig, BrokerFacts, ConfigSource, GroupFacts, TopicConfig};
use rules::documents::TopicDocument;
use rules::topics::check_topic_name;

use crate::apis::common::answer::Answer;
use crate::apis::common::{config_resources, requests, text};
use crate::broker::Broker;
use crate::nodes::Listed;
use crate::settings::Settings;

type Described = Result<Vec<DescribeConfigsResourceResult>, Refused>;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeConfigsRequest = call.decode()?;
    call.ticket.after_writes().await;
    let topics = broker.store.topics_by_name(names(&request, config_resources::TOPIC)).await?;
    let groups = broker.store.group_configs_of(names(&request, config_resources::GROUP)).await?;
    let group_defaults = broker.settings.group_defaults();
    let subscriptions = broker.store.client_metrics().await?.into_iter().collect();
    let describe = |resource: &DescribeConfigsResource| {
        let options = DescribeOptions {
            keys: resource.configuration_keys.as_deref().unwrap_or_default(),
            with_synonyms: request.include_synonyms,
            with_documentation: request.include_documentation,
        };
        let name = resource.resource_name.as_str();
        let described = match resource.resource_type {
            config_resources::TOPIC => topic(name, topics.get(name), &options),
            config_resources::BROKER => describe_broker(broker, call, name, &options),
            config_resources::CLIENT_METRICS => client_metrics::describe(name, &subscriptions, &options),
            config_resources::GROUP => group::describe(name, &groups, group_defaults, &options),
            config_resources::BROKER_LOGGER => Err(logger(broker, call, name)),
            other => Err(config_resources::not_configurable(other)),
        };
        result(resource, described)
    };
    let results = request.resources.iter().map(describe).collect();
    Ok(Some(call.reply(&DescribeConfigsResponse::default().with_results(results))?))
}

/// The names of the resources of a type.
fn names(request: &DescribeConfigsRequest, resource_type: i8) -> Vec<Arc<str>> {
    let of_type = request.resources.iter().filter(|resource| resource.resource_type == resource_type);
    of_type.map(|resource| Arc::from(resource.resource_name.as_str())).collect()
}

/// What the request wants to know of one resource.
struct DescribeOptions<'a> {
    /// Names of the configs; empty for all.
    keys: &'a [StrBytes],
    with_synonyms: bool,
    with_documentation: bool,
}

impl DescribeOptions<'_> {
    fn wants(&self, name: &str) -> bool {
        self.keys.is_empty() || self.keys.iter().any(|key| key.as_str() == name)
    }

    fn documentation(&self, documentation: impl FnOnce() -> String) -> Option<StrBytes> {
        self.with_documentation.then(|| StrBytes::from_string(documentation()))
    }
}

fn topic(name: &str, topic: Option<&Arc<TopicDocument>>, options: &DescribeOptions<'_>) -> Described {
    check_topic_name(name)?;
    let unknown = "This server does not host this topic-partition.";
    let topic = topic.ok_or_else(|| Refused::new(ErrorCode::UnknownTopicOrPartition, unknown))?;
    let set = |config: &TopicConfig| topic.configs.get(config.name).map(String::as_str);
    let is_shown = |config: &&TopicConfig| set(config).is_some() || !options.keys.is_empty();
    let own = configs::own_topic_configs().iter().filter(is_shown);
    let wanted = configs::topic_configs().iter().chain(own).filter(|config| options.wants(config.name));
    Ok(wanted.map(|config| topic_config(config, set(config), options)).collect())
}

fn topic_config(
    config: &'static TopicConfig,
    set: Option<&str>,
    options: &DescribeOptions<'_>,
) -> DescribeConfigsResourceResult {
    let default = StrBytes::from_static_str(config.default);
    let (value, source) = match set {
        Some(value) => {
            (StrBytes::from(configs::canonical(config.name, value)), ConfigSource::DynamicTopicConfig)
        }
        None => (default.clone(), ConfigSource::DefaultConfig),
    };
    let mut synonyms = Vec::new();
    if options.with_synonyms {
        // In order of precedence: the topic's own value, then the broker config that sets the default.
        synonyms.extend(set.map(|_| synonym(config.name, value.clone(), source)));
        let broker = config.described_synonym();
        synonyms.extend(broker.map(|name| synonym(name, default, ConfigSource::DefaultConfig)));
    }
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(config.name))
        .with_value(Some(value))
        .with_config_source(source.code())
        .with_synonyms(synonyms)
        .with_config_type(config.kind.code())
        .with_documentation(options.documentation(|| config.described()))
}

fn synonym(name: &'static str, value: StrBytes, source: ConfigSource) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(StrBytes::from_static_str(name))
        .with_value(Some(value))
        .with_source(source.code())
}

fn describe_broker(broker: &Broker, call: &Call, name: &str, options: &DescribeOptions<'_>) -> Described {
    // The empty name means the dynamic defaults of all brokers, of which there are none.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let cluster = broker.nodes.cluster(&call.session);
    // Of another broker, too: it has the same settings for what is about topics, groups and transactions.
    let node = cluster.own().0;
    let asked = config_resources::broker_id("Broker", name)?;
    let Some(listed) = cluster.broker(NodeId(asked)) else {
        let message = format!("Unexpected broker id, expected {node} or empty string, but received {name}");
        return Err(requests::invalid_request(message));
    };
    let configs = configs::broker_configs(&facts(broker, call, listed));
    Ok(configs
        .iter()
        .filter(|config| options.wants(config.name))
        .map(|config| broker_config(config, options))
        .collect())
}

/// A broker's configs for this client, with the addresses of the listener that it connected to.
fn facts(broker: &Broker, call: &Call, listed: &Listed) -> BrokerFacts {
    let advertised = &listed.address;
    let is_ipv6 = advertised.host.contains(':');
    let host = if is_ipv6 { format!("[{}]", advertised.host) } else { advertised.host.clone() };
    BrokerFacts {
        node_id: listed.id.0,
        auto_create_topics: broker.settings.auto_create_topics,
        default_partitions: broker.settings.default_partitions,
        listeners: broker.node.listeners.clone(),
        advertised: format!("{}://{host}:{}", call.session.listener, advertised.port),
        storage_url_masked: broker.settings.url_masked(),
        request_bytes_max: call.session.request_bytes_max(),
        transaction_timeout_max_ms: broker.settings.transaction_max_timeout.0.as_millis(),
        groups: group_facts(&broker.settings),
    }
}

fn group_facts(settings: &Settings) -> GroupFacts {
    GroupFacts {
        initial_delay_ms: settings.group_initial_rebalance_delay.0.as_millis(),
        session_min_ms: settings.group_min_session_timeout.0.as_millis(),
        session_max_ms: settings.group_max_session_timeout.0.as_millis(),
        members_max: settings.group_max_size,
        offsets_retention_minutes: settings.offsets_retention.0.as_millis() / 60_000,
        consumer_session_ms: settings.group_consumer_session_timeout.0.as_millis(),
        consumer_interval_ms: settings.group_consumer_heartbeat_interval.0.as_millis(),
    }
}

fn broker_config(config: &BrokerConfig, options: &DescribeOptions<'_>) -> DescribeConfigsResourceResult {
    let value = config.value.as_deref().map(text::str_bytes);
    let own = value.clone().filter(|_| options.with_synonyms);
    let own = own.map(|value| synonym(config.name, value, config.source()));
    // A value that was set has the default as a second synonym.
    let default = config.default.filter(|_| own.is_some() && !config.is_default);
    let default = default
        .map(|value| synonym(config.name, StrBytes::from_static_str(value), ConfigSource::DefaultConfig));
    let synonyms = own.into_iter().chain(default);
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(config.name))
        .with_value(value)
        .with_read_only(config.read_only)
        .with_config_source(config.source().code())
        .with_synonyms(synonyms.collect())
        .with_config_type(config.kind.code())
        .with_documentation(options.documentation(|| config.documentation.to_owned()))
}

/// Loggers cannot be described, but Kafka's checks of the broker come first.
fn logger(broker: &Broker, call: &Call, name: &str) -> Refused {
    let node = broker.nodes.cluster(&call.session).own().0;
    if name.is_empty() {
        return requests::invalid_request("Broker id must not be empty");
    }
    match config_resources::broker_id("Broker", name) {
        Err(refused) => refused,
        Ok(id) if !broker.nodes.has(NodeId(id)) => {
            requests::invalid_request(format!("Unexpected broker id, expected {node} but received {name}"))
        }
        Ok(_) => requests::invalid_request(config_resources::NO_LOGGERS),
    }
}

fn result(resource: &DescribeConfigsResource, described: Described) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name.clone());
    match described {
        // The message stays empty, not null, as in Kafka.
        Ok(configs) => result.with_configs(configs),
        Err(refused) => {
            let (code, message) = text::error_fields(Some(refused));
            result.with_error_code(code).with_error_message(message)
        }
    }
}

#[cfg(test)]
mod tests;
