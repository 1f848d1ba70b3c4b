//! Offsets that are committed in a transaction that is open.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::key::{Prefix, write_group, write_number};
use super::kind::{DocumentKind, LockRoot};
use super::transaction_keys::PendingOffsetKey;

/// Says that the committed offset of a partition is not stable: an open transaction will commit another one. If it is
/// deleted before that, with its group for instance, the transaction commits nothing in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PendingOffset {
    /// [`OffsetDocument::sent_as`](super::OffsetDocument::sent_as) of what is pending.
    #[serde(default)]
    pub sent_as: u64,
}

/// By group, topic, partition and producer id.
impl DocumentKind for PendingOffset {
    const PREFIX: &'static str = "pending-offset";
    type Key = PendingOffsetKey;

    fn lock_root(key: &PendingOffsetKey) -> LockRoot {
        LockRoot::Group(Arc::clone(&key.group))
    }
}

impl PendingOffset {
    /// All pending offsets of a group.
    pub fn of_group(group: &str) -> Prefix {
        Prefix::of_group(Self::PREFIX, group)
    }

    /// The pending offsets of a group for one partition.
    pub fn of_offset(group: &str, topic: &str, partition: i32) -> Prefix {
        let mut text = Self::PREFIX.to_owned();
        write_group(&mut text, group);
        text.push('/');
        text.push_str(topic);
        write_number(&mut text, partition);
        text.push('/');
        Prefix::of_text(text)
    }
}
