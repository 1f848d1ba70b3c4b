//! All commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::append::Append;
use super::cleaning::{AwaitCleaning, Clean};
use super::configs::NewConfigs;
use super::due::{DueCommand, Retain};
use super::group::GroupCommand;
use super::node::NodeCommand;
use super::restore::{CopyCommand, Restore};
use super::transaction::{TransactionCommand, WriteMarker};
use crate::configs::group::GroupDefaults;
use crate::documents::ProducerKey;

/// A change to the store, as plain data. It carries the time and the random ids that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates a topic.
    CreateTopic {
        /// Its name, checked when it is decided.
        name: Arc<str>,
        /// Its new id.
        id: TopicId,
        /// How many partitions, from 1.
        partitions: i32,
        /// Its configs where they differ from the defaults.
        configs: BTreeMap<String, String>,
    },
    /// Deletes a topic.
    DeleteTopic {
        /// The topic.
        id: TopicId,
    },
    /// Adds partitions to a topic.
    CreatePartitions {
        /// The topic.
        name: Arc<str>,
        /// The new number of partitions.
        count: i32,
    },
    /// Changes a topic's configs.
    AlterConfigs {
        /// The topic.
        name: Arc<str>,
        /// What to change.
        configs: NewConfigs,
    },
    /// Changes a client metrics subscription (KIP-714).
    AlterClientMetrics {
        /// Its name.
        name: Arc<str>,
        /// What to change.
        configs: NewConfigs,
    },
    /// Changes the configs of a group.
    AlterGroupConfigs {
        /// Group id.
        group: Arc<str>,
        /// What to change.
        configs: NewConfigs,
        /// The settings of the broker.
        defaults: GroupDefaults,
    },
    /// Appends one record batch.
    Append(Append),
    /// Records that the store has used a leader epoch (KIP-320), before a partition is appended to with it.
    RecordEpoch {
        /// The epoch.
        epoch: i32,
    },
    /// Advances the log start offset: DeleteRecords.
    AdvanceLogStart {
        /// The partition.
        partition: TopicPartition,
        /// The new log start offset; -1 for the high watermark.
        offset: i64,
    },
    /// Applies retention to a partition.
    Retain(Retain),
    /// Deletes some of the aborted transactions of a partition whose records were deleted, if [`Command::Retain`] has left
    /// some.
    ForgetAborted {
        /// The partition.
        partition: TopicPartition,
    },
    /// Compaction replaces some batches of a partition.
    Clean(Clean),
    /// Compaction waits until more of a partition is dirty, or it is older.
    AwaitCleaning(AwaitCleaning),
    /// Allocates a producer id.
    AllocateProducerId {
        /// A random number, from which a new store's first id is made.
        seed: u32,
    },
    /// Removes the state of an idle producer; of one that has produced since, it says when to look again.
    ExpireProducer {
        /// The producer.
        producer: ProducerKey,
        /// The time of the entry of the due index that it was found by, in ms; it is deleted.
        taken_ms: Option<i64>,
        /// The time, in ms.
        now_ms: i64,
    },
    /// Changes the due index.
    Due(DueCommand),
    /// Changes a consumer group.
    Group {
        /// Group id.
        group: Arc<str>,
        /// What to change.
        command: GroupCommand,
    },
    /// Changes the transaction of a transactional id.
    Transaction {
        /// Transactional id.
        id: Arc<str>,
        /// What to change.
        command: TransactionCommand,
    },
    /// Changes the list of the store's brokers.
    Node(NodeCommand),
    /// Ends a hanging transaction in one partition.
    WriteMarker(WriteMarker),
    /// Puts what another store holds into a new one.
    Restore(Box<Restore>),
    /// Marks a store that is copied, or copied into.
    Copy(CopyCommand),
    /// Decides a command and changes nothing (`validate_only`).
    Check(Box<Command>),
}

impl Command {
    /// The transactional id that it is about, if any.
    pub fn transactional_id(&self) -> Option<&Arc<str>> {
        match self {
            Command::Transaction { id, .. } => Some(id),
            Command::Append(append) => append.transaction.as_ref().map(|transaction| &transaction.id),
            _ => None,
        }
    }

    /// Bytes that the command holds until it is durable.
    pub fn bytes(&self) -> usize {
        match self {
            Command::Append(append) => append.payload.0.len(),
            Command::Clean(clean) => clean.bytes(),
            Command::Restore(restore) => restore.bytes(),
            Command::Group { command, .. } => command.bytes(),
            Command::Transaction { command, .. } => command.bytes(),
            _ => 256,
        }
    }
}
