//! Error codes and messages are those of a Kafka 4.1.1 node, except for features that Yagura does not have.

use std::sync::Arc;

use kernel::Api;
use rules::documents::GroupConfigs;

use super::super::testing::{self, ask, topic};
use super::*;
use crate::apis::common::{alter_configs, config_resources, text};
use crate::apis::testing::versions;

fn of(kind: i8, name: &str, configs: &[(&str, i8, Option<&str>)]) -> AlterConfigsResource {
    let config = |(name, operation, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default()
            .with_name(text::str_bytes(name))
            .with_config_operation(*operation)
            .with_value(value.map(text::str_bytes))
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
        IncrementalAlterConfigsRequest::default().with_resources(resources).with_validate_only(is_check);
    let response: IncrementalAlterConfigsResponse =
        ask(broker, Api::INCREMENTAL_ALTER_CONFIGS, version, &request).await;
    let message = |response: &AlterConfigsResourceResponse| {
        response.error_message.as_ref().map_or(String::new(), |message| message.to_string())
    };
    response.responses.iter().map(|response| (response.error_code, message(response))).collect()
}

async fn config(broker: &Arc<Broker>, name: &str) -> Option<String> {
    testing::stored(broker, "t").await.configs.get(name).cloned()
}

const OK: (i16, String) = (0, String::new());

#[tokio::test]
async fn every_version_sets_and_resets() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[("max.message.bytes", "9")]).await;
    for version in versions(Api::INCREMENTAL_ALTER_CONFIGS) {
        let set = || vec![of(2, "t", &[("retention.ms", SET, Some(" 07"))])];
        assert_eq!(alter(&broker, version, set(), true).await, [OK]);
        assert_eq!(config(&broker, "retention.ms").await, None, "a check changes nothing");
        assert_eq!(alter(&broker, version, set(), false).await, [OK]);
        assert_eq!(config(&broker, "retention.ms").await.as_deref(), Some(" 07"));
        let reset = vec![of(2, "t", &[("retention.ms", DELETE, None), ("foo", DELETE, Some("x"))])];
        assert_eq!(alter(&broker, version, reset, false).await, [OK]);
        assert_eq!(config(&broker, "retention.ms").await, None);
    }
    assert_eq!(config(&broker, "max.message.bytes").await.as_deref(), Some("9"), "the others stay");
}

#[tokio::test]
async fn lists_are_added_to_and_taken_from() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[]).await;
    let policy = |operation, value| vec![of(2, "t", &[("cleanup.policy", operation, Some(value))])];
    assert_eq!(alter(&broker, 1, policy(APPEND, "delete"), false).await, [OK]);
    assert_eq!(config(&broker, "cleanup.policy").await.as_deref(), Some("delete"));
    assert_eq!(alter(&broker, 1, policy(APPEND, "compact"), false).await, [OK]);
    assert_eq!(config(&broker, "cleanup.policy").await.as_deref(), Some("delete,compact"));
    assert_eq!(alter(&broker, 1, policy(SUBTRACT, "compact"), false).await, [OK]);
    assert_eq!(config(&broker, "cleanup.policy").await.as_deref(), Some("delete"));
    for (operation, verb) in [(APPEND, "APPEND"), (SUBTRACT, "SUBTRACT")] {
        let scalar = vec![of(2, "t", &[("retention.ms", operation, Some("5"))])];
        let message = format!("Can't {verb} to key retention.ms because its type is not LIST.");
        assert_eq!(alter(&broker, 1, scalar, false).await, [(40, message)]);
    }
}

