//! Compares the table with what Kafka 4.4.0 prints, and the messages with what it answers.

use super::effective::*;
use super::value::Legal;
use super::value::{append, subtract};
use super::*;

/// `LogConfig.configNames()` of Kafka 4.4.0: name, type, default, validator, broker synonyms.
const KAFKA: &str = "\
cleanup.policy|LIST|delete|[compact, delete]|log.cleanup.policy
compression.gzip.level|INT|-1|[1,...,9] or -1|compression.gzip.level
compression.lz4.level|INT|9|[1,...,17]|compression.lz4.level
compression.type|STRING|producer|[uncompressed, zstd, lz4, snappy, gzip, producer]|compression.type
compression.zstd.level|INT|3|[-131072,...,22]|compression.zstd.level
delete.retention.ms|LONG|86400000|[0,...]|log.cleaner.delete.retention.ms
errors.deadletterqueue.group.enable|BOOLEAN|false||
file.delete.delay.ms|LONG|60000|[0,...]|log.segment.delete.delay.ms
flush.messages|LONG|9223372036854775807|[1,...]|log.flush.interval.messages
flush.ms|LONG|9223372036854775807|[0,...]|log.flush.interval.ms,log.flush.scheduler.interval.ms
follower.replication.throttled.replicas|LIST||[partitionId]:[brokerId],[partitionId]:[brokerId],...|
index.interval.bytes|INT|4096|[0,...]|log.index.interval.bytes
leader.replication.throttled.replicas|LIST||[partitionId]:[brokerId],[partitionId]:[brokerId],...|
local.retention.bytes|LONG|-2|[-2,...]|log.local.retention.bytes
local.retention.ms|LONG|-2|[-2,...]|log.local.retention.ms
max.compaction.lag.ms|LONG|9223372036854775807|[1,...]|log.cleaner.max.compaction.lag.ms
max.decompressed.message.bytes|INT|2147483639|[1,...,2147483639]|max.decompressed.message.bytes
max.message.bytes|INT|1048588|[0,...]|message.max.bytes
message.timestamp.after.max.ms|LONG|3600000|[0,...]|log.message.timestamp.after.max.ms
message.timestamp.before.max.ms|LONG|9223372036854775807|[0,...]|log.message.timestamp.before.max.ms
message.timestamp.type|STRING|CreateTime|[CreateTime, LogAppendTime]|log.message.timestamp.type
min.cleanable.dirty.ratio|DOUBLE|0.5|[0,...,1]|log.cleaner.min.cleanable.ratio
min.compaction.lag.ms|LONG|0|[0,...]|log.cleaner.min.compaction.lag.ms
min.insync.replicas|INT|1|[1,...]|min.insync.replicas
preallocate|BOOLEAN|false||log.preallocate
remote.copy.lag.bytes|LONG|-1|[-1,...]|log.remote.copy.lag.bytes
remote.copy.lag.ms|LONG|0|[-1,...]|log.remote.copy.lag.ms
remote.log.copy.disable|BOOLEAN|false||
remote.log.delete.on.disable|BOOLEAN|false||
remote.storage.enable|BOOLEAN|false||
retention.bytes|LONG|-1||log.retention.bytes
retention.ms|LONG|604800000|[-1,...]|log.retention.ms,log.retention.minutes,log.retention.hours
segment.bytes|INT|1073741824|[1048576,...]|log.segment.bytes
segment.index.bytes|INT|10485760|[4,...]|log.index.size.max.bytes
segment.jitter.ms|LONG|0|[0,...]|log.roll.jitter.ms,log.roll.jitter.hours
segment.ms|LONG|604800000|[1,...]|log.roll.ms,log.roll.hours
unclean.leader.election.enable|BOOLEAN|false||unclean.leader.election.enable
";

