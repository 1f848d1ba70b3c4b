//! Error codes and messages are those of a Kafka 4.1.1 node, except for features that Yagura does not have.

use std::sync::Arc;

use kafka_protocol::messages::alter_configs_request::AlterableConfig;
use kernel::Api;

use super::super::testing::{self, ask, topic};
use super::*;
use crate::apis::common::{alter_configs, text};
use crate::apis::testing::versions;

fn of(kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> AlterConfigsResource {
    let config = |(name, value): &(&str, Option<&str>)| {
        AlterableConfig::default().with_name(text::str_bytes(name)).with_value(value.map(text::str_bytes))
    };
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text::str_bytes(name))
        .with_configs(configs.iter().map(config).collect())
}

async fn alter(
    broker: &Arc<Broker>,
    version: i16,
    resources: Vec<AlterConfigsResource>,
    is_check: bool,
) -> Vec<(i16, String)> {
    let request =
        AlterConfigsRequest::default().with_resources(resources.clone()).with_validate_only(is_check);
    let response: AlterConfigsResponse = ask(broker, Api::ALTER_CONFIGS, version, &request).await;
    for (asked, told) in resources.iter().zip(&response.responses) {
        assert_eq!((&asked.resource_name, asked.resource_type), (&told.resource_name, told.resource_type));
    }
    let message = |response: &AlterConfigsResourceResponse| {
        response.error_message.as_ref().map_or(String::new(), |message| message.to_string())
    };
    response.responses.iter().map(|response| (response.error_code, message(response))).collect()
}

async fn configs(broker: &Arc<Broker>, name: &str) -> Vec<(String, String)> {
    testing::stored(broker, name).await.configs.clone().into_iter().collect()
}

const OK: (i16, String) = (0, String::new());

#[tokio::test]
async fn every_version_replaces() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[("retention.ms", "1")]).await;
    for version in versions(Api::ALTER_CONFIGS) {
        let value = format!("10{version}");
        let set = [("max.message.bytes", Some(value.as_str()))];
        assert_eq!(alter(&broker, version, vec![of(2, "t", &[])], true).await, [OK]);
        assert_eq!(configs(&broker, "t").await.len(), 1, "a check changes nothing");
        assert_eq!(alter(&broker, version, vec![of(2, "t", &set)], false).await, [OK]);
        assert_eq!(configs(&broker, "t").await, [("max.message.bytes".to_owned(), value.clone())]);
    }
    assert_eq!(alter(&broker, 2, vec![of(2, "t", &[])], false).await, [OK]);
    assert!(configs(&broker, "t").await.is_empty());
    assert!(alter(&broker, 2, Vec::new(), false).await.is_empty());
}

// The messages are Kafka's, except those about features that Yagura does not have.
#[tokio::test]
async fn each_resource_is_refused_by_itself() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[]).await;
    let some = [("retention.ms", Some("5"))];
    let unknown = [("foo", Some("5"))];
    let cases = [
        (of(2, "t", &some), 0, ""),
        (of(2, "nope", &some), 3, "The topic 'nope' does not exist."),
        (of(2, "nope2", &unknown), 40, "Unknown topic config name: foo"),
        (of(2, "", &some), 42, "Default topic resources are not allowed."),
        (
            of(2, "a", &[("retention.ms", None), ("foo", None)]),
            42,
            "Null value not supported for : retention.ms, foo",
        ),
        (of(2, "b", &[("foo", None), ("foo", Some("1"))]), 42, "Error due to duplicate config keys"),
        (
            of(2, "c", &[("retention.ms", Some("x"))]),
            40,
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (of(4, "7", &unknown), 42, "Unexpected broker id, expected 1, but received 7"),
        (of(4, "x", &unknown), 42, "Node id must be an integer, but it is: x"),
        (of(4, "1", &[]), 0, ""),
        (of(4, "", &unknown), 42, alter_configs::BROKER_SETTINGS),
        (of(0, "x", &unknown), 42, "Unknown resource type 0"),
        (of(32, "g", &unknown), 40, "Unknown group config name: foo"),
        (of(32, "h", &[("consumer.session.timeout.ms", Some("50000"))]), 0, ""),
        (of(32, "", &unknown), 42, "Default group resources are not allowed."),
    ];
    let seen = alter(&broker, 2, cases.iter().map(|(resource, ..)| resource.clone()).collect(), false).await;
    let expected = cases.iter().map(|(_, code, message)| (*code, (*message).to_owned()));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    assert_eq!(configs(&broker, "t").await.len(), 1);
}

#[tokio::test]
async fn a_resource_that_is_named_twice_stays() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[]).await;
    topic(&broker, "other", 1, &[]).await;
    let some = [("retention.ms", Some("5"))];
    let seen =
        alter(&broker, 2, vec![of(2, "t", &some), of(2, "other", &some), of(2, "t", &[])], false).await;
    let twice = (42, "Each resource must appear at most once.".to_owned());
    assert_eq!(seen, [twice.clone(), OK, twice]);
    assert_eq!((configs(&broker, "t").await.len(), configs(&broker, "other").await.len()), (0, 1));
}
