//! Ordered keys, and the typed parts that they are made of.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use kernel::{ProducerId, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The key of a document as engines see it: bytes, in an order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Arc<str>);

/// A common prefix of keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Arc<str>);

impl Key {
    pub(super) fn of(prefix: &str, parts: &impl KeyPart) -> Self {
        // Each command makes a dozen keys. One allocation per key instead of two is a twentieth of a commit.
        thread_local!(static TEXT: RefCell<String> = const { RefCell::new(String::new()) });
        TEXT.with_borrow_mut(|text| {
            text.clear();
            text.push_str(prefix);
            parts.write(text);
            Self(Arc::from(text.as_str()))
        })
    }

    /// A key of any kind, from its text in a store.
    pub fn from_text(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The key as text; keys are ordered by its bytes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first part of the key, which tells its kind.
    pub fn kind(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(kind, _)| kind)
    }

    /// The rest of the key, if its kind is this.
    pub(super) fn parts_after(&self, prefix: &str) -> Option<&str> {
        self.0.strip_prefix(prefix).filter(|parts| parts.is_empty() || parts.starts_with('/'))
    }
}

impl Prefix {
    /// All keys of a kind.
    pub(super) fn of(prefix: &str) -> Self {
        Self(Arc::from(format!("{prefix}/")))
    }

    /// Those keys of a kind that begin with a partition.
    pub(super) fn of_partition(prefix: &str, at: TopicPartition) -> Self {
        let mut text = prefix.to_owned();
        at.write(&mut text);
        text.push('/');
        Self(text.into())
    }

    /// Those keys of a kind that begin with a group, or with a transactional id.
    pub(super) fn of_group(prefix: &str, group: &str) -> Self {
        let mut text = prefix.to_owned();
        write_group(&mut text, group);
        text.push('/');
        Self(text.into())
    }

    /// A prefix by its text, which ends in a slash.
    pub(super) fn of_text(text: String) -> Self {
        Self(text.into())
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The least text that is greater than every key with this prefix: the end of a range scan.
    pub fn end(&self) -> String {
        let mut end = self.0.to_string();
        // '0' is the character after '/', which every prefix ends in.
        end.pop();
        end.push('0');
        end
    }

    /// Whether a key begins with it.
    pub fn matches(&self, key: &Key) -> bool {
        key.0.starts_with(&*self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A typed key, or a part of one. It is written with a slash before it.
pub trait KeyPart: Sized {
    /// Appends the part.
    fn write(&self, key: &mut String);

    /// Reads what [`KeyPart::write`] wrote, to the end of the text; `None` for anything else.
    fn read(text: &str) -> Option<Self>;
}

/// The key of a kind with a single document.
impl KeyPart for () {
    fn write(&self, _: &mut String) {}

    fn read(text: &str) -> Option<Self> {
        text.is_empty().then_some(())
    }
}

impl KeyPart for Arc<str> {
    fn write(&self, key: &mut String) {
        key.push('/');
        key.push_str(self);
    }

    fn read(text: &str) -> Option<Self> {
        text.strip_prefix('/').map(Arc::from)
    }
}

impl KeyPart for TopicId {
    fn write(&self, key: &mut String) {
        let mut text = Uuid::encode_buffer();
        key.push('/');
        key.push_str(self.0.hyphenated().encode_lower(&mut text));
    }

    fn read(text: &str) -> Option<Self> {
        text.strip_prefix('/')?.parse().ok().map(TopicId)
    }
}

impl KeyPart for TopicPartition {
    fn write(&self, key: &mut String) {
        self.topic.write(key);
        write_number(key, self.partition);
    }

    fn read(text: &str) -> Option<Self> {
        let (topic, partition) = text.rsplit_once('/')?;
        Some(TopicPartition { topic: TopicId::read(topic)?, partition: partition.parse().ok()? })
    }
}

/// A producer in a partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerKey {
    /// The partition.
    pub partition: TopicPartition,
    /// The producer's id.
    pub producer: ProducerId,
    /// The service that gave the id; `None` for this one. Services count their ids independently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<str>>,
}

/// The origin comes last, because it may contain slashes, and only if there is one.
impl KeyPart for ProducerKey {
    fn write(&self, key: &mut String) {
        self.partition.write(key);
        write_number(key, self.producer.0);
        if let Some(origin) = &self.origin {
            origin.write(key);
        }
    }

    fn read(text: &str) -> Option<Self> {
        // Topic id, partition, producer id: none of them contains a slash.
        let mut slashes = text.match_indices('/').map(|(at, _)| at);
        let producer_at = slashes.nth(2)?;
        let (partition, rest) = text.split_at_checked(producer_at)?;
        let rest = rest.strip_prefix('/')?;
        let (producer, origin) = match rest.split_once('/') {
            Some((producer, origin)) => (producer, Some(Arc::from(origin))),
            None => (rest, None),
        };
        let producer = ProducerId(producer.parse().ok()?);
        Some(ProducerKey { partition: TopicPartition::read(partition)?, producer, origin })
    }
}

/// A member: its group and its id in the group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberKey {
    /// The group's id.
    pub group: Arc<str>,
    /// The member's id.
    pub member: Arc<str>,
}

impl KeyPart for MemberKey {
    fn write(&self, key: &mut String) {
        write_group(key, &self.group);
        key.push('/');
        key.push_str(&self.member);
    }

    fn read(text: &str) -> Option<Self> {
        let (group, member) = split_group(text)?;
        Some(MemberKey { group: Arc::from(group), member: Arc::from(member) })
    }
}

/// A static member: its group and its group instance id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// The group's id.
    pub group: Arc<str>,
    /// The group instance id.
    pub instance: Arc<str>,
}

impl KeyPart for InstanceKey {
    fn write(&self, key: &mut String) {
        write_group(key, &self.group);
        key.push('/');
        key.push_str(&self.instance);
    }

