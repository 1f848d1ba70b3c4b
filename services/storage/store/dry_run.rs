//! Deciding a command of a group without committing it, for calls that mostly change nothing.
//!
//! Most heartbeats of the consumer protocol (KIP-848) change nothing; some are a step of a rebalance. Only
//! the rules can tell which, so they first decide the command on a snapshot. It is committed only if it
//! changes something, and is then decided again on the current documents.

use std::collections::BTreeSet;
use std::sync::Arc;

use rules::commands::{Applied, Command, GroupCommand};
use rules::documents::{Document, DocumentKind, GroupDocument};
use rules::{Loaded, Missing, WorkingSet, decide, needs};

use super::engine::Store;
use crate::engines::StoreError;

/// The documents of a group that a command needs, as they were read.
#[derive(Default)]
pub(crate) struct GroupSnapshot(Loaded);

/// The result of a dry run.
pub(crate) enum DryRun {
    /// The command changes nothing, and this is the result.
    Unchanged(Applied),
    /// The command lacks metadata of these topics.
    MissingTopics(BTreeSet<Arc<str>>),
    /// The command must be committed: it changes something, or might be refused.
    Changes,
}

impl GroupSnapshot {
    /// All documents of a kind.
    pub(crate) fn all<T: DocumentKind>(&self) -> impl Iterator<Item = &T> {
        self.0.documents().filter_map(Document::get::<T>)
    }

    /// Decides a command that needs what the snapshot was read for.
    pub(crate) fn decide(&self, command: &Command) -> DryRun {
        let mut set = WorkingSet::new(&self.0);
        let outcome = decide(&mut set, command);
        let (changes, effects) = set.into_changes();
        match outcome {
            Ok(Applied::MissingTopics(names)) => DryRun::MissingTopics(names),
            Ok(applied) if changes.is_empty() && effects.is_empty() => DryRun::Unchanged(applied),
            _ => DryRun::Changes,
        }
    }
}

impl Store {
    /// Decides a group command on the current state of the group. It reads only what the command needs.
    pub(crate) async fn dry_run(
        &self,
        group: &Arc<str>,
        command: &GroupCommand,
    ) -> Result<DryRun, StoreError> {
        let command = Command::Group { group: Arc::clone(group), command: command.clone() };
        let snapshot = self.group_snapshot(group, &command).await?;
        Ok(snapshot.map_or(DryRun::Changes, |snapshot| snapshot.decide(&command)))
    }

    /// Reads what a command of a group needs; `None` if the group has changed meanwhile.
    pub(crate) async fn group_snapshot(
        &self,
        group: &Arc<str>,
        command: &Command,
    ) -> Result<Option<GroupSnapshot>, StoreError> {
        let engine = self.engine().await?;
        let group_key = GroupDocument::key(group);
        let mut loaded = Loaded::default();
        loop {
            let missing = needs(command, &WorkingSet::new(&loaded)).into_missing();
            let Some(Missing { mut keys, scan, first }) = missing else {
                return Ok(Some(GroupSnapshot(loaded)));
            };
            for (prefix, count) in first {
                let found = engine.scan(prefix.clone(), None, count).await?;
                loaded.add_first(prefix, count, found);
            }
            for prefix in scan {
                let found = engine.scan(prefix.clone(), None, usize::MAX).await?;
                loaded.add_all(prefix, found);
            }
            // The group and the member are read at once. What they lead to is read with the group once more: if that has
            // changed meanwhile, they may not belong together.
            keys.push(group_key.clone());
            let before = loaded.get(&group_key).cloned();
            let found = engine.get(keys.clone()).await?;
            if before.is_some_and(|before| found.last() != Some(&before)) {
                return Ok(None);
            }
            keys.into_iter().zip(found).for_each(|(key, document)| loaded.add(key, document));
        }
    }
}
