//! Commits that meet damage in the file: what needs it is refused, all else is committed.
//!
//! Many commands share a transaction, and a page that cannot be read fails the whole of it. Then each half is committed by
//! itself, in the order of the commands, and so on down to the single commands that cannot be: one damaged group costs a few
//! more transactions, and stops nobody else.

use kernel::{ErrorCode, NodeId};
use rules::commands::{Command, Outcome, Refused};
use rules::documents::{
    CopyMark, Counters, DocumentKind, DueComplete, GroupConfigs, GroupDocument, NodeDocument, Subscription,
    TopicDocument, TopicName, TransactionDocument,
};

use super::commit::Committer;
use super::damage::Part;
use super::schema::is_about_damage;
use crate::engines::StoreError;

impl Committer {
    /// Commits commands of which at least one cannot be: it has failed for all of them together.
    pub(super) fn commit_apart(&mut self, commands: &[Command], failure: &StoreError) -> Vec<Outcome> {
        if let [command] = commands {
            self.shared.damage.note(&part_of(command), failure);
            return vec![Err(refusal(command, failure))];
        }
        let (first, second) = commands.split_at(commands.len() / 2);
        let mut outcomes = Vec::with_capacity(commands.len());
        for mut half in [first, second] {
            while !half.is_empty() {
                let done = match self.commit_together(half) {
                    Ok(done) => done,
                    Err(failure) if is_about_damage(&failure) => self.commit_apart(half, &failure),
                    // What was committed before stays, so that the others must fail one by one.
                    Err(failure) => half.iter().map(|command| Err(refusal(command, &failure))).collect(),
                };
                half = &half[done.len()..];
                outcomes.extend(done);
            }
        }
        outcomes
    }
}

/// As the APIs answer if the store fails: clients of a coordinator treat a storage error as fatal.
pub(super) fn refusal(command: &Command, failure: &StoreError) -> Refused {
    let error = match command {
        Command::Group { .. } | Command::Transaction { .. } => ErrorCode::CoordinatorNotAvailable,
        _ => ErrorCode::KafkaStorageError,
    };
    Refused::new(error, failure.0.clone())
}

/// What of the store a command is for.
fn part_of(command: &Command) -> Part {
    match command {
        Command::Append(append) => Part::Partition(append.partition),
        Command::AdvanceLogStart { partition, .. } => Part::Partition(*partition),
        Command::Retain(retain) => Part::Partition(retain.partition),
        Command::ForgetAborted { partition } => Part::Partition(*partition),
        Command::Clean(clean) => Part::Partition(clean.partition),
        Command::AwaitCleaning(wait) => Part::Partition(wait.partition),
        Command::ExpireProducer { producer, .. } => Part::Partition(producer.partition),
        Command::CreateTopic { name, .. }
        | Command::CreatePartitions { name, .. }
        | Command::AlterConfigs { name, .. } => Part::Document(TopicDocument::key(name)),
        Command::DeleteTopic { id } => Part::Document(TopicName::key(id)),
        Command::AlterClientMetrics { name, .. } => Part::Document(Subscription::key(name)),
        Command::AlterGroupConfigs { group, .. } => Part::Document(GroupConfigs::key(group)),
        Command::Group { group, .. } => Part::Document(GroupDocument::key(group)),
        Command::Transaction { id, .. } => Part::Document(TransactionDocument::key(id)),
        Command::WriteMarker(marker) => Part::Partition(marker.partition),
        Command::AllocateProducerId { .. } | Command::RecordEpoch { .. } => {
            Part::Document(Counters::key(&()))
        }
        Command::Node(_) => Part::Document(NodeDocument::key(&NodeId(0))),
        Command::Restore(_) | Command::Copy(_) => Part::Document(CopyMark::key(&())),
        Command::Due(_) => Part::Document(DueComplete::key(&())),
        Command::Check(inner) => part_of(inner),
    }
}
