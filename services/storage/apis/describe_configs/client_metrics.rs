//! Client metrics subscriptions in DescribeConfigs (KIP-714).

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::protocol::StrBytes;
use rules::configs::ConfigSource;
use rules::configs::client_metrics::{CONFIGS, SubscriptionConfig};
use rules::documents::Subscription;

use super::{DescribeOptions, Described, synonym};
use crate::apis::common::{requests, text};

/// A subscription that does not exist has all defaults.
pub(super) fn describe(
    name: &str,
    subscriptions: &HashMap<Arc<str>, Arc<Subscription>>,
    options: &DescribeOptions<'_>,
) -> Described {
    if name.is_empty() {
        return Err(requests::invalid_request("Client metrics subscription name must not be empty"));
    }
    let set = subscriptions.get(name);
    let wanted = CONFIGS.iter().filter(|config| options.wants(config.name));
    Ok(wanted.map(|config| shown(config, set.and_then(|set| set.0.get(config.name)), options)).collect())
}

fn shown(
    config: &'static SubscriptionConfig,
    set: Option<&String>,
    options: &DescribeOptions<'_>,
) -> DescribeConfigsResourceResult {
    let (value, source) = match set {
        Some(value) => (text::str_bytes(value), ConfigSource::ClientMetricsConfig),
        None => (StrBytes::from_static_str(config.default), ConfigSource::DefaultConfig),
    };
    // The defaults have no broker config as a synonym.
    let own = set.filter(|_| options.with_synonyms);
    let synonyms = own.map(|_| synonym(config.name, value.clone(), source));
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(config.name))
        .with_value(Some(value))
        .with_config_source(source.code())
        .with_synonyms(synonyms.into_iter().collect())
        .with_config_type(config.kind.code())
        .with_documentation(options.documentation(|| config.documentation.to_owned()))
}
