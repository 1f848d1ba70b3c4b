//! The due index: what is to be looked at, by time.
//!
//! An entry says "look at this subject at this time or later, not before". A look finds out from the subject's own
//! documents what is to be done and when to look next, so that a second entry, or a late or repeated look, does no
//! harm. What can make something due puts an entry; what only moves it into the future puts none. So subjects at rest
//! cost nothing, however many there are.

use std::fmt::Write as _;
use std::sync::Arc;

use kernel::{TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::key::{KeyPart, ProducerKey};
use super::kind::{DocumentKind, LockRoot};

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DueSubject {
    /// Retention of a partition.
    Partition(TopicPartition),
    /// Compaction of a partition.
    Cleaning(TopicPartition),
    /// Retention and compaction of all partitions of a topic, by its name: its limits have changed.
    Topic(Arc<str>),
    /// Expiry of an idempotent producer.
    Producer(ProducerKey),
    /// Expiry of a group's offsets, and of the group once it has neither members nor offsets.
    Offsets(Arc<str>),
    /// Offsets that were committed for a deleted topic.
    DeletedTopic(TopicId),
}

impl DueSubject {
    /// [`DueSubject::Partition`] in a key.
    pub const PARTITION: &'static str = "partition";
    /// [`DueSubject::Cleaning`] in a key.
    pub const CLEANING: &'static str = "cleaning";
    /// [`DueSubject::Topic`] in a key.
    pub const TOPIC: &'static str = "topic";
    /// [`DueSubject::Producer`] in a key.
    pub const PRODUCER: &'static str = "producer";
    /// [`DueSubject::Offsets`] in a key.
    pub const OFFSETS: &'static str = "offsets";
    /// [`DueSubject::DeletedTopic`] in a key.
    pub const DELETED_TOPIC: &'static str = "deleted-topic";

    /// The kind of subject, as keys have it.
    pub fn kind(&self) -> &'static str {
        match self {
            DueSubject::Partition(_) => Self::PARTITION,
            DueSubject::Cleaning(_) => Self::CLEANING,
            DueSubject::Topic(_) => Self::TOPIC,
            DueSubject::Producer(_) => Self::PRODUCER,
            DueSubject::Offsets(_) => Self::OFFSETS,
            DueSubject::DeletedTopic(_) => Self::DELETED_TOPIC,
        }
    }

    fn read(kind: &str, parts: &str) -> Option<Self> {
        Some(match kind {
            Self::PARTITION => DueSubject::Partition(KeyPart::read(parts)?),
            Self::CLEANING => DueSubject::Cleaning(KeyPart::read(parts)?),
            Self::TOPIC => DueSubject::Topic(KeyPart::read(parts)?),
            Self::PRODUCER => DueSubject::Producer(KeyPart::read(parts)?),
            Self::OFFSETS => DueSubject::Offsets(KeyPart::read(parts)?),
            Self::DELETED_TOPIC => DueSubject::DeletedTopic(KeyPart::read(parts)?),
            _ => return None,
        })
    }
}

/// A time and what is to be looked at then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueKey {
    /// The time in ms, not negative.
    pub at_ms: i64,
    /// The subject.
    pub subject: DueSubject,
}

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Digits of a time in a key: as many as the greatest has.
const TIME_DIGITS: usize = 19;

impl DueKey {
    /// The time of what the next look at the index finds, whenever that is.
    pub const AT_ONCE_MS: i64 = 0;

    /// An entry for the next look at the index.
    pub fn at_once(subject: DueSubject) -> Self {
        Self { at_ms: Self::AT_ONCE_MS, subject }
    }

    /// The time of an entry for `due_ms`: that, or a little later, and after `now_ms`. Times are as coarse as they are
    /// far away, so that entries of a subject that was often looked at become few.
    pub fn time(due_ms: i64, now_ms: i64) -> i64 {
        let due_ms = due_ms.max(now_ms.saturating_add(1)).max(1);
        let left_ms = due_ms.saturating_sub(now_ms);
        let step_ms = if left_ms >= DAY_MS {
            HOUR_MS
        } else if left_ms >= HOUR_MS {
            MINUTE_MS
        } else {
            SECOND_MS
        };
        due_ms.checked_add(step_ms - 1).map_or(i64::MAX, |end_ms| end_ms - end_ms % step_ms)
    }
}

