//! Transactions (KIP-98, KIP-360, KIP-890): the state of a transactional id, and what its open transaction has in it.

use std::fmt::Write as _;
use std::sync::Arc;

use kernel::ProducerId;
use serde::{Deserialize, Serialize};

use super::key::{KeyPart, Prefix};
use super::kind::{DocumentKind, LockRoot};
use super::offset::OffsetDocument;
use super::transaction_keys::{
    PADDED_DIGITS, TransactionGroupKey, TransactionOffsetKey, TransactionPartitionKey, read_padded,
};

/// The state of a transactional id. Kafka has more: there, the states between are seen while markers are written. Here a
/// transaction ends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionState {
    /// Its producer was initialized, and no transaction has begun since.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// The last transaction was committed.
    CompleteCommit,
    /// The last transaction was aborted.
    CompleteAbort,
}

impl TransactionState {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            TransactionState::Empty => "Empty",
            TransactionState::Ongoing => "Ongoing",
            TransactionState::CompleteCommit => "CompleteCommit",
            TransactionState::CompleteAbort => "CompleteAbort",
        }
    }
}

/// How much a transaction has in it: what its end has to change at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Contents {
    /// Its partitions, groups and offsets.
    pub documents: u32,
    /// Bytes of names and of metadata in these.
    pub bytes: u32,
}

impl Contents {
    /// The most that a transaction may have in it, so that its end always fits into one commit.
    pub const MAX: Self = Self { documents: 10_000, bytes: 4 << 20 };

    /// One document with so many bytes.
    pub fn one(bytes: usize) -> Self {
        Self { documents: 1, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            documents: self.documents.saturating_add(other.documents),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What is left if so many bytes go.
    pub fn less(self, bytes: usize) -> Self {
        Self { bytes: self.bytes.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX)), ..self }
    }

    /// Whether a transaction may have so much in it.
    pub fn fits(self) -> bool {
        self.documents <= Self::MAX.documents && self.bytes <= Self::MAX.bytes
    }

    /// Whether there is nothing.
    // serde hands a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A transactional id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionDocument {
    /// Its producer id.
    pub producer_id: ProducerId,
    /// The epoch of its current producer.
    pub epoch: i16,
    /// The epoch before, if the same producer had it: a call with it may be a repeated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_epoch: Option<i16>,
    /// The producer id before, if the last change was that its epochs were exhausted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_id: Option<ProducerId>,
    /// Transaction timeout.
    pub timeout_ms: i32,
    /// Its state.
    pub state: TransactionState,
    /// The transaction version of its client: 1, or 2 (KIP-890).
    pub version: i16,
    /// When its transaction began, in ms: the open one, or the last one. `None` after an initialization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<i64>,
    /// When it last changed, in ms.
    pub updated_ms: i64,
    /// Partitions, groups and offsets in its open transaction.
    #[serde(default, skip_serializing_if = "Contents::is_empty")]
    pub contents: Contents,
    /// The time of its [`TransactionDue`], in ms. It has exactly one.
    pub look_ms: i64,
}

impl TransactionDocument {
    /// Kafka's `transactional.id.expiration.ms`: an id that was idle for seven days is removed.
    pub const EXPIRY_MS: i64 = 604_800_000;

    /// The last epoch that a producer gets. The one after it is kept for markers, so that it can always be fenced.
    pub const EPOCH_MAX: i16 = i16::MAX - 1;

    /// When its open transaction times out, or when the id expires, in ms.
    pub fn due_ms(&self) -> i64 {
        match self.open_since_ms() {
            Some(started_ms) => started_ms.saturating_add(i64::from(self.timeout_ms)),
            None => self.updated_ms.saturating_add(Self::EXPIRY_MS),
        }
    }

    /// When its open transaction began, in ms, if one is open.
    pub fn open_since_ms(&self) -> Option<i64> {
        self.started_ms.filter(|_| self.is_ongoing())
    }

    /// Whether a transaction is open.
    pub fn is_ongoing(&self) -> bool {
        self.state == TransactionState::Ongoing
    }

    /// Whether no later epoch can be given to a producer.
    pub fn is_exhausted(&self) -> bool {
        self.epoch >= Self::EPOCH_MAX
    }
}

/// By transactional id.
impl DocumentKind for TransactionDocument {
    const PREFIX: &'static str = "transaction";
    type Key = Arc<str>;

    fn lock_root(id: &Arc<str>) -> LockRoot {
        LockRoot::Transaction(Arc::clone(id))
    }
}

/// A partition in an open transaction. All of it is in its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionPartition {}

/// By transactional id and partition.
impl DocumentKind for TransactionPartition {
    const PREFIX: &'static str = "transaction-partition";
    type Key = TransactionPartitionKey;

    fn lock_root(key: &TransactionPartitionKey) -> LockRoot {
        LockRoot::Transaction(Arc::clone(&key.transaction))
    }
}

impl TransactionPartition {
    /// All partitions in the transaction of an id.
    pub fn of_transaction(id: &str) -> Prefix {
        Prefix::of_group(Self::PREFIX, id)
    }
}

/// A group in an open transaction. All of it is in its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionGroup {}

/// By transactional id and group.
impl DocumentKind for TransactionGroup {
    const PREFIX: &'static str = "transaction-group";
    type Key = TransactionGroupKey;

    fn lock_root(key: &TransactionGroupKey) -> LockRoot {
        LockRoot::Transaction(Arc::clone(&key.transaction))
    }
}

impl TransactionGroup {
    /// All groups in the transaction of an id.
    pub fn of_transaction(id: &str) -> Prefix {
        Prefix::of_group(Self::PREFIX, id)
    }
}

/// An offset that is committed with its transaction, if that is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TransactionOffset(pub OffsetDocument);

/// By transactional id, group, topic and partition.
impl DocumentKind for TransactionOffset {
    const PREFIX: &'static str = "transaction-offset";
    type Key = TransactionOffsetKey;
    // It has the fields of a committed offset.
    #[cfg(feature = "next-level")]
    super::next_level::renames!("offset" => "next");

    fn lock_root(key: &TransactionOffsetKey) -> LockRoot {
        LockRoot::Transaction(Arc::clone(&key.transaction))
    }
}

impl TransactionOffset {
    /// All offsets in the transaction of an id.
    pub fn of_transaction(id: &str) -> Prefix {
        Prefix::of_group(Self::PREFIX, id)
    }
}

/// Says when a transactional id is to be looked at: its transaction may have timed out, or it may have expired. All of
/// it is in its key.
///
/// It is an index of its own, not part of [`Due`](super::Due): a timeout must not wait for retention, which is applied
/// every few minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionDue {}

/// A time and the transactional id that is to be looked at then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionDueKey {
    /// The time in ms, not negative.
    pub at_ms: i64,
    /// The transactional id.
    pub transaction: Arc<str>,
}

/// The time is padded, so that the order of keys is that of times.
impl KeyPart for TransactionDueKey {
    fn write(&self, key: &mut String) {
        // Writing to a text never fails.
        let _ = write!(key, "/{:0PADDED_DIGITS$}", self.at_ms.max(0));
        self.transaction.write(key);
    }

    fn read(text: &str) -> Option<Self> {
        let (at_ms, rest) = read_padded(text)?;
        Some(TransactionDueKey { at_ms, transaction: KeyPart::read(rest)? })
    }
}

/// By time and transactional id.
impl DocumentKind for TransactionDue {
    const PREFIX: &'static str = "transaction-due";
    type Key = TransactionDueKey;

    fn lock_root(key: &TransactionDueKey) -> LockRoot {
        LockRoot::Transaction(Arc::clone(&key.transaction))
    }
}
