//! Subscriptions to clients' metrics, as DescribeConfigs shows them (KIP-714).

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::protocol::StrBytes;

use super::{Ask, Described, synonym};
use crate::apis::common::requests;
use crate::apis::common::text;
use rules::configs::ConfigSource;
use rules::configs::client_metrics::{CONFIGS, SubscriptionConfig};
use rules::documents::Subscription;

/// A subscription that is not there is one that has all defaults.
pub(super) fn describe(
    name: &str,
    subscriptions: &HashMap<Arc<str>, Arc<Subscription>>,
    ask: &Ask<'_>,
) -> Described {
    if name.is_empty() {
        return Err(requests::invalid_request("Client metrics subscription name must not be empty"));
    }
    let set = subscriptions.get(name);
    let wanted = CONFIGS.iter().filter(|config| ask.wants(config.name));
    Ok(wanted.map(|config| shown(config, set.and_then(|set| set.0.get(config.name)), ask)).collect())
}

fn shown(
    config: &'static SubscriptionConfig,
    set: Option<&String>,
    ask: &Ask<'_>,
) -> DescribeConfigsResourceResult {
    let (value, source) = match set {
        Some(value) => (text::str_bytes(value), ConfigSource::ClientMetricsConfig),
        None => (StrBytes::from_static_str(config.default), ConfigSource::DefaultConfig),
    };
    // No broker config stands behind a default.
    let own = set.filter(|_| ask.with_synonyms);
    let synonyms = own.map(|_| synonym(config.name, value.clone(), source));
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(config.name))
        .with_value(Some(value))
        .with_config_source(source.code())
        .with_synonyms(synonyms.into_iter().collect())
        .with_config_type(config.kind.code())
        .with_documentation(ask.documentation(config.documentation))
}
