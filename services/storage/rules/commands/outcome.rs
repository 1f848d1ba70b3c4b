//! What becomes of a command.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{ErrorCode, ProducerId};

use super::group::{Joined, LeftMember, Synced};
use super::heartbeat::HeartbeatReply;
use super::refused::Refused;
use crate::documents::TopicDocument;

/// A command that was applied, with what its client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Nothing to tell.
    Changed,
    /// A topic, as it is now.
    Topic(Arc<TopicDocument>),
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
    /// A new producer id.
    Producer(ProducerId),
    /// The answer to JoinGroup.
    Joined(Joined),
    /// The answer to SyncGroup.
    Synced(Synced),
    /// The answer to ConsumerGroupHeartbeat.
    Heartbeat(HeartbeatReply),
    /// Facts about these topics are missing: nothing was changed, and the command is to come again with them.
    MissingTopics(BTreeSet<Arc<str>>),
    /// The answer for each member that was to leave.
    Left(Vec<LeftMember>),
    /// Why an offset was not deleted, for each.
    OffsetsDeleted(Vec<Option<ErrorCode>>),
}

/// What becomes of a command.
pub type Outcome = Result<Applied, Refused>;
