//! The configs a broker shows of itself: what DescribeConfigs of a BROKER resource lists.
//!
//! Kafka lists hundreds. This lists those that tools read and whose value is true of Yagura. A client can alter
//! none of them, so a missing name breaks no tool, and is more honest than a value without effect.

use super::kind::ConfigKind::{self, Boolean, Int, List, Long, String as Text};
use crate::documents::{ASSIGNORS, TransactionDocument};

use super::kind::ConfigSource;
use super::support::Support;
use super::topic::{find, topic_configs};

/// The broker's properties, which [`broker_configs`] shows as Kafka's configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerFacts {
    /// This broker's id in the cluster.
    pub node_id: i32,
    /// Whether a Metadata request for an unknown topic creates it.
    pub auto_create_topics: bool,
    /// The default number of partitions of a topic.
    pub default_partitions: i32,
    /// Where the broker listens, as `NAME://host:port`, comma-separated.
    pub listeners: String,
    /// Where clients are told to connect, in the same form.
    pub advertised: String,
    /// The store's URL, its secrets masked: any client that may describe the broker reads it.
    pub storage_url_masked: String,
    /// The longest request that is read from this client, in bytes, if known.
    pub request_bytes_max: Option<usize>,
    /// The longest transaction timeout that a producer may request, in ms.
    pub transaction_timeout_max_ms: u128,
    /// Group settings.
    pub groups: GroupFacts,
}

/// Group settings; times in ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFacts {
    /// How long a new group waits for more members.
    pub initial_delay_ms: u128,
    /// The shortest session timeout that a member may request.
    pub session_min_ms: u128,
    /// The longest session timeout.
    pub session_max_ms: u128,
    /// Members that a group may have.
    pub members_max: usize,
    /// How long offsets are kept after their group was last in use.
    pub offsets_retention_minutes: u128,
    /// The session timeout of members of the consumer protocol.
    pub consumer_session_ms: u128,
    /// The heartbeat interval of such members.
    pub consumer_interval_ms: u128,
}

/// One config of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// Its value; `None` where Kafka shows null.
    pub value: Option<String>,
    /// The type of its value.
    pub kind: ConfigKind,
    /// Whether the value is Kafka's default. (Kafka checks whether its properties file names the config.
    /// Here, a default that is set explicitly looks like one that is not set.)
    pub is_default: bool,
    /// Kafka's default; `None` if it has none.
    pub default: Option<&'static str>,
    /// Whether AlterConfigs cannot change it. So far none can be changed while the broker runs, whatever
    /// Kafka allows.
    pub read_only: bool,
    /// Documentation for DescribeConfigs, in one sentence.
    pub documentation: &'static str,
}

impl BrokerConfig {
    /// The source that DescribeConfigs v1 and later name.
    pub fn source(&self) -> ConfigSource {
        if self.is_default { ConfigSource::DefaultConfig } else { ConfigSource::StaticBrokerConfig }
    }

    /// `default` is Kafka's; `None` where the value is specific to this broker.
    fn new(
        name: &'static str,
        kind: ConfigKind,
        value: String,
        default: Option<&'static str>,
        documentation: &'static str,
    ) -> Self {
        let is_default = default == Some(value.as_str());
        BrokerConfig { name, value: Some(value), kind, default, is_default, read_only: true, documentation }
    }

    /// A config that is not set and that Kafka shows as null.
    fn unset(name: &'static str, kind: ConfigKind, documentation: &'static str) -> Self {
        BrokerConfig {
            name,
            value: None,
            kind,
            default: None,
            is_default: true,
            read_only: true,
            documentation,
        }
    }
}

/// The configs of the broker that `facts` describe, sorted by name.
pub fn broker_configs(facts: &BrokerFacts) -> Vec<BrokerConfig> {
    let mut configs = own(facts);
    configs.extend(longest_request(facts));
    configs.extend(groups(&facts.groups));
    configs.extend(transactions(facts));
    configs.extend(retention_time());
    configs.extend(topic_defaults());
    configs.sort_by_key(|config| config.name);
    configs
}

