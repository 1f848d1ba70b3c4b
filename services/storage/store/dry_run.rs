//! Deciding a command of a group without committing it, for calls that mostly change nothing.
//!
//! Most heartbeats of the consumer protocol (KIP-848) change nothing; some are a step of a rebalance. Only
//! the rules can tell which, so they first decide the command on a snapshot. It is committed only if it
//! changes something, and is then decided again on the current documents.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rules::commands::{Applied, Command, GroupCommand};
use rules::documents::{Document, DocumentKind, GroupDocument, Key, Prefix};
use rules::{Documents, FirstKeys, Lookup, Missing, WorkingSet, decide, needs};

use super::engine::Store;
use crate::engines::StoreError;

/// The documents of a group that a command needs, as they were read; `None` for those that do not exist.
#[derive(Default)]
pub(crate) struct GroupSnapshot {
    documents: HashMap<Key, Option<Document>>,
    scanned: HashMap<Prefix, Vec<Key>>,
    first: HashMap<Prefix, FirstKeys>,
}

impl Documents for GroupSnapshot {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        self.documents.get(key).map_or(Lookup::Unknown, |document| Lookup::Known(document.as_ref()))
    }

    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        self.scanned.get(prefix).cloned()
    }

    fn first(&self, prefix: &Prefix, count: usize) -> Option<Vec<Key>> {
        self.first.get(prefix)?.first(count)
    }
}

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
        self.documents.values().flatten().filter_map(Document::get::<T>)
    }

    /// Decides a command that needs what the snapshot was read for.
    pub(crate) fn decide(&self, command: &Command) -> DryRun {
        let mut set = WorkingSet::new(self);
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
        let mut snapshot = GroupSnapshot::default();
        loop {
            let missing = needs(command, &WorkingSet::new(&snapshot)).into_missing();
            let Some(Missing { mut keys, scan, first }) = missing else { return Ok(Some(snapshot)) };
            for (prefix, count) in first {
                let found = engine.scan(prefix.clone(), None, count).await?;
                let keys = found.iter().map(|(key, _)| key.clone()).collect();
                snapshot.first.insert(prefix, FirstKeys { keys, count });
                snapshot.documents.extend(found.into_iter().map(|(key, document)| (key, Some(document))));
            }
            for prefix in scan {
                let found = engine.scan(prefix.clone(), None, usize::MAX).await?;
                snapshot.scanned.insert(prefix, found.iter().map(|(key, _)| key.clone()).collect());
                snapshot.documents.extend(found.into_iter().map(|(key, document)| (key, Some(document))));
            }
            // The group and the member are read at once. What they lead to is read with the group once more: if that has
            // changed meanwhile, they may not belong together.
            keys.push(group_key.clone());
            let before = snapshot.documents.get(&group_key).cloned();
            let found = engine.get(keys.clone()).await?;
            if before.is_some_and(|before| found.last() != Some(&before)) {
                return Ok(None);
            }
            snapshot.documents.extend(keys.into_iter().zip(found));
        }
    }
}
