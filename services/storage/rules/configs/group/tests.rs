//! Compares the table with what Kafka 4.4.0 prints, and the messages with what it answers.

use std::collections::BTreeMap;

use kernel::ErrorCode;

use super::*;
use crate::configs::tests::printed;
use crate::configs::{ConfigKind, Support};

/// `GroupConfig` of Kafka 4.4.0: name, type, default, validator, broker synonym, whether it is hidden. The default assignor
/// of streams groups is the first of the broker's.
const KAFKA: &str = "\
consumer.assignment.interval.ms|INT|1000|[0,...]|group.consumer.assignment.interval.ms|
consumer.assignor.offload.enable|BOOLEAN|true||group.consumer.assignor.offload.enable|internal
consumer.heartbeat.interval.ms|INT|5000|[1,...]|group.consumer.heartbeat.interval.ms|
consumer.session.timeout.ms|INT|45000|[1,...]|group.consumer.session.timeout.ms|
errors.deadletterqueue.copy.record.enable|BOOLEAN|false|||
errors.deadletterqueue.topic.name|STRING||||
share.assignment.interval.ms|INT|1000|[0,...]|group.share.assignment.interval.ms|
share.assignor.offload.enable|BOOLEAN|true||group.share.assignor.offload.enable|internal
share.auto.offset.reset|STRING|latest|[latest, earliest, by_duration:PnDTnHnMn.nS]||
share.delivery.count.limit|INT|5|[2,...]|group.share.delivery.count.limit|
share.heartbeat.interval.ms|INT|5000|[1,...]|group.share.heartbeat.interval.ms|
share.isolation.level|STRING|read_uncommitted|[read_committed, read_uncommitted]||
share.partition.max.record.locks|INT|2000|[100,...]|group.share.partition.max.record.locks|
share.record.lock.duration.ms|INT|30000|[1000,...]|group.share.record.lock.duration.ms|
share.renew.acknowledge.enable|BOOLEAN|true|||
share.session.timeout.ms|INT|45000|[1,...]|group.share.session.timeout.ms|
streams.acceptable.recovery.lag|LONG|10000|[0,...]|group.streams.acceptable.recovery.lag|internal
streams.assignment.interval.ms|INT|1000|[0,...]|group.streams.assignment.interval.ms|
streams.assignor.name|STRING|sticky||group.streams.assignors|
streams.assignor.offload.enable|BOOLEAN|true||group.streams.assignor.offload.enable|internal
streams.heartbeat.interval.ms|INT|5000|[1,...]|group.streams.heartbeat.interval.ms|
streams.initial.rebalance.delay.ms|INT|3000|[0,...]|group.streams.initial.rebalance.delay.ms|
streams.num.standby.replicas|INT|0|[0,...]|group.streams.num.standby.replicas|
streams.num.warmup.replicas|INT|2|[0,...]|group.streams.num.warmup.replicas|internal
streams.rack.aware.assignment.tags|LIST|||group.streams.rack.aware.assignment.tags|
streams.session.timeout.ms|INT|45000|[1,...]|group.streams.session.timeout.ms|
streams.task.offset.interval.ms|INT|60000|[1,...]|group.streams.task.offset.interval.ms|internal
";

const DEFAULTS: GroupDefaults = GroupDefaults { session_ms: 45_000, heartbeat_ms: 5_000 };

fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refusal(pairs: &[(&str, &str)], defaults: GroupDefaults) -> Option<String> {
    let refused = check(&configs(pairs), defaults).err()?;
    assert_eq!(refused.error, ErrorCode::InvalidConfig);
    Some(refused.message)
}

#[test]
fn table_is_kafkas() {
    let row = |config: &GroupConfig| {
        let GroupConfig { name, kind, default, legal, is_internal, .. } = config;
        let (legal, synonym) = (printed(*legal), config.synonym().unwrap_or_default());
        let hidden = if *is_internal { "internal" } else { "" };
        format!("{name}|{}|{default}|{legal}|{synonym}|{hidden}", kind.name())
    };
    let ours: Vec<String> = group_configs().iter().map(row).collect();
    assert_eq!(ours, KAFKA.lines().collect::<Vec<_>>());
}

#[test]
fn every_config_is_found_documented_and_legal_at_its_default() {
    for config in group_configs() {
        assert_eq!(find(config.name), Some(config));
        assert!(config.documentation.ends_with('.'), "{}", config.name);
        assert_eq!(refusal(&[(config.name, config.default)], DEFAULTS), None, "{}", config.name);
        assert_eq!(config.kind == ConfigKind::List, list_default(config.name).is_some());
    }
    let honoured = group_configs().iter().filter(|config| config.support == Support::Honoured);
    let honoured: Vec<&str> = honoured.map(|config| config.name).collect();
    assert_eq!(honoured, ["consumer.heartbeat.interval.ms", "consumer.session.timeout.ms"]);
}