    fn read(text: &str) -> Option<Self> {
        let (group, instance) = split_group(text)?;
        Some(InstanceKey { group: Arc::from(group), instance: Arc::from(instance) })
    }
}

/// A partition that a member of a group has: group, topic id and partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssignedKey {
    /// The group's id.
    pub group: Arc<str>,
    /// The partition.
    pub partition: TopicPartition,
}

impl KeyPart for AssignedKey {
    fn write(&self, key: &mut String) {
        write_group(key, &self.group);
        self.partition.write(key);
    }

    fn read(text: &str) -> Option<Self> {
        let (group, place) = split_group(text)?;
        let (topic, partition) = place.rsplit_once('/')?;
        let topic = topic.parse().ok().map(TopicId)?;
        let partition = TopicPartition { topic, partition: partition.parse().ok()? };
        Some(AssignedKey { group: Arc::from(group), partition })
    }
}

/// A committed offset: group, topic name and partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffsetKey {
    /// The group's id.
    pub group: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl KeyPart for OffsetKey {
    fn write(&self, key: &mut String) {
        write_group(key, &self.group);
        key.push('/');
        key.push_str(&self.topic);
        write_number(key, self.partition);
    }

    fn read(text: &str) -> Option<Self> {
        let (group, place) = split_group(text)?;
        let (topic, partition) = place.rsplit_once('/')?;
        let partition = partition.parse().ok()?;
        Some(OffsetKey { group: Arc::from(group), topic: Arc::from(topic), partition })
    }
}

/// A group id, or a transactional id, may contain slashes, so its length precedes it.
pub(super) fn write_group(key: &mut String, group: &str) {
    write_number(key, group.len());
    key.push('/');
    key.push_str(group);
}

pub(super) fn write_number(key: &mut String, number: impl itoa::Integer) {
    key.push('/');
    key.push_str(itoa::Buffer::new().format(number));
}

/// Splits `/5/group/rest`.
pub(super) fn split_group(text: &str) -> Option<(&str, &str)> {
    let (length, rest) = text.strip_prefix('/')?.split_once('/')?;
    let (group, rest) = rest.split_at_checked(length.parse().ok()?)?;
    Some((group, rest.strip_prefix('/')?))
}
