//! The keys of what belongs to a transaction.

use std::fmt::Write as _;
use std::sync::Arc;

use kernel::{ProducerId, TopicPartition};

use super::key::{KeyPart, split_group, write_group, write_number};

/// Digits of an offset or a time in a key: as many as the greatest has.
pub(super) const PADDED_DIGITS: usize = 19;

/// Reads a slash and a padded number; returns what follows them.
pub(super) fn read_padded(text: &str) -> Option<(i64, &str)> {
    let (number, rest) = text.strip_prefix('/')?.split_at_checked(PADDED_DIGITS)?;
    let is_padded = number.bytes().all(|digit| digit.is_ascii_digit());
    Some((is_padded.then(|| number.parse().ok())??, rest))
}

/// A partition in a transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionPartitionKey {
    /// The transactional id.
    pub transaction: Arc<str>,
    /// The partition.
    pub partition: TopicPartition,
}

impl KeyPart for TransactionPartitionKey {
    fn write(&self, key: &mut String) {
        write_group(key, &self.transaction);
        self.partition.write(key);
    }

    fn read(text: &str) -> Option<Self> {
        let (transaction, rest) = split_group(text)?;
        let (topic, partition) = rest.split_once('/')?;
        let topic = topic.parse().ok().map(kernel::TopicId)?;
        let partition = TopicPartition { topic, partition: partition.parse().ok()? };
        Some(TransactionPartitionKey { transaction: Arc::from(transaction), partition })
    }
}

/// A group in a transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionGroupKey {
    /// The transactional id.
    pub transaction: Arc<str>,
    /// The group's id.
    pub group: Arc<str>,
}

impl KeyPart for TransactionGroupKey {
    fn write(&self, key: &mut String) {
        write_group(key, &self.transaction);
        self.group.write(key);
    }

    fn read(text: &str) -> Option<Self> {
        let (transaction, group) = split_group(text)?;
        Some(TransactionGroupKey { transaction: Arc::from(transaction), group: Arc::from(group) })
    }
}

/// An offset in a transaction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionOffsetKey {
    /// The transactional id.
    pub transaction: Arc<str>,
    /// The group's id.
    pub group: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl KeyPart for TransactionOffsetKey {
    fn write(&self, key: &mut String) {
        write_group(key, &self.transaction);
        write_group(key, &self.group);
        self.topic.write(key);
        write_number(key, self.partition);
    }

    fn read(text: &str) -> Option<Self> {
        let (length, rest) = text.strip_prefix('/')?.split_once('/')?;
        let (transaction, rest) = rest.split_at_checked(length.parse().ok()?)?;
        let (group, place) = split_group(rest)?;
        let (topic, partition) = place.rsplit_once('/')?;
        Some(TransactionOffsetKey {
            transaction: Arc::from(transaction),
            group: Arc::from(group),
            topic: Arc::from(topic),
            partition: partition.parse().ok()?,
        })
    }
}

/// An offset that a producer has committed in a transaction that is open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PendingOffsetKey {
    /// The group's id.
    pub group: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The producer's id.
    pub producer: ProducerId,
}

impl KeyPart for PendingOffsetKey {
    fn write(&self, key: &mut String) {
        write_group(key, &self.group);
        self.topic.write(key);
        write_number(key, self.partition);
        write_number(key, self.producer.0);
    }

    fn read(text: &str) -> Option<Self> {
        let (group, place) = split_group(text)?;
        let (place, producer) = place.rsplit_once('/')?;
        let (topic, partition) = place.rsplit_once('/')?;
        Some(PendingOffsetKey {
            group: Arc::from(group),
            topic: Arc::from(topic),
            partition: partition.parse().ok()?,
            producer: ProducerId(producer.parse().ok()?),
        })
    }
}

/// A transaction in the log of a partition, by an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTransactionKey {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of its first record if it is open, that of its marker if it was aborted.
    pub offset: i64,
    /// The producer's id.
    pub producer: ProducerId,
}

/// The offset is padded, so that the order of keys is that of offsets.
impl KeyPart for LogTransactionKey {
    fn write(&self, key: &mut String) {
        self.partition.write(key);
        // Writing to a text never fails.
        let _ = write!(key, "/{:0PADDED_DIGITS$}", self.offset.max(0));
        write_number(key, self.producer.0);
    }

    fn read(text: &str) -> Option<Self> {
        // Topic id, partition, offset, producer id: none of them contains a slash.
        let (rest, producer) = text.rsplit_once('/')?;
        let (partition, offset) = rest.split_at_checked(rest.rfind('/')?)?;
        let (offset, "") = read_padded(offset)? else { return None };
        let producer = ProducerId(producer.parse().ok()?);
        Some(LogTransactionKey { partition: TopicPartition::read(partition)?, offset, producer })
    }
}
