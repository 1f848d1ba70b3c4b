//! Transactions in the log of a partition: those that are open, and those that were aborted.

use std::fmt::Write as _;
use std::sync::Arc;

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::key::{Key, Prefix};
use super::kind::{DocumentKind, LockRoot};
use super::producer::ProducerDocument;
use super::transaction_keys::{LogTransactionKey, PADDED_DIGITS};

/// A transaction that has records in a partition, and no marker yet. The first one in the order of keys begins at the last
/// stable offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Its transactional id.
    pub transactional_id: Arc<str>,
    /// The epoch of the producer that began it.
    pub epoch: i16,
    /// When its first record was appended, in ms.
    pub started_ms: i64,
}

/// By partition, the offset of its first record, and producer id.
impl DocumentKind for OpenTransaction {
    const PREFIX: &'static str = "open-transaction";
    type Key = LogTransactionKey;

    fn lock_root(key: &LogTransactionKey) -> LockRoot {
        LockRoot::Partition(key.partition)
    }
}

impl OpenTransaction {
    /// All open transactions of a partition.
    pub fn of_partition(partition: TopicPartition) -> Prefix {
        Prefix::of_partition(Self::PREFIX, partition)
    }
}

/// A transaction of a partition that was aborted: readers of committed records skip its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedTransaction {
    /// The offset of its first record.
    pub first_offset: i64,
    /// The last stable offset after it was aborted: those that are aborted later end after that.
    pub last_stable: i64,
}

/// By partition, the offset of its marker, and producer id. It is deleted with the log that it is about, as are the open
/// ones: see [`deleted_with_log`].
impl DocumentKind for AbortedTransaction {
    const PREFIX: &'static str = "aborted-transaction";
    type Key = LogTransactionKey;

    fn lock_root(key: &LogTransactionKey) -> LockRoot {
        LockRoot::Partition(key.partition)
    }
}

impl AbortedTransaction {
    /// All aborted transactions of a partition.
    pub fn of_partition(partition: TopicPartition) -> Prefix {
        Prefix::of_partition(Self::PREFIX, partition)
    }

    /// Precedes the keys of those of a partition whose markers are at this offset or later, and of no others.
    pub fn before(partition: TopicPartition, offset: i64) -> Key {
        let mut text = Self::of_partition(partition).as_str().to_owned();
        // Writing to a text never fails.
        let _ = write!(text, "{:0PADDED_DIGITS$}/", offset.max(0));
        Key::from_text(&text)
    }
}

/// The keys of the documents that engines delete with the log of a partition, unread: its producers and transactions.
pub fn deleted_with_log(partition: TopicPartition) -> [Prefix; 3] {
    [
        ProducerDocument::of_partition(partition),
        OpenTransaction::of_partition(partition),
        AbortedTransaction::of_partition(partition),
    ]
}

/// The partition whose log a document is deleted with; `None` for one that is not.
pub fn log_of(key: &Key) -> Option<TopicPartition> {
    match key.kind() {
        ProducerDocument::PREFIX => ProducerDocument::parse_key(key).map(|key| key.partition),
        OpenTransaction::PREFIX => OpenTransaction::parse_key(key).map(|key| key.partition),
        AbortedTransaction::PREFIX => AbortedTransaction::parse_key(key).map(|key| key.partition),
        _ => None,
    }
}
