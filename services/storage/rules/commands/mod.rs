//! Commands, their outcomes and their effects on logs: plain data that can be serialized.

mod append;
mod cleaning;
mod command;
mod configs;
mod due;
mod effect;
mod group;
mod heartbeat;
mod known_topics;
mod node;
mod outcome;
mod refused;
mod restore;
mod target;
#[cfg(test)]
mod tests;
mod transaction;

pub use append::{Append, BatchFacts, Payload};
pub use cleaning::{AwaitCleaning, Clean, CleanedBatch, CleanedRun};
pub use command::Command;
pub use configs::{ConfigOperation, NewConfigs};
pub use due::{DueCommand, Retain};
pub use effect::Effect;
pub use group::{CommittedOffset, GroupCommand, Join, Joined, LeftMember, MemberIdentity, Sync, Synced};
pub use heartbeat::{
    Advance, ConsumerHeartbeat, ConsumerLeave, HeartbeatReply, JOIN_EPOCH, LEAVE_STATIC_EPOCH, ResolvedRegex,
};
pub use known_topics::KnownTopics;
pub use node::{NodeCommand, RenewNode};
pub use outcome::{Applied, Expired, Outcome};
pub use refused::Refused;
pub use restore::{CopyCommand, Restore, RestoredBatch, RestoredLog};
pub use target::InstallTarget;
pub use transaction::{
    CommitTransactionOffsets, EndTransaction, IfNotAdded, InitTransaction, ProducerIdAndEpoch,
    TransactionCommand, TransactionOfAppend, WriteMarker,
};