/// A validator as Kafka prints it.
pub(super) fn printed(legal: Legal) -> String {
    match legal {
        Legal::Any => String::new(),
        Legal::AtLeast(min) => format!("[{min},...]"),
        Legal::Between(min, max) => format!("[{min},...,{max}]"),
        Legal::BetweenOr(min, max, also) => format!("[{min},...,{max}] or {also}"),
        Legal::Ratio => "[0,...,1]".to_owned(),
        Legal::OneOf(names) => format!("[{}]", names.join(", ")),
        Legal::ThrottledReplicas => "[partitionId]:[brokerId],[partitionId]:[brokerId],...".to_owned(),
        Legal::AutoOffsetReset => "[latest, earliest, by_duration:PnDTnHnMn.nS]".to_owned(),
        // Kafka prints the values that such a list may have, which are not bounded.
        Legal::Tags => String::new(),
    }
}

/// What follows "Invalid value VALUE for configuration NAME: ".
fn refusal(name: &str, shown: &str, value: &str) -> String {
    let message = validate(name, value).unwrap_err();
    let opening = format!("Invalid value {shown} for configuration {name}: ");
    message
        .strip_prefix(&opening)
        .unwrap_or_else(|| panic!("{message:?} opens otherwise than {opening:?}"))
        .to_owned()
}

#[test]
fn table_is_kafkas() {
    let ours: Vec<String> = topic_configs()
        .iter()
        .map(|config| {
            let legal = printed(config.legal);
            let synonyms = config.synonyms.join(",");
            format!("{}|{}|{}|{legal}|{synonyms}", config.name, config.kind.name(), config.default)
        })
        .collect();
    assert_eq!(ours, KAFKA.lines().collect::<Vec<_>>());
}

#[test]
fn every_config_is_found_documented_and_legal_at_its_default() {
    for config in topic_configs() {
        assert_eq!(find(config.name), Some(config));
        assert_eq!(validate(config.name, config.default), Ok(()));
        assert_eq!(canonical(config.name, config.default), config.default);
        assert!(config.documentation.ends_with('.'), "{}", config.name);
    }
    assert_eq!(find("Retention.ms"), None);
}

