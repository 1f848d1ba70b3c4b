//! The documents that a store keeps, one JSON value each.
//!
//! A store is small documents beside large logs. They are JSON so that a person with a SQLite shell can read them, and
//! so that a later release can add a field that an older document lacks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use kernel::{ProducerId, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::client_metrics::Subscription;
use super::configs::EffectiveConfig;
use super::groups::{GroupDocument, MemberDocument, OffsetDocument, OffsetIndex};

/// Partitions that one store can ever have: engines pack the partition's number and an offset into 63 bits.
pub const PARTITION_NUMBERS_MAX: u32 = 1 << 20;

/// The name of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The store's counters.
    Counters,
    /// A topic, by name.
    Topic(Arc<str>),
    /// The name of a topic, by its id.
    TopicName(TopicId),
    /// The topics whose names become this one when `.` is written `_`; their metrics would collide.
    TopicCollision(Arc<str>),
    /// A partition's log, by topic id, so that a deleted topic's log is never taken for a later one's.
    Partition(TopicPartition),
    /// An idempotent producer in one partition.
    Producer(TopicPartition, ProducerId),
    /// A subscription to clients' metrics, by its name.
    ClientMetrics(Arc<str>),
    /// A consumer group, by its id.
    Group(Arc<str>),
    /// A member, by group and its id in the group.
    Member(Arc<str>, Arc<str>),
    /// Which offsets a group has.
    OffsetIndex(Arc<str>),
    /// An offset that a group has committed, by topic and partition.
    Offset(Arc<str>, Arc<str>, i32),
}

/// A document's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Of [`Key::Counters`].
    Counters(Counters),
    /// Of [`Key::Topic`].
    Topic(Arc<TopicDocument>),
    /// Of [`Key::TopicName`].
    TopicName(Arc<str>),
    /// Of [`Key::TopicCollision`].
    TopicCollision(Vec<Arc<str>>),
    /// Of [`Key::Partition`].
    Partition(PartitionDocument),
    /// Of [`Key::Producer`].
    Producer(ProducerDocument),
    /// Of [`Key::ClientMetrics`].
    ClientMetrics(Arc<Subscription>),
    /// Of [`Key::Group`].
    Group(Arc<GroupDocument>),
    /// Of [`Key::Member`].
    Member(Arc<MemberDocument>),
    /// Of [`Key::OffsetIndex`].
    OffsetIndex(Arc<OffsetIndex>),
    /// Of [`Key::Offset`].
    Offset(OffsetDocument),
}

/// Numbers that are given out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The next idempotent producer's id.
    pub next_producer_id: i64,
    /// The next partition's number.
    pub next_partition_number: u32,
}

/// A topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TopicDocument {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its configs where they differ from the defaults, as clients wrote them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, String>,
    #[serde(skip)]
    effective: OnceLock<EffectiveConfig>,
}

impl PartialEq for TopicDocument {
    fn eq(&self, other: &Self) -> bool {
        // The effective configs follow from the configs.
        (&self.name, self.id, self.partitions, &self.configs)
            == (&other.name, other.id, other.partitions, &other.configs)
    }
}

impl Eq for TopicDocument {}

impl TopicDocument {
    pub(crate) fn new(
        name: Arc<str>,
        id: TopicId,
        partitions: i32,
        configs: BTreeMap<String, String>,
    ) -> Self {
        Self { name, id, partitions, configs, effective: OnceLock::new() }
    }

    /// The topic with other configs.
    pub(crate) fn with_configs(&self, configs: BTreeMap<String, String>) -> Self {
        Self::new(Arc::clone(&self.name), self.id, self.partitions, configs)
    }

    /// The configs in force, worked out once.
    pub(crate) fn effective(&self) -> &EffectiveConfig {
        self.effective.get_or_init(|| {
            let overrides = self.configs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            EffectiveConfig::from_overrides(overrides)
        })
    }

    /// One of its partitions; `None` if it has no such number.
    pub fn partition(&self, partition: i32) -> Option<TopicPartition> {
        (0..self.partitions).contains(&partition).then_some(TopicPartition { topic: self.id, partition })
    }

    /// All its partitions.
    pub fn all_partitions(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        let topic = self.id;
        (0..self.partitions).map(move |partition| TopicPartition { topic, partition })
    }
}

/// A partition's log, without its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDocument {
    /// Its number in this store, never used again.
    pub number: u32,
    /// The first offset that can be read.
    pub log_start: i64,
    /// The offset after the last record: high watermark, last stable offset and log end are one here, because a
    /// batch becomes visible only once it is durable.
    pub end: i64,
    /// Bytes of the batches from `log_start` on.
    pub bytes: u64,
    /// The leader epoch that batches are stored with.
    pub leader_epoch: i32,
}

/// What is remembered of an idempotent producer (KIP-98).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerDocument {
    /// Its epoch.
    pub epoch: i16,
    /// Its last batches, oldest first, five at most: as many as a producer may have in flight.
    pub batches: Vec<ProducedBatch>,
    /// When the last one was taken.
    pub last_ms: i64,
}

/// A batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducedBatch {
    /// The sequence number of its first record.
    pub first_sequence: i32,
    /// That of its last.
    pub last_sequence: i32,
    /// The offset of its first record.
    pub base_offset: i64,
}

