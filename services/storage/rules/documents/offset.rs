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
    #[cfg_attr(feature = "next-level", serde(rename = "next"))]
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
    /// How often the offset was committed so far. 0 in one that is not committed yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
    /// The revision that there was when a transaction sent this one; `None` outside of transactions. Offsets of a
    /// transaction are as old as that, whenever it ends: clocks do not tell, brokers have different ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_after: Option<u64>,
    /// Its place among those of other transactions that were pending for the same offset when it was sent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sent_as: u64,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(revision: &u64) -> bool {
    *revision == 0
}

/// By group, topic and partition.
impl DocumentKind for OffsetDocument {
    const PREFIX: &'static str = "offset";
    type Key = OffsetKey;
    #[cfg(feature = "next-level")]
    super::next_level::renames!("offset" => "next");

    fn lock_root(key: &OffsetKey) -> LockRoot {
        LockRoot::Group(Arc::clone(&key.group))
    }
}

impl OffsetDocument {
    /// Whether it was sent after another one, which a transaction has sent, and which is now to be committed.
    pub fn is_later_than(&self, sent: &OffsetDocument) -> bool {
        let seen = sent.sent_after.unwrap_or_default();
        if self.revision <= seen {
            return false;
        }
        match self.sent_after {
            None => true,
            // Both were sent between the same two commits, in transactions that were open at once.
            Some(own) if own == seen => self.sent_as > sent.sent_as,
            Some(own) => own > seen,
        }
    }

    /// All committed offsets of a group.
    pub fn of_group(group: &str) -> Prefix {
        Prefix::of_group(Self::PREFIX, group)
    }
}