#[test]
fn wire_codes_are_kafkas() {
    use ConfigKind::{Boolean, Class, Double, Int, List, Long, Password, Short, String};
    let kinds = [Boolean, String, Int, Short, Long, Double, List, Class, Password];
    assert_eq!(kinds.map(ConfigKind::code), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!((ConfigSource::DynamicTopicConfig.code(), ConfigSource::DefaultConfig.code()), (1, 5));
}

#[test]
fn names_unknown_to_kafka_are_refused() {
    for name in ["foo", "", "Retention.ms", "message.format.version", "message.downconversion.enable"] {
        assert_eq!(validate(name, "1"), Err(format!("Unknown topic config name: {name}")));
    }
}

#[test]
fn values_that_work_are_accepted() {
    for (name, value) in [
        ("cleanup.policy", " delete "),
        ("cleanup.policy", "delete,delete"),
        ("cleanup.policy", " "),
        ("compression.gzip.level", "-1"),
        ("compression.gzip.level", "9"),
        ("compression.type", " gzip "),
        ("compression.zstd.level", "-131072"),
        ("max.message.bytes", "0"),
        ("max.message.bytes", "2147483647"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "1"),
        ("retention.bytes", "-7"),
        ("retention.ms", "-1"),
        ("retention.ms", " +5 "),
        ("retention.ms", "\t007\n"),
        ("retention.ms", "-0"),
        ("retention.ms", "9223372036854775807"),
    ] {
        assert_eq!(validate(name, value), Ok(()), "{name}={value}");
    }
}

#[test]
fn type_faults_are_worded_as_kafka_words_them() {
    for value in ["abc", "", " abc ", "1.5", "5L", "+-5", "-", "0x10", "9223372036854775808", "\u{a0}5"] {
        assert_eq!(refusal("retention.ms", value, value), "Not a number of type LONG");
    }
    assert_eq!(refusal("max.message.bytes", "2147483648", "2147483648"), "Not a number of type INT");
    assert_eq!(refusal("preallocate", " yes ", " yes "), "Expected value to be either true or false");
    for value in ["x", "", "inf", "nan", "NaNd", "infinity", "e5", "1e"] {
        assert_eq!(refusal("min.cleanable.dirty.ratio", value, value), "Not a number of type DOUBLE");
    }
}

#[test]
fn range_faults_are_worded_as_kafka_words_them() {
    for (name, value, shown, reason) in [
        ("retention.ms", " -05 ", "-5", "Value must be at least -1"),
        ("max.message.bytes", "-1", "-1", "Value must be at least 0"),
        ("min.insync.replicas", "0", "0", "Value must be at least 1"),
        ("compression.gzip.level", "0", "0", "Value must be between 1 and 9 or equal to -1"),
        ("compression.gzip.level", "10", "10", "Value must be between 1 and 9 or equal to -1"),
        ("compression.lz4.level", "0", "0", "Value must be at least 1"),
        ("compression.lz4.level", "18", "18", "Value must be no more than 17"),
        ("compression.zstd.level", "23", "23", "Value must be no more than 22"),
        ("segment.bytes", "5", "5", "Value must be at least 1048576"),
        ("min.cleanable.dirty.ratio", "5.", "5.0", "Value must be no more than 1"),
        ("min.cleanable.dirty.ratio", "1e400", "Infinity", "Value must be no more than 1"),
        ("min.cleanable.dirty.ratio", "-1", "-1.0", "Value must be at least 0"),
        ("min.cleanable.dirty.ratio", "-1234567890.5", "-1.2345678905E9", "Value must be at least 0"),
        ("min.cleanable.dirty.ratio", "-0.0001d", "-1.0E-4", "Value must be at least 0"),
        (
            "message.timestamp.type",
            "createtime ",
            "createtime",
            "String must be one of: CreateTime, LogAppendTime",
        ),
        ("cleanup.policy", "delete, foo", "foo", "String must be one of: compact, delete"),
        ("cleanup.policy", "Delete", "Delete", "String must be one of: compact, delete"),
    ] {
        assert_eq!(refusal(name, shown, value), reason);
    }
    for value in ["delete,", ","] {
        let message = "Configuration 'cleanup.policy' values must not be empty.".to_owned();
        assert_eq!(validate("cleanup.policy", value), Err(message));
    }
    let codecs = "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer";
    assert_eq!(refusal("compression.type", "none", "none"), codecs);
    let throttled = "leader.replication.throttled.replicas";
    assert_eq!(
        refusal(throttled, "[0:1:2, x]", "0:1:2 , x"),
        "leader.replication.throttled.replicas must be the literal '*' or a list of replicas in the \
         following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
    );
}

#[test]
fn a_config_without_effect_is_taken_and_says_so() {
    for (name, value) in [
        ("segment.bytes", "52428800"),
        ("preallocate", "true"),
        ("leader.replication.throttled.replicas", "*"),
        ("min.insync.replicas", "2"),
        ("unclean.leader.election.enable", "true"),
        ("remote.log.copy.disable", "true"),
        ("errors.deadletterqueue.group.enable", "true"),
        ("max.decompressed.message.bytes", "1"),
    ] {
        assert_eq!(validate(name, value), Ok(()), "{name}={value}");
        let config = find(name).unwrap();
        let reason = config.support.no_effect().unwrap_or_else(|| panic!("{name} has an effect"));
        let ending = format!(" No effect here, because {reason}.");
        assert_eq!(config.described(), format!("{}{ending}", config.documentation));
        let overrides = [(name, value)];
        assert_eq!(EffectiveConfig::from_overrides(overrides.into_iter()), EffectiveConfig::default());
    }
    let honoured = find("retention.ms").unwrap();
    assert_eq!(
        (honoured.support, honoured.described().as_str()),
        (Support::Honoured, honoured.documentation)
    );
}

#[test]
fn a_value_that_would_be_a_lie_is_refused() {
    let tiers = "Yagura has no tiers, its store keeps the whole log; leave this config out or give it false";
    assert_eq!(refusal("remote.storage.enable", "true", " TRUE "), tiers);
    assert_eq!(validate("remote.storage.enable", "False"), Ok(()));
}

#[test]
fn every_refused_value_is_legal_in_kafka_and_not_the_default() {
    for config in topic_configs() {
        for (value, reason) in config.refused {
            assert!(config.read(value).is_ok() && *value != config.default, "{}", config.name);
            assert!(refusal(config.name, value, value).starts_with(reason), "{}", config.name);
        }
    }
}

#[test]
fn compaction_lags_must_fit_each_other() {
    let check = |overrides: &[(&str, &str)]| {
        let owned = overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        validate_together(&owned.collect())
    };
    let (min, max) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    for fitting in [&[(min, "10")][..], &[(max, "1")], &[(min, " 7 "), (max, "7")], &[(min, "x"), (max, "1")]]
    {
        assert_eq!(check(fitting), Ok(()));
    }
    let message = "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)";
    assert_eq!(check(&[(min, "10"), (max, "5")]), Err(message.to_owned()));
}

#[test]
fn described_values_are_the_parsed_values() {
    assert_eq!(canonical("retention.ms", " 0077 "), "77");
    assert_eq!(canonical("preallocate", " FALSE "), "false");
    assert_eq!(canonical("cleanup.policy", " delete , compact "), "delete,compact");
    assert_eq!(canonical("min.cleanable.dirty.ratio", "1e-5"), "1.0E-5");
    assert_eq!(canonical("retention.ms", "abc"), "abc");
    assert_eq!(canonical("foo", " x "), " x ");
}

#[test]
fn described_synonyms_are_the_single_ones() {
    let described = |name| find(name).unwrap().described_synonym();
    assert_eq!(described("max.message.bytes"), Some("message.max.bytes"));
    assert_eq!(described("remote.storage.enable"), None);
    for name in ["retention.ms", "flush.ms", "segment.ms", "segment.jitter.ms"] {
        assert_eq!(described(name), None, "{name}");
    }
}

// Each case was run against the controller of Kafka 4.1.1.
#[test]
fn list_operations_are_kafkas() {
    for (current, value, result) in [
        ("delete", "compact", "delete,compact"),
        ("delete,compact", "compact", "delete,compact"),
        ("delete", " delete , compact ", "delete, delete , compact "),
        ("", "0:1", "0:1"),
        ("0:1", "1:1,2:1,0:1", "0:1,1:1,2:1"),
        ("delete", "", "delete,"),
        ("delete", ",", "delete"),
        ("delete", "compact,,", "delete,compact"),
    ] {
        assert_eq!(append(current, value), result, "{current} + {value}");
    }
    for (current, value, result) in [
        ("delete,compact", "delete", "compact"),
        ("compact", "compact", ""),
        ("compact", "delete", "compact"),
        ("delete,compact,delete", "delete", "compact,delete"),
        ("delete, compact", "compact", "delete, compact"),
        ("delete", "", "delete"),
        ("0:1,1:1,2:1", "1:1,9:9", "0:1,2:1"),
    ] {
        assert_eq!(subtract(current, value), result, "{current} - {value}");
    }
}

#[test]
fn effective_defaults_are_the_tables() {
    let table = topic_configs().iter().map(|config| (config.name, config.default));
    assert_eq!(EffectiveConfig::from_overrides(table), EffectiveConfig::default());
    for (codec, compression) in [
        ("uncompressed", Compression::None),
        ("gzip", Compression::Gzip(-1)),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4(9)),
        ("zstd", Compression::Zstd(3)),
        ("producer", Compression::Producer),
    ] {
        let table = topic_configs().iter().map(|config| (config.name, config.default));
        let with_table = EffectiveConfig::from_overrides(table.chain([("compression.type", codec)]));
        let alone = EffectiveConfig::from_overrides([("compression.type", codec)].into_iter());
        assert_eq!((with_table.compression, alone.compression), (compression, compression));
    }
}

