//! The outcome of a command.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::{ErrorCode, NodeId, ProducerId};

use super::group::{Joined, LeftMember, Synced};
use super::heartbeat::{Advance, HeartbeatReply};
use super::refused::Refused;
use super::transaction::ProducerIdAndEpoch;
use crate::documents::{NodeDocument, TopicDocument};

/// An applied command, with the data for its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// No data for the reply.
    Changed,
    /// A topic, as it is now.
    Topic(Arc<TopicDocument>),
    /// A batch was appended, now or by an earlier attempt.
    Appended {
        /// The offset of its first record.
        base_offset: i64,
        /// Log start offset.
        log_start: i64,
        /// Its greatest timestamp, in ms; with log append time, that of the append.
        max_timestamp: i64,
        /// Whether an earlier attempt had appended it.
        is_duplicate: bool,
    },
    /// The new log start offset.
    LogStart(i64),
    /// Retention was applied. Aborted transactions may be left whose records were deleted, if it says so: see
    /// [`Command::ForgetAborted`](super::Command::ForgetAborted).
    Retained {
        /// Whether some may be left.
        has_more: bool,
    },
    /// A new producer id.
    Producer(ProducerId),
    /// The answer to JoinGroup.
    Joined(Joined),
    /// The answer to SyncGroup.
    Synced(Synced),
    /// The answer to ConsumerGroupHeartbeat.
    Heartbeat(HeartbeatReply),
    /// The command was applied, and the target assignment of the group's epoch is due: once it is installed
    /// ([`InstallTarget`](super::InstallTarget)), this continues the call.
    TargetDue(Box<Advance>),
    /// The session timeouts of the members whose leases were renewed, in ms; of others it is not a member, or there is no
    /// such group.
    LeasesRenewed(BTreeMap<Arc<str>, i32>),
    /// The command lacks metadata of these topics. Nothing was changed; it must be sent again with them.
    MissingTopics(BTreeSet<Arc<str>>),
    /// The result for each leaving member.
    Left(Vec<LeftMember>),
    /// For each offset, why it was not deleted, if so.
    OffsetsDeleted(Vec<Option<ErrorCode>>),
    /// Whether the producer has expired.
    ProducerExpired(bool),
    /// When the next offset of the group may expire, in ms; `None` if none can before it is in use again.
    NextExpiry(Option<i64>),
    /// The producer of a transactional id, from now on.
    TransactionalProducer(ProducerIdAndEpoch),
    /// The transaction was ended, now or by an earlier attempt. The producer goes on with this id and epoch.
    TransactionEnded(ProducerIdAndEpoch),
    /// What was done to a transactional id whose time had come.
    TransactionExpired(Expired),
    /// Whether batches were replaced; not if the log is not as the cleaner has read it.
    Cleaned(bool),
    /// The brokers whose leases last.
    Nodes {
        /// The one that has renewed its own.
        own: NodeId,
        /// All of them, in the order of ids.
        live: Vec<(NodeId, Arc<NodeDocument>)>,
        /// The level of the store.
        level: u32,
    },
    /// Whether a marker was written: only then was something left open.
    MarkerWritten(bool),
}

/// What was done to a transactional id whose time had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// Nothing: it has been in use since.
    Nothing,
    /// Its transaction had timed out, and was aborted.
    Transaction,
    /// It had not been in use for long, and was removed.
    Id,
}

/// The outcome of a command.
pub type Outcome = Result<Applied, Refused>;
