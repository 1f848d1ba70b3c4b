//! Every topic config of Kafka 4.4, and Yagura's support for it.
//!
//! Names, types, defaults, legal values and synonyms are those that `LogConfig` and
//! `ServerTopicConfigSynonyms` of Kafka 4.4.0 print. `internal.segment.bytes` is left out: Kafka hides it
//! from clients, and it is for Kafka's own tests.

use super::kind::ConfigKind::{self, Boolean, Double, Int, List, Long, String};
use super::support::Support;
use super::value::Legal::{self, Any, AtLeast, Between, BetweenOr, OneOf, Ratio, ThrottledReplicas};
use super::value::{self, Value};

/// One topic config.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ConfigKind,
    /// The value without an override, as Kafka prints it.
    pub default: &'static str,
    /// The values that Kafka accepts.
    pub legal: Legal,
    /// The broker configs that set the default in Kafka, the strongest first.
    pub synonyms: &'static [&'static str],
    /// What Yagura does with it.
    pub support: Support,
    /// Values, or elements of a list, that would promise what Yagura does not do, each with the reason.
    pub refused: &'static [(&'static str, &'static str)],
    /// What it is for, in one sentence.
    pub documentation: &'static str,
}

impl TopicConfig {
    /// Reads `text` as a value of this config.
    ///
    /// # Errors
    /// The client's message, in Kafka's words, if Kafka refuses the value.
    pub fn read<'a>(&self, text: &'a str) -> Result<Value<'a>, std::string::String> {
        value::read(self.name, self.kind, self.legal, text)
    }

    /// Documentation for DescribeConfigs, which also says if the config has no effect here.
    pub fn described(&self) -> std::string::String {
        self.support.described(self.documentation)
    }

    /// The synonym that DescribeConfigs lists with [`default`](Self::default) as its value.
    ///
    /// Kafka looks at the first broker name alone, and leaves it out while it is unset: that is so for
    /// each config with names in several units (`log.retention.ms` is null beside `log.retention.hours`).
    pub fn described_synonym(&self) -> Option<&'static str> {
        match self.synonyms {
            [only] => Some(only),
            _ => None,
        }
    }

    const fn synonyms(mut self, synonyms: &'static [&'static str]) -> Self {
        self.synonyms = synonyms;
        self
    }

    const fn no_effect(mut self, reason: &'static str) -> Self {
        self.support = Support::NoEffect(reason);
        self
    }

    const fn refuses(mut self, refused: &'static [(&'static str, &'static str)]) -> Self {
        self.refused = refused;
        self
    }

    const fn says(mut self, documentation: &'static str) -> Self {
        self.documentation = documentation;
        self
    }
}

/// All topic configs, sorted by name.
pub fn topic_configs() -> &'static [TopicConfig] {
    &TOPIC_CONFIGS
}

/// The topic config of this name; case matters, as in Kafka.
pub fn find(name: &str) -> Option<&'static TopicConfig> {
    let at = TOPIC_CONFIGS.binary_search_by(|config| config.name.cmp(name)).ok();
    let of_kafka = at.and_then(|at| TOPIC_CONFIGS.get(at));
    of_kafka.or_else(|| OWN_CONFIGS.iter().find(|config| config.name == name))
}

/// The topic configs that Kafka does not have. They are shown where they are set, or asked for: tools that know Kafka's
/// expect no others.
pub fn own_topic_configs() -> &'static [TopicConfig] {
    &OWN_CONFIGS
}

/// How a store that SQL can query keeps records.
pub const LAYOUT: &str = "yagura.storage.layout";

static OWN_CONFIGS: [TopicConfig; 1] = [config(String, LAYOUT, "rows", OneOf(&["rows", "batches"])).says(
    "How a Postgres store keeps the records that are appended from now on: `rows` for SQL to query, `batches` as they were sent, which is faster. Other stores keep batches, whatever it says.",
)];

const ONE_LZ4_LEVEL: &str = "Yagura's LZ4 has one level";
const NO_SEGMENTS: &str = "Yagura has no log segments";
const NO_FLUSH: &str = "Yagura makes every write durable before it answers it";
const NO_REPLICAS: &str = "Yagura has no replicas, its store keeps every byte";
const NO_TIERS: &str = "Yagura has no tiers, its store keeps the whole log";
const NO_SHARE_GROUPS: &str = "Yagura has no share groups";
const NOT_MEASURED: &str = "Yagura does not measure the records inside a compressed batch";
const ONE_COPY: &str = "Yagura answers a write once it is durable in the store, which is its only replica";

