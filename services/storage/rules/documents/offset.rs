//! Committed offsets.

use std::sync::Arc;

use kernel::TopicId;
use serde::{Deserialize, Serialize};

use super::key::{OffsetKey, Prefix};
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

impl OffsetDocument {
    /// All committed offsets of a group.
    pub fn of_group(group: &str) -> Prefix {
        Prefix::of_group(Self::PREFIX, group)
    }
}