/// The configs of the broker itself.
fn own(facts: &BrokerFacts) -> Vec<BrokerConfig> {
    let config = BrokerConfig::new;
    let node_id = facts.node_id.to_string();
    vec![
        config("broker.id", Int, node_id.clone(), None, "The broker's id, by its older name."),
        config("node.id", Int, node_id, None, "The broker's id in the cluster."),
        config("listeners", Text, facts.listeners.clone(), None, "The addresses the broker listens on."),
        config(
            "advertised.listeners",
            Text,
            facts.advertised.clone(),
            None,
            "The addresses clients are told to connect to.",
        ),
        config(
            "log.dirs",
            Text,
            facts.storage_url_masked.clone(),
            None,
            "Where records are kept: the store's URL, its secrets masked.",
        ),
        config(
            "auto.create.topics.enable",
            Boolean,
            facts.auto_create_topics.to_string(),
            Some("true"),
            "Whether asking for a topic that does not exist creates it.",
        ),
        config(
            "delete.topic.enable",
            Boolean,
            "true".to_owned(),
            Some("true"),
            "Whether topics can be deleted; tools offer it only if so.",
        ),
        config(
            "num.partitions",
            Int,
            facts.default_partitions.to_string(),
            Some("1"),
            "How many partitions a topic gets when nobody says.",
        ),
        config(
            "default.replication.factor",
            Int,
            "1".to_owned(),
            Some("1"),
            "How many replicas a partition has: always one, the store sees to copies.",
        ),
        config(
            "min.insync.replicas",
            Int,
            "1".to_owned(),
            Some("1"),
            "How many replicas must have a write before it is answered: always one, the store sees to copies.",
        ),
    ]
}

/// The longest request is a setting of each listener's stack.
fn longest_request(facts: &BrokerFacts) -> Option<BrokerConfig> {
    let bytes = facts.request_bytes_max?.to_string();
    let documentation = "The longest request that is read from this client, in bytes.";
    Some(BrokerConfig::new("socket.request.max.bytes", Int, bytes, Some("104857600"), documentation))
}

/// Group settings.
fn groups(facts: &GroupFacts) -> Vec<BrokerConfig> {
    let number = |name, value: String, default, documentation| {
        BrokerConfig::new(name, Int, value, Some(default), documentation)
    };
    vec![
        number(
            "group.initial.rebalance.delay.ms",
            facts.initial_delay_ms.to_string(),
            "3000",
            "How long a new group waits for more members before its first rebalance ends.",
        ),
        number(
            "group.min.session.timeout.ms",
            facts.session_min_ms.to_string(),
            "6000",
            "The shortest session that a group member may ask for.",
        ),
        number(
            "group.max.session.timeout.ms",
            facts.session_max_ms.to_string(),
            "1800000",
            "The longest session that a group member may ask for.",
        ),
        number(
            "group.max.size",
            facts.members_max.to_string(),
            "2147483647",
            "Members that a group may have.",
        ),
        number(
            "group.consumer.session.timeout.ms",
            facts.consumer_session_ms.to_string(),
            "45000",
            "The session of a member of the consumer protocol (KIP-848).",
        ),
        number(
            "group.consumer.heartbeat.interval.ms",
            facts.consumer_interval_ms.to_string(),
            "5000",
            "How often a member of the consumer protocol says that it lives.",
        ),
        number(
            "offsets.retention.minutes",
            facts.offsets_retention_minutes.to_string(),
            "10080",
            "How long committed offsets are kept after their group was last in use.",
        ),
        BrokerConfig::new(
            "group.consumer.assignors",
            List,
            ASSIGNORS.join(","),
            Some("uniform,range"),
            "The assignors that a member of the consumer protocol may vote for, the default first.",
        ),
    ]
}

/// What holds for transactional ids.
fn transactions(facts: &BrokerFacts) -> [BrokerConfig; 2] {
    [
        BrokerConfig::new(
            "transaction.max.timeout.ms",
            Int,
            facts.transaction_timeout_max_ms.to_string(),
            Some("900000"),
            "The longest transaction timeout that a producer may ask for.",
        ),
        BrokerConfig::new(
            "transactional.id.expiration.ms",
            Int,
            TransactionDocument::EXPIRY_MS.to_string(),
            Some("604800000"),
            "How long a transactional id is kept after it was last in use.",
        ),
    ]
}

/// `retention.ms` under its three broker names: Kafka sets the default in hours and leaves the stronger
/// names null.
fn retention_time() -> [BrokerConfig; 3] {
    let documentation = find("retention.ms").map_or("", |config| config.documentation);
    [
        BrokerConfig::new("log.retention.hours", Int, "168".to_owned(), Some("168"), documentation),
        BrokerConfig::unset("log.retention.minutes", Int, documentation),
        BrokerConfig::unset("log.retention.ms", Long, documentation),
    ]
}

/// The topic defaults under the broker's names: only those that work here.
fn topic_defaults() -> impl Iterator<Item = BrokerConfig> {
    topic_configs().iter().filter(|config| config.support == Support::Honoured).filter_map(|config| {
        let (name, default) = (config.described_synonym()?, config.default);
        Some(BrokerConfig::new(name, config.kind, default.to_owned(), Some(default), config.documentation))
    })
}
