//! What has configs in Kafka: the types of resources that DescribeConfigs and both AlterConfigs name.

use crate::apis::common::requests;
use rules::commands::Refused;

/// A topic.
pub(crate) const TOPIC: i8 = 2;
/// A broker, or with an empty name all of them.
pub(crate) const BROKER: i8 = 4;
/// The log levels of a broker.
pub(crate) const BROKER_LOGGER: i8 = 8;
/// A subscription to clients' metrics (KIP-714).
pub(crate) const CLIENT_METRICS: i8 = 16;
/// A group (KIP-848).
const GROUP: i8 = 32;

/// Why log levels are refused.
pub(crate) const NO_LOGGERS: &str = "Yagura has no loggers that could be described or set by name";

/// Refuses a resource that has no configs here.
pub(crate) fn not_configurable(resource_type: i8) -> Refused {
    requests::invalid_request(match resource_type {
        GROUP => "Yagura has no configs of groups yet".to_owned(),
        other => format!("Unknown resource type {other}"),
    })
}

/// Reads the name of a broker resource.
pub(crate) fn broker_id(what: &str, name: &str) -> Result<i32, Refused> {
    name.parse()
        .map_err(|_| requests::invalid_request(format!("{what} id must be an integer, but it is: {name}")))
}
