//! Values, sources and synonyms are those of a Kafka 4.1.1 node.

use kernel::Api;

use super::super::testing::{self, ask, topic};
use super::*;
use crate::apis::common::{config_resources, text};
use crate::apis::testing::versions;

fn of(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(text::str_bytes(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text::str_bytes(key)).collect()))
}

async fn describe(
    broker: &Arc<Broker>,
    version: i16,
    resources: Vec<DescribeConfigsResource>,
    with_all: bool,
) -> Vec<DescribeConfigsResult> {
    let request = DescribeConfigsRequest::default()
        .with_resources(resources)
        .with_include_synonyms(with_all)
        .with_include_documentation(with_all && version >= 3);
    let response: DescribeConfigsResponse = ask(broker, Api::DESCRIBE_CONFIGS, version, &request).await;
    response.results
}

/// A config as `name=value source`, and its synonyms in the same form.
fn seen(config: &DescribeConfigsResourceResult) -> String {
    let text = |value: &Option<StrBytes>| value.as_ref().map_or("null".to_owned(), |value| value.to_string());
    let synonym = |synonym: &DescribeConfigsSynonym| {
        format!(" <- {}={} {}", synonym.name.as_str(), text(&synonym.value), synonym.source)
    };
    let synonyms: String = config.synonyms.iter().map(synonym).collect();
    format!("{}={} {}{synonyms}", config.name.as_str(), text(&config.value), config.config_source)
}

fn all_seen(result: &DescribeConfigsResult) -> Vec<String> {
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    assert_eq!(result.error_message.as_ref().map(|message| message.as_str()), Some(""));
    result.configs.iter().map(seen).collect()
}

#[tokio::test]
async fn every_version_shows_a_topics_configs() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[("max.message.bytes", "5000"), ("retention.ms", " 0077 ")]).await;
    let keys = ["retention.ms", "max.message.bytes", "compression.type", "segment.ms", "preallocate", "nope"];
    for version in versions(Api::DESCRIBE_CONFIGS) {
        let plain = describe(&broker, version, vec![of(2, "t", Some(&keys))], false).await;
        let expected = [
            "compression.type=producer 5",
            "max.message.bytes=5000 1",
            "preallocate=false 5",
            "retention.ms=77 1",
            "segment.ms=604800000 5",
        ];
        assert_eq!(all_seen(&plain[0]), expected, "version {version}");
        assert_eq!((plain[0].resource_type, plain[0].resource_name.as_str()), (2, "t"));
        let rich = describe(&broker, version, vec![of(2, "t", Some(&keys))], true).await;
        let expected = [
            "compression.type=producer 5 <- compression.type=producer 5",
            "max.message.bytes=5000 1 <- max.message.bytes=5000 1 <- message.max.bytes=1048588 5",
            "preallocate=false 5 <- log.preallocate=false 5",
            "retention.ms=77 1 <- retention.ms=77 1",
            "segment.ms=604800000 5",
        ];
        assert_eq!(all_seen(&rich[0]), expected, "version {version}");
        let kinds: Vec<i8> = rich[0].configs.iter().map(|config| config.config_type).collect();
        assert_eq!(kinds, if version >= 3 { [2, 3, 1, 5, 5] } else { [0; 5] });
        for (plain, rich) in plain[0].configs.iter().zip(&rich[0].configs) {
            assert!(!rich.read_only && !rich.is_sensitive);
            if version >= 3 {
                assert_eq!(plain.documentation, None);
                assert!(rich.documentation.as_ref().is_some_and(|text| text.ends_with('.')));
            }
        }
    }
}

#[tokio::test]
async fn no_keys_are_all_keys() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[]).await;
    let none: &[&str] = &[];
    for keys in [None, Some(none)] {
        let results = describe(&broker, 4, vec![of(2, "t", keys), of(2, "t", keys)], false).await;
        assert_eq!([results[0].configs.len(), results[1].configs.len()], [configs::topic_configs().len(); 2]);
    }
}

#[tokio::test]
async fn every_version_shows_the_broker() {
    let broker = testing::broker().await;
    let keys =
        ["node.id", "log.retention.ms", "log.retention.hours", "advertised.listeners", "log.dirs", "nope"];
    for version in versions(Api::DESCRIBE_CONFIGS) {
        let results = describe(&broker, version, vec![of(4, "1", Some(&keys)), of(4, "", None)], true).await;
        let expected = [
            "advertised.listeners=test://localhost:9092 4 <- advertised.listeners=test://localhost:9092 4",
            "log.dirs=memory:// 4 <- log.dirs=memory:// 4",
            "log.retention.hours=168 5 <- log.retention.hours=168 5",
            "log.retention.ms=null 5",
            "node.id=1 4 <- node.id=1 4",
        ];
        assert_eq!(all_seen(&results[0]), expected, "version {version}");
        assert!(results[0].configs.iter().all(|config| config.read_only && !config.is_sensitive));
        assert!(all_seen(&results[1]).is_empty(), "nothing is altered for all brokers");
    }
}

#[tokio::test]
async fn what_cannot_be_described() {
    let broker = testing::broker().await;
    let cases = [
        (2, "nope", 3, "This server does not host this topic-partition."),
        (2, "", 17, "Topic name is invalid: the empty string is not allowed"),
        (4, "7", 42, "Unexpected broker id, expected 1 or empty string, but received 7"),
        (4, "x", 42, "Broker id must be an integer, but it is: x"),
        (8, "", 42, "Broker id must not be empty"),
        (8, "x", 42, "Broker id must be an integer, but it is: x"),
        (8, "7", 42, "Unexpected broker id, expected 1 but received 7"),
        (8, "1", 42, config_resources::NO_LOGGERS),
        (16, "", 42, "Client metrics subscription name must not be empty"),
        (32, "g", 42, "Yagura has no configs of groups yet"),
        (0, "x", 42, "Unknown resource type 0"),
        (-1, "x", 42, "Unknown resource type -1"),
    ];
    for version in versions(Api::DESCRIBE_CONFIGS) {
        let resources = cases.iter().map(|(kind, name, ..)| of(*kind, name, None)).collect();
        let results = describe(&broker, version, resources, false).await;
        for (result, (kind, name, code, message)) in results.iter().zip(cases) {
            assert_eq!((result.resource_type, result.resource_name.as_str()), (kind, name));
            let seen = result.error_message.as_ref().map(|message| message.as_str());
            assert_eq!((result.error_code, seen, result.configs.len()), (code, Some(message), 0));
        }
    }
}
