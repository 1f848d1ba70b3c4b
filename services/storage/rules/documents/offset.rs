//! Committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;
use serde::{Deserialize, Serialize};

use super::key::OffsetKey;
use super::kind::{DocumentKind, LockRoot};

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetDocument {
    /// Topic id: the offset is not valid for a later topic of that name.
    pub topic_id: TopicId,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record that was read; -1 for none.
    pub leader_epoch: i32,
    /// Metadata from the client.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub metadata: Arc<str>,
    /// When it was committed, in ms.
    pub committed_ms: i64,
    /// When it expires, if its client said so (versions before 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

/// By group, topic and partition.
impl DocumentKind for OffsetDocument {
    const PREFIX: &'static str = "offset";
    type Key = OffsetKey;

    fn lock_root(key: &OffsetKey) -> LockRoot {
        LockRoot::Group(Arc::clone(&key.group))
    }
}

/// Partitions by topic name.
pub type OffsetPartitions = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// The partitions for which a group has committed offsets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OffsetIndex(pub OffsetPartitions);

impl OffsetIndex {
    /// Whether it has a partition.
    pub fn has(&self, topic: &str, partition: i32) -> bool {
        self.0.get(topic).is_some_and(|of_topic| of_topic.contains(&partition))
    }

    /// Iterates over all partitions.
    pub fn each(&self) -> impl Iterator<Item = (&Arc<str>, i32)> {
        self.0.iter().flat_map(|(topic, of_topic)| of_topic.iter().map(move |partition| (topic, *partition)))
    }
}

/// By group.
impl DocumentKind for OffsetIndex {
    const PREFIX: &'static str = "offset-index";
    type Key = Arc<str>;

    fn lock_root(group: &Arc<str>) -> LockRoot {
        LockRoot::Group(Arc::clone(group))
    }
}
