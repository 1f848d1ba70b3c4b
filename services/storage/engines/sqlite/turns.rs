//! What changes much takes turns with all others: the end of a transaction changes all that is in it, and whoever produces
//! meanwhile should wait for one of these, not for all that came before.
//!
//! Nobody has been answered yet whose commands wait here, so that the order of others does not matter to them. Only those on
//! the same transactional id keep their order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rules::commands::{Command, Outcome};
use rules::documents::{Document, DocumentKind, TransactionDocument};

use super::commit::Committer;
use super::state::Unfolded;
use super::writer::AnswerTo;
use crate::engines::Holds;

/// Documents that commands may change without waiting for their turn: some milliseconds of work.
const CHANGES_MAX: usize = 256;

/// Commands of one call, and where their outcomes go.
pub(super) struct Commit {
    pub(super) commands: Vec<Command>,
    pub(super) holds: Holds,
    pub(super) answer: AnswerTo<Vec<Outcome>>,
}

/// Those that wait for their turn.
#[derive(Default)]
pub(super) struct Turns {
    waiting: VecDeque<Commit>,
    /// How many of them are about a transactional id.
    ids: HashMap<Arc<str>, usize>,
}

impl Turns {
    /// Has a commit wait, if it changes much, or if another one on a transactional id of it waits; else returns it.
    pub(super) fn admit(&mut self, commit: Commit, committer: &Committer) -> Option<Commit> {
        let mut changes = 0_usize;
        let mut follows = false;
        for command in &commit.commands {
            follows |= command.transactional_id().is_some_and(|id| self.ids.contains_key(id));
            changes = changes.saturating_add(weight(command, committer));
        }
        if !follows && changes <= CHANGES_MAX {
            return Some(commit);
        }
        for id in ids(&commit) {
            *self.ids.entry(Arc::clone(id)).or_default() += 1;
        }
        self.waiting.push_back(commit);
        None
    }

    /// The one whose turn is next.
    pub(super) fn next(&mut self) -> Option<Commit> {
        let commit = self.waiting.pop_front()?;
        for id in ids(&commit) {
            if let Some(count) = self.ids.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    self.ids.remove(id);
                }
            }
        }
        Some(commit)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn ids(commit: &Commit) -> impl Iterator<Item = &Arc<str>> {
    commit.commands.iter().filter_map(Command::transactional_id)
}

/// About how many documents a command on a transaction changes.
fn weight(command: &Command, committer: &Committer) -> usize {
    let Command::Transaction { command: change, .. } = command else { return 0 };
    change.documents() + ended_by(command, &committer.shared.unfolded.read(), committer)
}

/// What a transaction has in it that a command may end. What cannot be read is found out when the command is decided.
pub(super) fn ended_by(command: &Command, unfolded: &Unfolded, committer: &Committer) -> usize {
    let Command::Transaction { id, command } = command else { return 0 };
    if !command.may_end() {
        return 0;
    }
    let key = TransactionDocument::key(id);
    // It is cached then, for the decision.
    let found = unfolded.document(&key).cloned().or_else(|| committer.stored(&key).ok()).flatten();
    let transaction = found.as_ref().and_then(Document::get::<TransactionDocument>);
    transaction.map_or(0, |transaction| transaction.contents.documents as usize)
}

#[cfg(test)]
mod tests {
    use kernel::{ErrorCode, TopicId, TopicPartition};
    use rules::commands::{Applied, EndTransaction, InitTransaction, ProducerIdAndEpoch, TransactionCommand};

    use super::*;
    use crate::engines::Engine;
    use crate::engines::model_tests::small_settings;
    use crate::engines::sqlite::Sqlite;

    fn of(id: &str, command: TransactionCommand) -> Vec<Command> {
        vec![Command::Transaction { id: Arc::from(id), command }]
    }

    fn init() -> TransactionCommand {
        let (timeout_ms, producer, version, seed, now_ms, leader_epoch) = (60_000, None, 2, 1, 1_000, 0);
        TransactionCommand::Init(InitTransaction {
            timeout_ms,
            producer,
            version,
            seed,
            now_ms,
            leader_epoch,
        })
    }

    async fn producer(engine: &Sqlite, id: &str) -> ProducerIdAndEpoch {
        match engine.commit(of(id, init()), Vec::new()).await.unwrap().remove(0) {
            Ok(Applied::TransactionalProducer(producer)) => producer,
            other => panic!("{other:?}"),
        }
    }

    fn add(producer: ProducerIdAndEpoch, topic: TopicId, partitions: i32) -> TransactionCommand {
        let partitions = (0..partitions).map(|index| TopicPartition { topic, partition: index }).collect();
        TransactionCommand::AddPartitions { producer, partitions, now_ms: 1_000 }
    }

    fn end(producer: ProducerIdAndEpoch) -> TransactionCommand {
        let (commit, version, now_ms, leader_epoch) = (true, 1, 1_000, 0);
        TransactionCommand::End(EndTransaction { producer, commit, version, now_ms, leader_epoch })
    }

    #[tokio::test]
    async fn commands_on_a_transactional_id_keep_their_order() {
        let folder = std::env::temp_dir().join(format!("yagura-turns-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let engine = Sqlite::open(&folder.join("y.db"), &small_settings()).unwrap();
        let topic = TopicId(uuid::Uuid::from_u128(7));
        let create = Command::CreateTopic {
            name: Arc::from("t"),
            id: topic,
            partitions: CHANGES_MAX as i32 + 1,
            configs: std::collections::BTreeMap::new(),
        };
        engine.commit(vec![create], Vec::new()).await.unwrap().remove(0).unwrap();
        let (large, other) = (producer(&engine, "large").await, producer(&engine, "other").await);
        // All are on their way before the first is answered.
        let sent = [
            of("large", add(large, topic, CHANGES_MAX as i32 + 1)),
            of("large", end(large)),
            of("other", add(other, topic, 1)),
            of("large", add(large, topic, 1)),
            of("large", init()),
            of("large", end(large)),
        ]
        .map(|commands| engine.commit(commands, Vec::new()));
        let mut outcomes = Vec::new();
        for answer in sent {
            outcomes.push(answer.await.unwrap().remove(0).map_err(|refused| refused.error));
        }
        let next = ProducerIdAndEpoch { epoch: large.epoch + 2, ..large };
        assert_eq!(
            outcomes,
            [
                Ok(Applied::Changed),
                Ok(Applied::TransactionEnded(large)),
                Ok(Applied::Changed),
                Ok(Applied::Changed),
                // It aborts what was added, and fences whoever did that.
                Ok(Applied::TransactionalProducer(next)),
                Err(ErrorCode::ProducerFenced),
            ]
        );
        engine.close().await.unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