#[tokio::test]
async fn configs_of_groups_are_kept_until_they_are_deleted() {
    let broker = testing::broker().await;
    let with_configs = async || broker.store.groups_with_configs().await.unwrap();
    let change = |operation, value| vec![of(32, "g", &[("consumer.session.timeout.ms", operation, value)])];
    assert_eq!(alter(&broker, 1, change(SET, Some("50000")), true).await, [OK]);
    assert!(with_configs().await.is_empty(), "a check changes nothing");
    assert_eq!(alter(&broker, 1, change(SET, Some("50000")), false).await, [OK]);
    assert_eq!(with_configs().await, [Arc::<str>::from("g")]);
    let bounds = "consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive.".to_owned();
    assert_eq!(alter(&broker, 1, change(SET, Some("1")), false).await, [(40, bounds)]);
    let scalar = "Can't APPEND to key consumer.session.timeout.ms because its type is not LIST.".to_owned();
    assert_eq!(alter(&broker, 1, change(APPEND, Some("1")), false).await, [(40, scalar)]);
    let tags =
        |operation, tag| vec![of(32, "g", &[("streams.rack.aware.assignment.tags", operation, Some(tag))])];
    for (operation, tag) in [(APPEND, "a"), (APPEND, "b"), (SUBTRACT, "a")] {
        assert_eq!(alter(&broker, 1, tags(operation, tag), false).await, [OK]);
    }
    let kept = broker.store.get_one::<GroupConfigs>(&Arc::from("g")).await.unwrap().unwrap();
    let kept: Vec<_> = kept.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [("consumer.session.timeout.ms", "50000"), ("streams.rack.aware.assignment.tags", "b")];
    assert_eq!(kept, expected);
    let both =
        [("consumer.session.timeout.ms", DELETE, None), ("streams.rack.aware.assignment.tags", DELETE, None)];
    assert_eq!(alter(&broker, 1, vec![of(32, "g", &both)], false).await, [OK]);
    assert!(with_configs().await.is_empty());
}

#[tokio::test]
async fn telemetry_is_offered_while_there_is_a_subscription() {
    let broker = testing::broker().await;
    let is_offered = || {
        let mut served = crate::dispatch::served();
        broker.telemetry.restrict(&mut served);
        [Api::GET_TELEMETRY_SUBSCRIPTIONS, Api::PUSH_TELEMETRY].map(|api| served.find(api).is_some())
    };
    let change = |name, operation, value| vec![of(16, name, &[("metrics", operation, value)])];
    assert_eq!(is_offered(), [false; 2]);
    assert_eq!(alter(&broker, 1, change("a", SET, Some("*")), true).await, [OK]);
    assert_eq!(is_offered(), [false; 2], "a check changes nothing");
    for name in ["a", "b"] {
        assert_eq!(alter(&broker, 1, change(name, SET, Some("*")), false).await, [OK]);
        assert_eq!(is_offered(), [true; 2]);
    }
    assert_eq!(alter(&broker, 1, change("a", DELETE, None), false).await, [OK]);
    assert_eq!(is_offered(), [true; 2], "there is another one");
    assert_eq!(alter(&broker, 1, change("b", DELETE, None), false).await, [OK]);
    assert_eq!(is_offered(), [false; 2]);
}

// The messages are Kafka's, except those about features that Yagura does not have.
#[tokio::test]
async fn each_resource_is_refused_by_itself() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[]).await;
    let cases = [
        (of(2, "t", &[("retention.ms", SET, Some("5"))]), 0, ""),
        (of(2, "nope", &[("retention.ms", SET, Some("5"))]), 3, "The topic 'nope' does not exist."),
        (of(2, "nope2", &[("foo", SET, Some("5"))]), 40, "Unknown topic config name: foo"),
        (
            of(2, "a", &[("retention.ms", SET, None), ("b", APPEND, None)]),
            42,
            "Null value not supported for : retention.ms, b",
        ),
        (of(2, "b", &[("foo", SET, None), ("foo", DELETE, None)]), 42, "Error due to duplicate config keys"),
        (of(2, "c", &[("retention.ms", 4, Some("5"))]), 42, "4 is not an operation on a config"),
        (of(4, "1", &[("node.id", SET, Some("9"))]), 42, alter_configs::BROKER_SETTINGS),
        (of(8, "1", &[("root", SET, Some("INFO"))]), 42, config_resources::NO_LOGGERS),
        (of(2, "d", &[]), 42, "Each resource must appear at most once."),
        (of(2, "d", &[]), 42, "Each resource must appear at most once."),
    ];
    let seen = alter(&broker, 1, cases.iter().map(|(resource, ..)| resource.clone()).collect(), false).await;
    let expected = cases.iter().map(|(_, code, message)| (*code, (*message).to_owned()));
    assert_eq!(seen, expected.collect::<Vec<_>>());
    assert_eq!(config(&broker, "retention.ms").await.as_deref(), Some("5"));
}