// Each case was run against `GroupConfig.validate` of Kafka 4.4.0.
#[test]
fn faults_are_worded_as_kafka_words_them() {
    let offset_reset = "Invalid value by_duration:x for configuration share.auto.offset.reset: Invalid value \
                        `by_duration:x` for configuration share.auto.offset.reset. The value must be either \
                        'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.";
    for (name, value, message) in [
        ("foo", "1", "Unknown group config name: foo"),
        ("", "1", "Unknown group config name: "),
        (
            "consumer.session.timeout.ms",
            "0",
            "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1",
        ),
        (
            "consumer.session.timeout.ms",
            "x",
            "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT",
        ),
        (
            "consumer.session.timeout.ms",
            "44999",
            "consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive.",
        ),
        (
            "consumer.heartbeat.interval.ms",
            "15001",
            "consumer.heartbeat.interval.ms must be in the range 5000 to 15000 inclusive.",
        ),
        (
            "consumer.assignment.interval.ms",
            "15001",
            "consumer.assignment.interval.ms must be in the range 0 to 15000 inclusive.",
        ),
        ("share.auto.offset.reset", "by_duration:x", offset_reset),
        (
            "share.isolation.level",
            "READ_COMMITTED",
            "Invalid value READ_COMMITTED for configuration share.isolation.level: String must be one of: \
             read_committed, read_uncommitted",
        ),
        ("streams.num.standby.replicas", "3", "streams.num.standby.replicas must be less than or equal to 2"),
        (
            "streams.task.offset.interval.ms",
            "14999",
            "streams.task.offset.interval.ms must be greater than or equal to 15000",
        ),
        (
            "streams.assignor.name",
            "x",
            "streams.assignor.name 'x' is not a registered task assignor. Registered assignors are: [sticky].",
        ),
        (
            "streams.rack.aware.assignment.tags",
            "a,,b",
            "Configuration 'streams.rack.aware.assignment.tags' values must not be empty.",
        ),
        (
            "streams.rack.aware.assignment.tags",
            "a, a",
            "streams.rack.aware.assignment.tags must not contain duplicate tag keys.",
        ),
        (
            "errors.deadletterqueue.topic.name",
            "__x",
            "errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'",
        ),
    ] {
        assert_eq!(refusal(&[(name, value)], DEFAULTS).as_deref(), Some(message), "{name}={value}");
    }
}

#[test]
fn values_that_kafka_takes_are_taken() {
    for (name, value) in [
        ("consumer.session.timeout.ms", " 50000 "),
        ("consumer.heartbeat.interval.ms", "15000"),
        ("share.auto.offset.reset", "earliest"),
        ("share.auto.offset.reset", "by_duration:PT1H"),
        ("share.auto.offset.reset", "by_duration:p1dt2h3m4.5s"),
        ("share.record.lock.duration.ms", "15000"),
        ("streams.rack.aware.assignment.tags", "a,b"),
        ("streams.num.warmup.replicas", "20"),
        ("errors.deadletterqueue.topic.name", "dead"),
    ] {
        assert_eq!(refusal(&[(name, value)], DEFAULTS), None, "{name}={value}");
    }
    for value in ["by_duration:", "by_duration:P", "by_duration:PT", "by_duration:P1DT", "LATEST", "PT1H", ""]
    {
        assert!(refusal(&[("share.auto.offset.reset", value)], DEFAULTS).is_some(), "{value}");
    }
}

/// Kafka has settings for the bounds of its brokers; here a broker's own timeouts are always within.
#[test]
fn bounds_include_the_brokers_own_timeouts() {
    let quick = GroupDefaults { session_ms: 6_000, heartbeat_ms: 500 };
    let (session, heartbeat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
    assert_eq!(refusal(&[(session, "6000"), (heartbeat, "500")], quick), None);
    let outside = refusal(&[(session, "5999")], quick);
    assert_eq!(
        outside.as_deref(),
        Some("consumer.session.timeout.ms must be in the range 6000 to 60000 inclusive.")
    );
    // Kafka's other check: a session is longer than an interval, given or not.
    let longer = "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms";
    assert_eq!(refusal(&[(heartbeat, "6000")], quick).as_deref(), Some(longer));
    assert_eq!(refusal(&[(heartbeat, "9000"), (session, "9000")], quick).as_deref(), Some(longer));
    assert_eq!(refusal(&[(heartbeat, "9000"), (session, "9001")], quick), None);
}

#[test]
fn a_groups_timeouts_are_its_configs_or_the_brokers() {
    let of = |pairs: &[(&str, &str)]| {
        let GroupDefaults { session_ms, heartbeat_ms } = timeouts(&configs(pairs), DEFAULTS);
        (session_ms, heartbeat_ms)
    };
    let (session, heartbeat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
    assert_eq!(of(&[]), (45_000, 5_000));
    assert_eq!(of(&[(session, " 50000")]), (50_000, 5_000));
    assert_eq!(of(&[(heartbeat, "10000"), ("share.session.timeout.ms", "60000")]), (45_000, 10_000));
    // Set while the broker had other settings, or by another release.
    assert_eq!(of(&[(session, "6000"), (heartbeat, "500")]), (45_000, 5_000));
    assert_eq!(of(&[(session, "x"), (heartbeat, "20000")]), (45_000, 15_000));
}
