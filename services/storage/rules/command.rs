//! What clients ask to change, and what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::budget::Lease;
use kernel::records::Batch;
use kernel::{ErrorCode, ProducerId, TopicId, TopicPartition};

use super::groups::{Beaten, GroupChange, Joined, LeftMember, Synced};

/// A change. Whatever depends on time or chance is in it already.
#[derive(Debug, Clone)]
pub enum Command {
    /// Makes a topic.
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
    /// Ends one life of a topic.
    DeleteTopic {
        /// The topic.
        id: TopicId,
    },
    /// Adds partitions.
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
    Append {
        /// Where.
        partition: TopicPartition,
        /// A batch that has been checked; its base offset does not matter yet.
        batch: Batch,
        /// When the broker took it.
        now_ms: i64,
        /// The request memory that the batch is a slice of.
        lease: Arc<Lease>,
    },
    /// Lets the log begin later: DeleteRecords and retention.
    AdvanceLogStart {
        /// Where.
        partition: TopicPartition,
        /// The first offset to keep; -1 for the end of the log.
        offset: i64,
    },
    /// Gives a producer its id.
    AllocateProducerId,
    /// Forgets an idle producer.
    ExpireProducer {
        /// Where.
        partition: TopicPartition,
        /// Who.
        producer: ProducerId,
        /// Only if it has not produced after this.
        unused_since_ms: i64,
    },
    /// Changes a consumer group.
    Group {
        /// Its id.
        group: Arc<str>,
        /// What to change.
        change: GroupChange,
    },
    /// Says what the command would come to, and changes nothing (`validate_only`).
    Check(Box<Command>),
}

impl Command {
    /// Bytes that the command holds until it is durable.
    pub fn bytes(&self) -> usize {
        match self {
            Command::Append { batch, .. } => batch.bytes().len(),
            Command::Group { change, .. } => change.bytes(),
            _ => 256,
        }
    }
}

/// How a topic's configs change.
#[derive(Debug, Clone)]
pub enum NewConfigs {
    /// AlterConfigs: these, and the defaults for all others.
    Replace(BTreeMap<String, String>),
    /// IncrementalAlterConfigs (KIP-339): one operation after the other.
    Incremental(Vec<(String, ConfigOperation)>),
}

/// An operation on one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOperation {
    /// To this value.
    Set(String),
    /// Back to the default.
    Delete,
    /// Adds to a list.
    Append(String),
    /// Takes from a list.
    Subtract(String),
}

/// A command done, with what its client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Nothing to tell.
    Changed,
    /// A topic, as it is now.
    Topic(Arc<super::TopicDocument>),
    /// A batch was appended, now or by an earlier try.
    Appended {
        /// The offset of its first record.
        base_offset: i64,
        /// Where the log begins.
        log_start: i64,
        /// Whether an earlier try had appended it.
        is_duplicate: bool,
    },
    /// Where the log begins now.
    LogStart(i64),
    /// A fresh producer.
    Producer(ProducerId),
    /// A member joined its group, or waits for it.
    Joined(Joined),
    /// A member's assignment, or that it must wait for it.
    Synced(Synced),
    /// What a member of the consumer protocol is told.
    Beaten(Beaten),
    /// What became of each member that was to leave.
    Left(Vec<LeftMember>),
    /// Why an offset was not deleted, for each.
    OffsetsDeleted(Vec<Option<ErrorCode>>),
}

/// Why a command was refused: an answer, not a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's error.
    pub error: ErrorCode,
    /// The client's sentence.
    pub message: String,
}

impl Refused {
    /// Refuses with this error and sentence.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

/// What becomes of a command.
pub type Outcome = Result<Done, Refused>;

/// What an engine must do to a log, in this order, together with the changed documents.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Store a batch.
    Append {
        /// Where.
        partition: TopicPartition,
        /// The partition's number in this store.
        number: u32,
        /// The offset of its first record.
        base_offset: i64,
        /// The leader epoch that it is stored with.
        leader_epoch: i32,
        /// The batch, with its base offset yet to be patched.
        batch: Batch,
        /// Held until it is stored.
        lease: Arc<Lease>,
    },
    /// Batches that end before this offset are garbage; the partition's bytes shrink by theirs.
    Trim {
        /// Where.
        partition: TopicPartition,
        /// The partition's number in this store.
        number: u32,
        /// Where the log began before.
        was: i64,
        /// The first offset to keep.
        log_start: i64,
    },
    /// All of the partition is garbage, its producers too.
    Drop {
        /// Where.
        partition: TopicPartition,
        /// The partition's number in this store.
        number: u32,
    },
}
