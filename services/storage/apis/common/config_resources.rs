//! Config resource types of DescribeConfigs, AlterConfigs and IncrementalAlterConfigs.

use rules::commands::Refused;

use crate::apis::common::requests;

/// A topic.
pub(crate) const TOPIC: i8 = 2;
/// A broker; with an empty name, all brokers.
pub(crate) const BROKER: i8 = 4;
/// The log levels of a broker.
pub(crate) const BROKER_LOGGER: i8 = 8;
/// A client metrics subscription (KIP-714).
pub(crate) const CLIENT_METRICS: i8 = 16;
/// A group (KIP-848).
pub(crate) const GROUP: i8 = 32;

/// The message for refused log levels.
pub(crate) const NO_LOGGERS: &str = "Yagura has no loggers that could be described or set by name";

/// Refuses an unknown resource type.
pub(crate) fn not_configurable(resource_type: i8) -> Refused {
    requests::invalid_request(format!("Unknown resource type {resource_type}"))
}

/// Parses the name of a broker resource.
pub(crate) fn broker_id(what: &str, name: &str) -> Result<i32, Refused> {
    name.parse()
        .map_err(|_| requests::invalid_request(format!("{what} id must be an integer, but it is: {name}")))
}
