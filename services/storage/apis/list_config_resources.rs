//! ListConfigResources (KIP-1142): the resources that DescribeConfigs has configs for.

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kernel::{Call, ErrorCode};

use crate::apis::common::answer::Answer;
use crate::apis::common::text;
use crate::broker::Broker;

/// Kafka's config resource types.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
/// Before this version the API lists only client metrics subscriptions (KIP-714).
const TYPES_FROM: i16 = 1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ListConfigResourcesRequest = call.decode()?;
    call.ticket.after_writes().await;
    let asked = match call.header.version {
        ..TYPES_FROM => vec![CLIENT_METRICS],
        _ if request.resource_types.is_empty() => vec![TOPIC, BROKER, CLIENT_METRICS, GROUP],
        _ => request.resource_types,
    };
    let known = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let response = ListConfigResourcesResponse::default();
    if asked.iter().any(|kind| !known.contains(kind)) {
        return Ok(Some(call.reply(&response.with_error_code(ErrorCode::UnsupportedVersion.code()))?));
    }
    // Loggers have no configs here.
    let resource = |kind, name: &str| {
        ConfigResource::default().with_resource_type(kind).with_resource_name(text::str_bytes(name))
    };
    let mut resources = Vec::new();
    if asked.contains(&TOPIC) {
        let topics = broker.store.topics().await?;
        resources.extend(topics.iter().map(|topic| resource(TOPIC, &topic.name)));
    }
    if asked.contains(&CLIENT_METRICS) {
        let subscriptions = broker.store.client_metrics().await?;
        resources.extend(subscriptions.iter().map(|(name, _)| resource(CLIENT_METRICS, name)));
    }
    if asked.contains(&GROUP) {
        let groups = broker.store.groups_with_configs().await?;
        resources.extend(groups.iter().map(|group| resource(GROUP, group)));
    }
    if asked.contains(&BROKER) {
        let cluster = broker.nodes.cluster(&call.session);
        let brokers = cluster.brokers().iter().map(|broker| resource(BROKER, &broker.id.0.to_string()));
        resources.extend(brokers);
    }
    Ok(Some(call.reply(&response.with_config_resources(resources))?))
}
