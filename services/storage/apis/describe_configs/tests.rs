//! Values, sources and synonyms are those of a Kafka 4.1.1 node.

use std::time::Duration;

use kernel::units::Span;
use kernel::{Api, Session, Ticket};
use rules::commands::{Command, NewConfigs};

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
async fn a_config_without_effect_is_shown_as_it_was_set_and_marked() {
    let broker = testing::broker().await;
    let set = [("segment.ms", " 0077 "), ("min.insync.replicas", "2"), ("flush.messages", "1")];
    topic(&broker, "t", 1, &set).await;
    let keys = ["segment.ms", "min.insync.replicas", "flush.messages", "retention.ms"];
    let results = describe(&broker, 4, vec![of(2, "t", Some(&keys))], true).await;
    let expected = [
        "flush.messages=1 1 <- flush.messages=1 1 <- log.flush.interval.messages=9223372036854775807 5",
        "min.insync.replicas=2 1 <- min.insync.replicas=2 1 <- min.insync.replicas=1 5",
        "retention.ms=604800000 5",
        "segment.ms=77 1 <- segment.ms=77 1",
    ];
    assert_eq!(all_seen(&results[0]), expected);
    let is_marked = |config: &DescribeConfigsResourceResult| {
        config.documentation.as_ref().is_some_and(|text| text.contains(" No effect here, because "))
    };
    let marked: Vec<bool> = results[0].configs.iter().map(is_marked).collect();
    assert_eq!(marked, [true, true, false, true]);
}

#[tokio::test]
async fn the_longest_request_is_that_of_the_clients_connection() {
    let broker = testing::broker().await;
    let keys = ["socket.request.max.bytes", "min.insync.replicas"];
    let request = DescribeConfigsRequest::default().with_resources(vec![of(4, "1", Some(&keys))]);
    for (bytes, expected) in [
        (Some(1 << 20), &["min.insync.replicas=1 5", "socket.request.max.bytes=1048576 4"][..]),
        (None, &["min.insync.replicas=1 5"]),
    ] {
        let session = Session::for_tests();
        if let Some(bytes) = bytes {
            session.set_request_bytes_max(bytes);
        }
        let response: DescribeConfigsResponse =
            testing::ask_on(&broker, &session, Api::DESCRIBE_CONFIGS, 4, &request).await;
        assert_eq!(all_seen(&response.results[0]), expected);
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
async fn every_version_shows_a_groups_configs() {
    let broker = testing::broker().await;
    let set = [("consumer.session.timeout.ms", " 050000 "), ("share.isolation.level", "read_committed")];
    let command = Command::AlterGroupConfigs {
        group: Arc::from("g"),
        configs: NewConfigs::Replace(set.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        defaults: broker.settings.group_defaults(),
    };
    broker.store.commit_one(&Ticket::only(), command).await.unwrap().unwrap();
    let keys = [
        "consumer.heartbeat.interval.ms",
        "consumer.session.timeout.ms",
        "share.isolation.level",
        "share.auto.offset.reset",
        "streams.assignor.name",
        "nope",
    ];
    for version in versions(Api::DESCRIBE_CONFIGS) {
        let asked = vec![of(32, "g", Some(&keys)), of(32, "nobody", Some(&keys))];
        let results = describe(&broker, version, asked, true).await;
        let heartbeat =
            "consumer.heartbeat.interval.ms=5000 5 <- group.consumer.heartbeat.interval.ms=5000 5";
        let reset = "share.auto.offset.reset=latest 5 <- share.auto.offset.reset=latest 5";
        let isolation =
            "share.isolation.level=read_uncommitted 5 <- share.isolation.level=read_uncommitted 5";
        let assignor = "streams.assignor.name=sticky 5 <- group.streams.assignors=sticky 5";
        let expected = [
            heartbeat,
            "consumer.session.timeout.ms=50000 8 <- consumer.session.timeout.ms=50000 8 \
             <- group.consumer.session.timeout.ms=45000 5",
            reset,
            "share.isolation.level=read_committed 8 <- share.isolation.level=read_committed 8 \
             <- share.isolation.level=read_uncommitted 5",
            assignor,
        ];
        assert_eq!(all_seen(&results[0]), expected, "version {version}");
        let session = "consumer.session.timeout.ms=45000 5 <- group.consumer.session.timeout.ms=45000 5";
        assert_eq!(
            all_seen(&results[1]),
            [heartbeat, session, reset, isolation, assignor],
            "version {version}"
        );
    }
}

#[tokio::test]
async fn a_groups_default_is_the_brokers_setting() {
    let broker = testing::broker_with(|settings| {
        settings.group_consumer_session_timeout = Span(Duration::from_secs(6));
    });
    let results = describe(&broker, 4, vec![of(32, "g", Some(&["consumer.session.timeout.ms"]))], true).await;
    let expected = "consumer.session.timeout.ms=6000 4 <- group.consumer.session.timeout.ms=6000 4 \
                    <- group.consumer.session.timeout.ms=45000 5";
    assert_eq!(all_seen(&results[0]), [expected]);
}

#[tokio::test]
async fn the_longest_transaction_timeout_is_the_brokers_setting() {
    let broker = testing::broker_with(|settings| {
        settings.transaction_max_timeout = Span(Duration::from_secs(60));
    });
    let results = describe(&broker, 4, vec![of(4, "1", Some(&["transaction.max.timeout.ms"]))], true).await;
    let expected = "transaction.max.timeout.ms=60000 4 <- transaction.max.timeout.ms=60000 4 \
                    <- transaction.max.timeout.ms=900000 5";
    assert_eq!(all_seen(&results[0]), [expected]);
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
        (32, "", 42, "Group name must not be empty"),
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
