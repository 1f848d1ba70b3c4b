//! Configs of groups in DescribeConfigs.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsSynonym,
};
use kafka_protocol::protocol::StrBytes;
use rules::configs::ConfigSource;
use rules::configs::group::{GroupConfig, GroupDefaults, group_configs};
use rules::documents::GroupConfigs;

use super::{DescribeOptions, Described};
use crate::apis::common::{requests, text};

/// A group that does not exist has the broker's values, as one that has set none.
pub(super) fn describe(
    name: &str,
    groups: &HashMap<Arc<str>, Arc<GroupConfigs>>,
    defaults: GroupDefaults,
    options: &DescribeOptions<'_>,
) -> Described {
    if name.is_empty() {
        return Err(requests::invalid_request("Group name must not be empty"));
    }
    let of_group = groups.get(name);
    let set = |config: &GroupConfig| of_group.and_then(|set| set.0.get(config.name));
    let shown = group_configs()
        .iter()
        .map(|config| (config, set(config)))
        .filter(|(config, set)| options.wants(config.name) && (config.is_always_shown() || set.is_some()));
    Ok(shown.map(|(config, set)| described(config, set, defaults, options)).collect())
}

fn described(
    config: &'static GroupConfig,
    set: Option<&String>,
    defaults: GroupDefaults,
    options: &DescribeOptions<'_>,
) -> DescribeConfigsResourceResult {
    let canonical = |value: &String| config.read(value).map_or(value.clone(), |value| value.to_string());
    let broker = config.synonym().unwrap_or_else(|| config.name.to_owned());
    let setting = defaults.setting(config.name).map(|ms| ms.to_string());
    let setting = setting.filter(|value| value != config.default);
    // In order of precedence: the group's own value, the broker's, Kafka's default.
    let own = set.map(|value| synonym(config.name, &canonical(value), ConfigSource::GroupConfig));
    let setting = setting.map(|value| synonym(&broker, &value, ConfigSource::StaticBrokerConfig));
    let default = synonym(&broker, config.default, ConfigSource::DefaultConfig);
    let in_force = own.clone().or(setting.clone()).unwrap_or(default.clone());
    let synonyms = own.into_iter().chain(setting).chain([default]);
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(config.name))
        .with_value(in_force.value)
        .with_config_source(in_force.source)
        .with_synonyms(synonyms.filter(|_| options.with_synonyms).collect())
        .with_config_type(config.kind.code())
        .with_documentation(options.documentation(|| config.described()))
}

fn synonym(name: &str, value: &str, source: ConfigSource) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(text::str_bytes(name))
        .with_value(Some(text::str_bytes(value)))
        .with_source(source.code())
}
