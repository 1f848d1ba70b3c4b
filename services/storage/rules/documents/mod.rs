//! The documents that a store keeps: a file per subject, a declaration per kind.
//!
//! A new kind is declared beside its value, in a file of its own; here it gets its `mod` and its line in [`KINDS`].

mod assigned;
mod client_metrics;
mod consumer;
mod copy_mark;
mod due;
mod epochs;
mod group;
mod group_configs;
mod group_topics;
mod instance;
mod key;
mod kind;
mod level;
mod live_group;
mod log_transaction;
#[cfg(feature = "next-level")]
mod next_level;
mod node;
mod offset;
mod partition;
mod pending_offset;
mod producer;
mod store_level;
mod tally;
mod topic;
mod transaction;
mod transaction_keys;

pub use assigned::AssignedPartition;
pub use client_metrics::Subscription;
pub use consumer::{
    ASSIGNORS, ConsumerGroup, ConsumerMember, MemberState, Partitions, SubscribedTopic, each, holds,
};
pub use copy_mark::CopyMark;
pub use due::{Due, DueComplete, DueKey, DueSubject};
pub use epochs::EpochHistory;
pub use group::{
    Blob, Deadline, GroupDocument, GroupState, InitialDelay, MemberDocument, MemberProtocol, PendingDocument,
    PendingIds,
};
pub use group_configs::GroupConfigs;
pub use group_topics::GroupTopics;
pub use instance::InstanceDocument;
pub use key::{AssignedKey, InstanceKey, Key, KeyPart, MemberKey, OffsetKey, Prefix, ProducerKey};
pub use kind::{AnyKind, Document, DocumentKind, LockRoot, ReadError};
pub use level::{FIRST_LEVEL, LEVEL, LEVEL_BEFORE};
pub use live_group::LiveGroup;
pub use log_transaction::{AbortedTransaction, OpenTransaction, deleted_with_log, log_of};
pub use node::{NodeAddress, NodeDocument, NodeFacts};
pub use offset::OffsetDocument;
pub use partition::{LogCleaning, PartitionDocument};
pub use pending_offset::PendingOffset;
pub use producer::{Counters, ProducedBatch, ProducerDocument};
pub use store_level::{StoreLevel, WrongLevel};
pub use tally::Tally;
pub use topic::{TopicCollision, TopicDocument, TopicName};
pub use transaction::{
    Contents, TransactionDocument, TransactionDue, TransactionDueKey, TransactionGroup, TransactionOffset,
    TransactionPartition, TransactionState,
};
pub use transaction_keys::{
    LogTransactionKey, PendingOffsetKey, TransactionGroupKey, TransactionOffsetKey, TransactionPartitionKey,
};

/// All kinds of documents.
pub static KINDS: [AnyKind; 30] = [
    AnyKind::of::<Counters>(),
    AnyKind::of::<TopicDocument>(),
    AnyKind::of::<TopicName>(),
    AnyKind::of::<TopicCollision>(),
    AnyKind::of::<PartitionDocument>(),
    AnyKind::of::<EpochHistory>(),
    AnyKind::of::<ProducerDocument>(),
    AnyKind::of::<OpenTransaction>(),
    AnyKind::of::<AbortedTransaction>(),
    AnyKind::of::<TransactionDocument>(),
    AnyKind::of::<TransactionPartition>(),
    AnyKind::of::<TransactionGroup>(),
    AnyKind::of::<TransactionOffset>(),
    AnyKind::of::<TransactionDue>(),
    AnyKind::of::<Subscription>(),
    AnyKind::of::<GroupDocument>(),
    AnyKind::of::<GroupTopics>(),
    AnyKind::of::<GroupConfigs>(),
    AnyKind::of::<MemberDocument>(),
    AnyKind::of::<InstanceDocument>(),
    AnyKind::of::<AssignedPartition>(),
    AnyKind::of::<PendingDocument>(),
    AnyKind::of::<OffsetDocument>(),
    AnyKind::of::<PendingOffset>(),
    AnyKind::of::<LiveGroup>(),
    AnyKind::of::<Due>(),
    AnyKind::of::<DueComplete>(),
    AnyKind::of::<NodeDocument>(),
    AnyKind::of::<StoreLevel>(),
    AnyKind::of::<CopyMark>(),
];

fn kind_of(key: &Key) -> Option<&'static AnyKind> {
    let prefix = key.kind();
    KINDS.iter().find(|kind| kind.prefix() == prefix)
}

/// Reads the document of a key, whatever its kind.
///
/// # Errors
/// No kind has such a key, or the text is not such a document.
pub fn read(key: &Key, text: &str) -> Result<Document, ReadError> {
    kind_of(key).and_then(|kind| kind.read(key, text)).unwrap_or(Err(ReadError::UnknownKind))
}

/// The lock that covers a document; `None` if no kind has such a key.
pub fn lock_root(key: &Key) -> Option<LockRoot> {
    kind_of(key)?.lock_root(key)
}

#[cfg(test)]
mod tests;
