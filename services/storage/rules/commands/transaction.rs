//! Commands on transactions (KIP-98, KIP-447, KIP-890).

use std::sync::Arc;

use kernel::{ProducerId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::group::{CommittedOffset, MemberIdentity};

/// A producer: an id, and an epoch that fences those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdAndEpoch {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: i16,
}

/// A change to the transaction of one transactional id. Times are those of the wall clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionCommand {
    /// InitProducerId with a transactional id.
    Init(InitTransaction),
    /// AddPartitionsToTxn.
    AddPartitions {
        /// The producer.
        producer: ProducerIdAndEpoch,
        /// The partitions. One that does not exist any more is no error.
        partitions: Vec<TopicPartition>,
        /// The time, in ms.
        now_ms: i64,
    },
    /// AddOffsetsToTxn.
    AddGroup {
        /// The producer.
        producer: ProducerIdAndEpoch,
        /// The group whose offsets will be committed.
        group: Arc<str>,
        /// The time, in ms.
        now_ms: i64,
    },
    /// TxnOffsetCommit.
    CommitOffsets(Box<CommitTransactionOffsets>),
    /// EndTxn.
    End(EndTransaction),
    /// Aborts the transaction if it has timed out, or removes the id if it has expired; else says when to look again.
    Expire {
        /// The time of the entry that the id was found by, in ms; it is deleted.
        taken_ms: i64,
        /// The time, in ms.
        now_ms: i64,
        /// The leader epoch of this opening of the store.
        leader_epoch: i32,
    },
}

impl TransactionCommand {
    /// Bytes that the change holds until it is durable.
    pub fn bytes(&self) -> usize {
        match self {
            TransactionCommand::AddPartitions { partitions, .. } => 256 + 32 * partitions.len(),
            TransactionCommand::CommitOffsets(commit) => 256 * (1 + commit.offsets.len()),
            _ => 256,
        }
    }

    /// Documents that the change names itself.
    pub fn documents(&self) -> usize {
        match self {
            TransactionCommand::AddPartitions { partitions, .. } => partitions.len(),
            TransactionCommand::CommitOffsets(commit) => commit.offsets.len(),
            _ => 0,
        }
    }

    /// Whether the change may end an open transaction, and so change all that is in it. All others add something to one.
    pub fn may_end(&self) -> bool {
        match self {
            TransactionCommand::Init(_) | TransactionCommand::End(_) | TransactionCommand::Expire { .. } => {
                true
            }
            TransactionCommand::AddPartitions { .. }
            | TransactionCommand::AddGroup { .. }
            | TransactionCommand::CommitOffsets(_) => false,
        }
    }
}

/// InitProducerId with a transactional id: fences earlier producers, and aborts an open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitTransaction {
    /// Transaction timeout, already checked.
    pub timeout_ms: i32,
    /// The producer that asks for its next epoch (KIP-360); `None` for one that has just started.
    pub producer: Option<ProducerIdAndEpoch>,
    /// The transaction version of the client: 1 or 2.
    pub version: i16,
    /// A random number, from which a new store's first producer id is made.
    pub seed: u32,
    /// The time, in ms.
    pub now_ms: i64,
    /// The leader epoch of this opening of the store.
    pub leader_epoch: i32,
}

/// TxnOffsetCommit: offsets that are committed if the transaction is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitTransactionOffsets {
    /// The producer.
    pub producer: ProducerIdAndEpoch,
    /// The group.
    pub group: Arc<str>,
    /// The member of the group that has read the records (KIP-447); the default for a client that names none.
    pub member: MemberIdentity,
    /// An offset for each partition.
    pub offsets: Vec<CommittedOffset>,
    /// What to do if the group is not in the transaction.
    pub if_not_added: IfNotAdded,
    /// The time, in ms.
    pub now_ms: i64,
}

/// EndTxn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndTransaction {
    /// The producer.
    pub producer: ProducerIdAndEpoch,
    /// Whether the transaction is committed, not aborted.
    pub commit: bool,
    /// The transaction version of the client: 2 since EndTxn 5, when the producer gets its next epoch with the answer.
    pub version: i16,
    /// The time, in ms.
    pub now_ms: i64,
    /// The leader epoch of this opening of the store.
    pub leader_epoch: i32,
}

/// What happens to a write in a transaction that the partition, or the group, has not been added to. The client's version
/// decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IfNotAdded {
    /// It is added, and a transaction begins if none is open: Produce 12, TxnOffsetCommit 5 (KIP-890).
    Join,
    /// TRANSACTION_ABORTABLE: Produce 11, TxnOffsetCommit 4.
    RefuseAbortable,
    /// INVALID_TXN_STATE: versions before those.
    Refuse,
}

/// The transaction that a request appends in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionOfAppend {
    /// The transactional id.
    pub id: Arc<str>,
    /// What to do if the partition is not in the transaction.
    pub if_not_added: IfNotAdded,
}

/// WriteTxnMarkers of an operator: ends what a producer has left open in one partition, and no transactional id is in
/// charge of any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteMarker {
    /// The partition.
    pub partition: TopicPartition,
    /// The producer, with the epoch of the marker.
    pub producer: ProducerIdAndEpoch,
    /// Whether its records become committed, not aborted.
    pub commit: bool,
    /// The coordinator epoch of the marker.
    pub coordinator_epoch: i32,
    /// The time, in ms.
    pub now_ms: i64,
    /// The leader epoch of this opening of the store.
    pub leader_epoch: i32,
}