/// The time is padded, so that the order of keys is that of times.
impl KeyPart for DueKey {
    fn write(&self, key: &mut String) {
        // Writing to a text never fails.
        let _ = write!(key, "/{:0TIME_DIGITS$}/{}", self.at_ms.max(0), self.subject.kind());
        match &self.subject {
            DueSubject::Partition(partition) | DueSubject::Cleaning(partition) => partition.write(key),
            DueSubject::Topic(name) | DueSubject::Offsets(name) => name.write(key),
            DueSubject::Producer(producer) => producer.write(key),
            DueSubject::DeletedTopic(id) => id.write(key),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (at_ms, rest) = text.strip_prefix('/')?.split_at_checked(TIME_DIGITS)?;
        let kind = rest.strip_prefix('/')?.split('/').next()?;
        let parts = rest.get(1 + kind.len()..)?;
        Some(DueKey { at_ms: at_ms.parse().ok()?, subject: DueSubject::read(kind, parts)? })
    }
}

/// An entry of the due index. All of it is in its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {}

/// By time and subject. It goes with the documents that decide about it.
impl DocumentKind for Due {
    const PREFIX: &'static str = "due";
    type Key = DueKey;

    fn lock_root(key: &DueKey) -> LockRoot {
        match &key.subject {
            DueSubject::Partition(partition) | DueSubject::Cleaning(partition) => {
                LockRoot::Partition(*partition)
            }
            DueSubject::Topic(name) => LockRoot::TopicName(Arc::clone(name)),
            DueSubject::Producer(producer) => LockRoot::Partition(producer.partition),
            DueSubject::Offsets(group) => LockRoot::Group(Arc::clone(group)),
            DueSubject::DeletedTopic(id) => LockRoot::TopicId(*id),
        }
    }
}

/// Says that the due index has all entries that it should, and that all groups with timeouts are listed. A store of an
/// earlier release has no such document until it was looked through once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueComplete {
    /// How long offsets were kept when the entries of groups were put, in ms. With a shorter time, all must be looked at.
    pub offsets_retention_ms: i64,
}

/// One per store.
impl DocumentKind for DueComplete {
    const PREFIX: &'static str = "due-complete";
    type Key = ();

    fn lock_root((): &()) -> LockRoot {
        LockRoot::Store
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Key;

    #[test]
    fn keys_are_in_the_order_of_time() {
        let key = |at_ms| Due::key(&DueKey { at_ms, subject: DueSubject::Topic(Arc::from("t")) });
        let keys = [DueKey::AT_ONCE_MS, 9, 10, 1_700_000_000_000, i64::MAX].map(key);
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(Due::parse_key(&keys[4]).unwrap().at_ms, i64::MAX);
        assert!(Due::prefix().matches(&keys[0]) && !Due::prefix().matches(&DueComplete::key(&())));
        for wrong in ["due/1/topic/t", "due/0000000000000000001/nothing/t", "due/0000000000000000001/topic"] {
            assert_eq!(Due::parse_key(&Key::from_text(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_is_never_early_and_as_coarse_as_it_is_far() {
        let now_ms = 1_700_000_000_123;
        for (from_now_ms, step_ms) in [
            (-5, SECOND_MS),
            (1, SECOND_MS),
            (59 * MINUTE_MS, SECOND_MS),
            (HOUR_MS, MINUTE_MS),
            (DAY_MS - 1, MINUTE_MS),
            (DAY_MS, HOUR_MS),
            (7 * DAY_MS, HOUR_MS),
        ] {
            let time = DueKey::time(now_ms + from_now_ms, now_ms);
            assert!(time > now_ms && time >= now_ms + from_now_ms, "{from_now_ms}");
            assert!(time < (now_ms + from_now_ms).max(now_ms + 1) + step_ms, "{from_now_ms}");
            assert_eq!(time % step_ms, 0, "{from_now_ms}");
        }
        assert_eq!(DueKey::time(i64::MAX - 5, now_ms), i64::MAX);
        assert_eq!(DueKey::time(i64::MAX, i64::MAX), i64::MAX);
    }
}