/// The largest 64-bit number, which is Kafka's "never", in milliseconds or records.
const NEVER: &str = "9223372036854775807";

const CODECS: Legal = OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);

const fn config(kind: ConfigKind, name: &'static str, default: &'static str, legal: Legal) -> TopicConfig {
    TopicConfig {
        name,
        kind,
        default,
        legal,
        synonyms: &[],
        support: Support::Honoured,
        refused: &[],
        documentation: "",
    }
}

static TOPIC_CONFIGS: [TopicConfig; 37] = [
    config(List, "cleanup.policy", "delete", OneOf(&["compact", "delete"]))
        .synonyms(&["log.cleanup.policy"])
        .says("What becomes of old records: `delete` removes them once past retention, `compact` once there is a later one with their key; empty keeps them."),
    config(Int, "compression.gzip.level", "-1", BetweenOr(1, 9, -1))
        .synonyms(&["compression.gzip.level"])
        .says("How hard gzip tries when compression.type is gzip; -1 leaves the choice to the codec."),
    config(Int, "compression.lz4.level", "9", Between(1, 17))
        .synonyms(&["compression.lz4.level"])
        .no_effect(ONE_LZ4_LEVEL)
        .says("How hard LZ4 tries when compression.type is lz4."),
    config(String, "compression.type", "producer", CODECS)
        .synonyms(&["compression.type"])
        .says("The codec batches are stored with; `producer` keeps each as it was sent."),
    config(Int, "compression.zstd.level", "3", Between(-131_072, 22))
        .synonyms(&["compression.zstd.level"])
        .says("How hard Zstandard tries when compression.type is zstd."),
    config(Long, "delete.retention.ms", "86400000", AtLeast(0))
        .synonyms(&["log.cleaner.delete.retention.ms"])
        .says("How long compaction leaves a tombstone in place, for readers who have yet to see it."),
    config(Boolean, "errors.deadletterqueue.group.enable", "false", Any)
        .no_effect(NO_SHARE_GROUPS)
        .says("Whether share groups may write the records that they cannot deliver to this topic."),
    config(Long, "file.delete.delay.ms", "60000", AtLeast(0))
        .synonyms(&["log.segment.delete.delay.ms"])
        .no_effect(NO_SEGMENTS)
        .says("How long Kafka keeps a segment file after its records are gone."),
    config(Long, "flush.messages", NEVER, AtLeast(1))
        .synonyms(&["log.flush.interval.messages"])
        .no_effect(NO_FLUSH)
        .says("After how many records Kafka forces its log to disk."),
    config(Long, "flush.ms", NEVER, AtLeast(0))
        .synonyms(&["log.flush.interval.ms", "log.flush.scheduler.interval.ms"])
        .no_effect(NO_FLUSH)
        .says("After how much time Kafka forces its log to disk."),
    config(List, "follower.replication.throttled.replicas", "", ThrottledReplicas)
        .no_effect(NO_REPLICAS)
        .says("The replicas, as partition:broker, that Kafka slows down as they copy from their leaders."),
    config(Int, "index.interval.bytes", "4096", AtLeast(0))
        .synonyms(&["log.index.interval.bytes"])
        .no_effect(NO_SEGMENTS)
        .says("How many bytes of a segment lie between two entries of its index."),
    config(List, "leader.replication.throttled.replicas", "", ThrottledReplicas)
        .no_effect(NO_REPLICAS)
        .says("The replicas, as partition:broker, that Kafka slows down on their leader's side."),
    config(Long, "local.retention.bytes", "-2", AtLeast(-2))
        .synonyms(&["log.local.retention.bytes"])
        .no_effect(NO_TIERS)
        .says(
            "With tiered storage, how much of a partition stays on the broker; -2 follows retention.bytes.",
        ),
    config(Long, "local.retention.ms", "-2", AtLeast(-2))
        .synonyms(&["log.local.retention.ms"])
        .no_effect(NO_TIERS)
        .says("With tiered storage, how long records stay on the broker; -2 follows retention.ms."),
    config(Long, "max.compaction.lag.ms", NEVER, AtLeast(1))
        .synonyms(&["log.cleaner.max.compaction.lag.ms"])
        .says("How long compaction may leave a record waiting for its turn."),
    config(Int, "max.decompressed.message.bytes", "2147483639", Between(1, 2_147_483_639))
        .synonyms(&["max.decompressed.message.bytes"])
        .no_effect(NOT_MEASURED)
        .says("The largest record that is accepted in a compressed batch, in bytes once decompressed."),
    config(Int, "max.message.bytes", "1048588", AtLeast(0))
        .synonyms(&["message.max.bytes"])
        .says("The largest record batch that is accepted, in bytes as it is stored."),
    config(Long, "message.timestamp.after.max.ms", "3600000", AtLeast(0))
        .synonyms(&["log.message.timestamp.after.max.ms"])
        .says("How far a producer's timestamp may be ahead of the broker's clock; idle with LogAppendTime."),
    config(Long, "message.timestamp.before.max.ms", NEVER, AtLeast(0))
        .synonyms(&["log.message.timestamp.before.max.ms"])
        .says("How far a producer's timestamp may lag behind the broker's clock; idle with LogAppendTime."),
    config(String, "message.timestamp.type", "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]))
        .synonyms(&["log.message.timestamp.type"])
        .says("Whose clock stamps a record: the producer's (CreateTime) or the broker's (LogAppendTime)."),
    config(Double, "min.cleanable.dirty.ratio", "0.5", Ratio)
        .synonyms(&["log.cleaner.min.cleanable.ratio"])
        .says("The share of a log that must be new before compaction sets to work on it."),
    config(Long, "min.compaction.lag.ms", "0", AtLeast(0))
        .synonyms(&["log.cleaner.min.compaction.lag.ms"])
        .says("How old a record must be before compaction may remove it."),
    config(Int, "min.insync.replicas", "1", AtLeast(1))
        .synonyms(&["min.insync.replicas"])
        .no_effect(ONE_COPY)
        .says("How many replicas must have a write that is sent with acks=all before it is answered."),
    config(Boolean, "preallocate", "false", Any)
        .synonyms(&["log.preallocate"])
        .no_effect(NO_SEGMENTS)
        .says("Whether Kafka reserves a segment file's whole size when it creates the file."),
    config(Long, "remote.copy.lag.bytes", "-1", AtLeast(-1))
        .synonyms(&["log.remote.copy.lag.bytes"])
        .no_effect(NO_TIERS)
        .says("With tiered storage, how many newer bytes there must be before a segment is copied."),
    config(Long, "remote.copy.lag.ms", "0", AtLeast(-1))
        .synonyms(&["log.remote.copy.lag.ms"])
        .no_effect(NO_TIERS)
        .says("With tiered storage, how old a segment must be before it is copied."),
    config(Boolean, "remote.log.copy.disable", "false", Any)
        .no_effect(NO_TIERS)
        .says("With tiered storage, whether Kafka stops copying records to the remote tier."),
    config(Boolean, "remote.log.delete.on.disable", "false", Any)
        .no_effect(NO_TIERS)
        .says("Whether Kafka drops the remote tier's records when a topic's tiered storage is turned off."),
    config(Boolean, "remote.storage.enable", "false", Any)
        .refuses(&[("true", NO_TIERS)])
        .says("Whether Kafka moves a topic's older segments to a remote tier."),
    config(Long, "retention.bytes", "-1", Any)
        .synonyms(&["log.retention.bytes"])
        .says("How many bytes a partition may hold before its oldest records go; -1 sets no limit."),
    config(Long, "retention.ms", "604800000", AtLeast(-1))
        .synonyms(&["log.retention.ms", "log.retention.minutes", "log.retention.hours"])
        .says("How old records may grow before they are deleted; -1 keeps them for ever."),
    config(Int, "segment.bytes", "1073741824", AtLeast(1_048_576))
        .synonyms(&["log.segment.bytes"])
        .no_effect(NO_SEGMENTS)
        .says("The size at which Kafka starts a new segment file."),
    config(Int, "segment.index.bytes", "10485760", AtLeast(4))
        .synonyms(&["log.index.size.max.bytes"])
        .no_effect(NO_SEGMENTS)
        .says("The largest size of a segment's index file."),
    config(Long, "segment.jitter.ms", "0", AtLeast(0))
        .synonyms(&["log.roll.jitter.ms", "log.roll.jitter.hours"])
        .no_effect(NO_SEGMENTS)
        .says("By how much, at random, Kafka starts segments early, so that not all logs roll at once."),
    config(Long, "segment.ms", "604800000", AtLeast(1))
        .synonyms(&["log.roll.ms", "log.roll.hours"])
        .no_effect(NO_SEGMENTS)
        .says("The age at which Kafka starts a new segment file, full or not."),
    config(Boolean, "unclean.leader.election.enable", "false", Any)
        .synonyms(&["unclean.leader.election.enable"])
        .no_effect(NO_REPLICAS)
        .says("Whether a replica that lags behind may become leader when no other is left, losing records."),
];