impl fmt::Display for Key {
    /// The key as a store writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Counters => f.write_str("counters"),
            Key::Topic(name) => write!(f, "topic/{name}"),
            Key::TopicName(id) => write!(f, "topic-name/{}", id.0),
            Key::TopicCollision(name) => write!(f, "topic-collision/{name}"),
            Key::Partition(at) => write!(f, "partition/{}/{}", at.topic.0, at.partition),
            Key::Producer(at, producer) => {
                write!(f, "producer/{}/{}/{}", at.topic.0, at.partition, producer.0)
            }
            Key::ClientMetrics(name) => write!(f, "client-metrics/{name}"),
            Key::Group(group) => write!(f, "group/{group}"),
            // A group's id may have slashes in it, so its length goes before it.
            Key::Member(group, member) => write!(f, "member/{}/{group}/{member}", group.len()),
            Key::OffsetIndex(group) => write!(f, "offset-index/{group}"),
            Key::Offset(group, topic, partition) => {
                write!(f, "offset/{}/{group}/{topic}/{partition}", group.len())
            }
        }
    }
}

impl Key {
    /// Reads what [`fmt::Display`] wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Key> {
        let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
        let topic_id = |text: &str| text.parse().ok().map(TopicId);
        match kind {
            "counters" => Some(Key::Counters),
            "topic" => Some(Key::Topic(Arc::from(rest))),
            "topic-name" => topic_id(rest).map(Key::TopicName),
            "topic-collision" => Some(Key::TopicCollision(Arc::from(rest))),
            "partition" => {
                let (topic, partition) = rest.split_once('/')?;
                Some(Key::Partition(TopicPartition {
                    topic: topic_id(topic)?,
                    partition: partition.parse().ok()?,
                }))
            }
            "producer" => {
                let mut parts = rest.splitn(3, '/');
                let topic = topic_id(parts.next()?)?;
                let partition = parts.next()?.parse().ok()?;
                let producer = ProducerId(parts.next()?.parse().ok()?);
                Some(Key::Producer(TopicPartition { topic, partition }, producer))
            }
            "client-metrics" => Some(Key::ClientMetrics(Arc::from(rest))),
            "group" => Some(Key::Group(Arc::from(rest))),
            "member" => {
                let (group, member) = split_group(rest)?;
                Some(Key::Member(Arc::from(group), Arc::from(member)))
            }
            "offset-index" => Some(Key::OffsetIndex(Arc::from(rest))),
            "offset" => {
                let (group, place) = split_group(rest)?;
                let (topic, partition) = place.rsplit_once('/')?;
                Some(Key::Offset(Arc::from(group), Arc::from(topic), partition.parse().ok()?))
            }
            _ => None,
        }
    }

    /// The document of this key from its JSON.
    pub fn read(&self, json: &str) -> serde_json::Result<Document> {
        Ok(match self {
            Key::Counters => Document::Counters(serde_json::from_str(json)?),
            Key::Topic(_) => Document::Topic(Arc::new(serde_json::from_str(json)?)),
            Key::TopicName(_) => Document::TopicName(Arc::from(serde_json::from_str::<String>(json)?)),
            Key::TopicCollision(_) => Document::TopicCollision(serde_json::from_str(json)?),
            Key::Partition(_) => Document::Partition(serde_json::from_str(json)?),
            Key::Producer(..) => Document::Producer(serde_json::from_str(json)?),
            Key::ClientMetrics(_) => Document::ClientMetrics(Arc::new(serde_json::from_str(json)?)),
            Key::Group(_) => Document::Group(Arc::new(serde_json::from_str(json)?)),
            Key::Member(..) => Document::Member(Arc::new(serde_json::from_str(json)?)),
            Key::OffsetIndex(_) => Document::OffsetIndex(Arc::new(serde_json::from_str(json)?)),
            Key::Offset(..) => Document::Offset(serde_json::from_str(json)?),
        })
    }
}

/// Splits `5/group/rest`.
fn split_group(text: &str) -> Option<(&str, &str)> {
    let (length, rest) = text.split_once('/')?;
    let (group, rest) = rest.split_at_checked(length.parse().ok()?)?;
    Some((group, rest.strip_prefix('/')?))
}

impl Document {
    /// Its JSON.
    pub fn write(&self) -> serde_json::Result<String> {
        match self {
            Document::Counters(counters) => serde_json::to_string(counters),
            Document::Topic(topic) => serde_json::to_string(&**topic),
            Document::TopicName(name) => serde_json::to_string(&**name),
            Document::TopicCollision(names) => serde_json::to_string(names),
            Document::Partition(partition) => serde_json::to_string(partition),
            Document::Producer(producer) => serde_json::to_string(producer),
            Document::ClientMetrics(configs) => serde_json::to_string(&**configs),
            Document::Group(group) => serde_json::to_string(&**group),
            Document::Member(member) => serde_json::to_string(&**member),
            Document::OffsetIndex(index) => serde_json::to_string(&**index),
            Document::Offset(offset) => serde_json::to_string(offset),
        }
    }

    /// The topic, if this is one.
    pub fn as_topic(&self) -> Option<&Arc<TopicDocument>> {
        match self {
            Document::Topic(topic) => Some(topic),
            _ => None,
        }
    }

    /// The group, if this is one.
    pub fn as_group(&self) -> Option<&Arc<GroupDocument>> {
        match self {
            Document::Group(group) => Some(group),
            _ => None,
        }
    }

    /// The partition, if this is one.
    pub fn as_partition(&self) -> Option<&PartitionDocument> {
        match self {
            Document::Partition(partition) => Some(partition),
            _ => None,
        }
    }
}
