//! The one list of commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{ProducerId, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::append::Append;
use super::configs::NewConfigs;
use super::group::GroupCommand;

/// A change. It is data: what depends on time or chance is in it already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates a topic.
    CreateTopic {
        /// Its name, checked when it is decided.
        name: Arc<str>,
        /// Its id, fresh.
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
        /// How many it shall have in all.
        count: i32,
    },
    /// Changes a topic's configs.
    AlterConfigs {
        /// The topic.
        name: Arc<str>,
        /// What to change.
        configs: NewConfigs,
    },
    /// Changes a subscription to clients' metrics.
    AlterClientMetrics {
        /// Its name.
        name: Arc<str>,
        /// What to change.
        configs: NewConfigs,
    },
    /// Appends one record batch.
    Append(Append),
    /// Moves the start of a log forward: DeleteRecords and retention.
    AdvanceLogStart {
        /// The partition.
        partition: TopicPartition,
        /// The first offset to keep; -1 for the end of the log.
        offset: i64,
    },
    /// Gives out a producer id.
    AllocateProducerId,
    /// Forgets an idle producer.
    ExpireProducer {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        producer: ProducerId,
        /// Only if it has not produced after this, in ms.
        unused_since_ms: i64,
    },
    /// Changes a consumer group.
    Group {
        /// Group id.
        group: Arc<str>,
        /// What to change.
        command: GroupCommand,
    },
    /// Decides a command and changes nothing (`validate_only`).
    Check(Box<Command>),
}

impl Command {
    /// Bytes that the command holds until it is durable.
    pub fn bytes(&self) -> usize {
        match self {
            Command::Append(append) => append.payload.0.len(),
            Command::Group { command, .. } => command.bytes(),
            _ => 256,
        }
    }
}
