//! Deciding a command of a group without committing it, for calls that mostly change nothing.
//!
//! Most heartbeats of the consumer protocol (KIP-848) change nothing; some are a step of a rebalance. Only
//! the rules can tell which, so they first decide the command on a snapshot. It is committed only if it
//! changes something, and is then decided again on the current documents.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rules::commands::{Applied, Command, GroupCommand};
use rules::documents::{Document, DocumentKind, GroupDocument, Key, MemberDocument, MemberKey, Prefix};
use rules::groups::missing_topics;
use rules::{Documents, Lookup, WorkingSet, decide, needs};

use super::engine::Store;
use crate::engines::StoreError;

/// Documents that have been read; `None` for those that do not exist.
#[derive(Default)]
struct Snapshot {
    documents: HashMap<Key, Option<Document>>,
    scanned: HashMap<Prefix, Vec<Key>>,
}

impl Documents for Snapshot {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        self.documents.get(key).map_or(Lookup::Unknown, |document| Lookup::Known(document.as_ref()))
    }

    fn keys(&self, prefix: &Prefix) -> Option<Vec<Key>> {
        self.scanned.get(prefix).cloned()
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

impl Store {
    /// Decides a group command on the current state of the group.
    pub(crate) async fn dry_run(
        &self,
        group: &Arc<str>,
        command: &GroupCommand,
    ) -> Result<DryRun, StoreError> {
        let engine = self.engine().await?;
        let mut snapshot = Snapshot::default();
        // The group and its members, from one snapshot.
        let view = self.group(group).await?;
        let document = view.as_ref().map(|view| Document::new::<GroupDocument>(Arc::clone(&view.group)));
        snapshot.documents.insert(GroupDocument::key(group), document);
        for (id, member) in view.into_iter().flat_map(|view| view.members) {
            let key = MemberDocument::key(&MemberKey { group: Arc::clone(group), member: id });
            snapshot.documents.insert(key, Some(Document::new::<MemberDocument>(member)));
        }
        let missing = missing_topics(group, command, &WorkingSet::new(&snapshot));
        if !missing.is_empty() {
            return Ok(DryRun::MissingTopics(missing));
        }
        let command = Command::Group { group: Arc::clone(group), command: command.clone() };
        loop {
            let missing = needs(&command, &WorkingSet::new(&snapshot)).into_missing();
            let Some((keys, prefixes)) = missing else { break };
            let found = engine.get(keys.clone()).await?;
            snapshot.documents.extend(keys.into_iter().zip(found));
            for prefix in prefixes {
                let found = engine.scan(prefix.clone(), None, usize::MAX).await?;
                snapshot.scanned.insert(prefix, found.iter().map(|(key, _)| key.clone()).collect());
                snapshot.documents.extend(found.into_iter().map(|(key, document)| (key, Some(document))));
            }
        }
        let mut set = WorkingSet::new(&snapshot);
        let outcome = decide(&mut set, &command);
        let (changes, effects) = set.into_changes();
        Ok(match outcome {
            Ok(applied) if changes.is_empty() && effects.is_empty() => DryRun::Unchanged(applied),
            _ => DryRun::Changes,
        })
    }
}
