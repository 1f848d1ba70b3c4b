//! Deciding a change of a group without committing it, for calls that mostly change nothing.
//!
//! A heartbeat of the consumer protocol (KIP-848) is a question and an answer most of the time, and now and then a step
//! of a rebalance. Which of the two it is, only the rules can tell. So they decide it on what has just been read; only
//! if that changes something is it committed, and then decided again on what is there by then.

use std::collections::HashMap;
use std::sync::Arc;

use crate::engines::{Load, StoreError};
use crate::rules::groups::GroupChange;
use crate::rules::{Command, Document, Documents, Done, Key, Lookup, Needs, WorkingSet, decide, needs};
use crate::store::Store;

/// Documents that have been read, and which are known not to be there.
#[derive(Default)]
struct Snapshot(HashMap<Key, Option<Document>>);

impl Documents for Snapshot {
    fn lookup(&self, key: &Key) -> Lookup<'_> {
        self.0.get(key).map_or(Lookup::Unknown, |document| Lookup::Known(document.as_ref()))
    }
}

impl Store {
    /// What a change of a group comes to, if it changes nothing; `None` if it is to be committed, or might be refused.
    pub(crate) async fn try_without_commit(
        &self,
        group: &Arc<str>,
        change: &GroupChange,
    ) -> Result<Option<Done>, StoreError> {
        let engine = self.engine().await?;
        let mut snapshot = Snapshot::default();
        // The group and its members as they were at one moment.
        let found = engine.load(Load::Group(Arc::clone(group))).await?;
        snapshot.0.insert(Key::Group(Arc::clone(group)), None);
        snapshot.0.extend(found.into_iter().map(|(key, document)| (key, Some(document))));
        let command = Command::Group { group: Arc::clone(group), change: change.clone() };
        loop {
            let missing = needs(&command, &WorkingSet::new(&snapshot));
            let Needs::More(keys) = missing else { break };
            snapshot.0.extend(keys.iter().map(|key| (key.clone(), None)));
            let found = engine.load(Load::Keys(keys)).await?;
            snapshot.0.extend(found.into_iter().map(|(key, document)| (key, Some(document))));
        }
        let mut set = WorkingSet::new(&snapshot);
        let outcome = decide(&mut set, command);
        let (changes, effects) = set.into_changes();
        let changes_nothing = changes.is_empty() && effects.is_empty();
        Ok(outcome.ok().filter(|_| changes_nothing))
    }
}