#[test]
fn overrides_take_effect() {
    let overrides = [
        ("compression.zstd.level", " -7 "),
        ("retention.ms", "-1"),
        ("retention.bytes", "1000"),
        ("retention.bytes", "0"),
        ("max.message.bytes", "2147483647"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.before.max.ms", "10"),
        ("message.timestamp.after.max.ms", "20"),
        ("compression.type", "zstd"),
    ];
    let expected = EffectiveConfig {
        cleanup_policy: CleanupPolicy::Delete,
        retention_ms: None,
        retention_bytes: Some(0),
        max_message_bytes: i32::MAX,
        timestamp_type: TimestampType::LogAppendTime,
        timestamp_before_max_ms: 10,
        timestamp_after_max_ms: 20,
        compression: Compression::Zstd(-7),
        compaction: EffectiveConfig::default().compaction,
    };
    assert_eq!(EffectiveConfig::from_overrides(overrides.into_iter()), expected);
}

#[test]
fn an_override_that_is_not_legal_counts_as_absent() {
    let overrides = [("max.message.bytes", "x"), ("foo", "1")];
    assert_eq!(EffectiveConfig::from_overrides(overrides.into_iter()), EffectiveConfig::default());
}

#[test]
fn an_empty_list_of_policies_keeps_records() {
    let overrides = [("retention.ms", "5"), ("cleanup.policy", ""), ("retention.bytes", "9")];
    let effective = EffectiveConfig::from_overrides(overrides.into_iter());
    assert_eq!((effective.retention_ms, effective.retention_bytes), (None, None));
    assert_eq!(effective.cleanup_policy, CleanupPolicy::Keep);
}

#[test]
fn a_retention_that_is_not_legal_deletes_nothing() {
    for name in ["retention.ms", "cleanup.policy"] {
        assert_eq!(EffectiveConfig::from_overrides([(name, "soon")].into_iter()).retention_ms, None);
    }
    let overrides = [("retention.bytes", "9"), ("cleanup.policy", "shred")];
    assert_eq!(EffectiveConfig::from_overrides(overrides.into_iter()).retention_bytes, None);
}

#[test]
fn retention_applies_only_where_the_policy_deletes() {
    for (policy, expected, deletes, compacts) in [
        ("delete", CleanupPolicy::Delete, true, false),
        (" compact ", CleanupPolicy::Compact, false, true),
        ("compact,delete", CleanupPolicy::CompactAndDelete, true, true),
        ("delete , compact", CleanupPolicy::CompactAndDelete, true, true),
        ("", CleanupPolicy::Keep, false, false),
    ] {
        assert_eq!(validate("cleanup.policy", policy), Ok(()), "{policy}");
        let overrides = [("cleanup.policy", policy), ("retention.bytes", "9"), ("retention.ms", "7")];
        let effective = EffectiveConfig::from_overrides(overrides.into_iter());
        assert_eq!(effective.cleanup_policy, expected, "{policy}");
        assert_eq!((expected.deletes(), expected.compacts()), (deletes, compacts));
        let limits = if deletes { (Some(7), Some(9)) } else { (None, None) };
        assert_eq!((effective.retention_ms, effective.retention_bytes), limits, "{policy}");
    }
}

#[test]
fn configs_of_compaction_take_effect() {
    let overrides = [
        ("min.compaction.lag.ms", "5"),
        ("max.compaction.lag.ms", " 70 "),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("delete.retention.ms", "0"),
    ];
    let config = EffectiveConfig::from_overrides(overrides.into_iter()).compaction;
    assert_eq!((config.min_lag_ms, config.max_lag_ms, config.delete_retention_ms), (5, 70, 0));
    assert!((config.min_dirty_ratio() - 0.25).abs() < f64::EPSILON);
    let ratio = |text| {
        let overrides = [("min.cleanable.dirty.ratio", text)];
        EffectiveConfig::from_overrides(overrides.into_iter()).compaction.min_dirty_ppm
    };
    // No number passes Kafka's range check, and nothing is more than it.
    assert_eq!((ratio("0"), ratio("1"), ratio("NaN")), (0, 1_000_000, 1_000_000));
}

fn facts() -> BrokerFacts {
    BrokerFacts {
        node_id: 7,
        auto_create_topics: false,
        default_partitions: 1,
        listeners: "MAIN://127.0.0.1:9092".to_owned(),
        advertised: "MAIN://localhost:9092".to_owned(),
        storage_url_masked: "postgres://yagura:***@db/yagura".to_owned(),
        request_bytes_max: Some(1 << 20),
        transaction_timeout_max_ms: 60_000,
        groups: GroupFacts {
            initial_delay_ms: 3_000,
            session_min_ms: 6_000,
            session_max_ms: 1_800_000,
            members_max: 2_147_483_647,
            offsets_retention_minutes: 10_080,
            consumer_session_ms: 45_000,
            consumer_interval_ms: 100,
        },
    }
}

#[test]
fn a_broker_lists_what_is_true_of_it() {
    let names: Vec<&str> = broker_configs(&facts()).iter().map(|config| config.name).collect();
    let expected = "advertised.listeners auto.create.topics.enable broker.id compression.gzip.level \
        compression.type compression.zstd.level default.replication.factor \
        delete.topic.enable group.consumer.assignors group.consumer.heartbeat.interval.ms \
        group.consumer.session.timeout.ms group.initial.rebalance.delay.ms group.max.session.timeout.ms \
        group.max.size group.min.session.timeout.ms listeners log.cleaner.delete.retention.ms \
        log.cleaner.max.compaction.lag.ms log.cleaner.min.cleanable.ratio log.cleaner.min.compaction.lag.ms \
        log.cleanup.policy log.dirs log.message.timestamp.after.max.ms log.message.timestamp.before.max.ms log.message.timestamp.type log.retention.bytes \
        log.retention.hours log.retention.minutes log.retention.ms message.max.bytes min.insync.replicas \
        node.id num.partitions offsets.retention.minutes socket.request.max.bytes \
        transaction.max.timeout.ms transactional.id.expiration.ms";
    assert_eq!(names.join(" "), expected);
    let unknown = broker_configs(&BrokerFacts { request_bytes_max: None, ..facts() });
    assert_eq!(unknown.len(), names.len() - 1, "the longest request is shown only if it is known");
}

#[test]
fn a_brokers_values_and_sources() {
    let configs = broker_configs(&facts());
    let seen = |name| {
        let config: &BrokerConfig = configs.iter().find(|config| config.name == name).unwrap();
        assert!(config.read_only && config.documentation.ends_with('.'), "{name}");
        (config.value.as_deref(), config.kind, config.source())
    };
    use ConfigSource::{DefaultConfig, StaticBrokerConfig};
    assert_eq!(seen("node.id"), (Some("7"), ConfigKind::Int, StaticBrokerConfig));
    assert_eq!(seen("auto.create.topics.enable"), (Some("false"), ConfigKind::Boolean, StaticBrokerConfig));
    assert_eq!(seen("num.partitions"), (Some("1"), ConfigKind::Int, DefaultConfig));
    assert_eq!(seen("message.max.bytes"), (Some("1048588"), ConfigKind::Int, DefaultConfig));
    assert_eq!(seen("group.consumer.assignors"), (Some("uniform,range"), ConfigKind::List, DefaultConfig));
    assert_eq!(
        seen("group.consumer.heartbeat.interval.ms"),
        (Some("100"), ConfigKind::Int, StaticBrokerConfig)
    );
    assert_eq!(seen("socket.request.max.bytes"), (Some("1048576"), ConfigKind::Int, StaticBrokerConfig));
    assert_eq!(seen("transaction.max.timeout.ms"), (Some("60000"), ConfigKind::Int, StaticBrokerConfig));
    assert_eq!(seen("transactional.id.expiration.ms"), (Some("604800000"), ConfigKind::Int, DefaultConfig));
    assert_eq!(seen("min.insync.replicas"), (Some("1"), ConfigKind::Int, DefaultConfig));
    assert_eq!(seen("log.retention.ms"), (None, ConfigKind::Long, DefaultConfig));
    // The hours equal the milliseconds of the topic config.
    assert_eq!(seen("log.retention.hours"), (Some("168"), ConfigKind::Int, DefaultConfig));
    assert_eq!(EffectiveConfig::default().retention_ms, Some(168 * 3_600_000));
}
