//! Pending member ids of a group (KIP-394).
//!
//! Each is a document of its own, and the group only counts them: a client that asks for ids again and again makes no
//! list longer that is written each time. A command loads those that it names; only timeouts, and the end of the group,
//! look at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lookups::Lookups;
use crate::documents::{Document, DocumentKind, GroupDocument, MemberKey, PendingDocument, PendingIds};
use crate::working_set::{Changes, WorkingSet};

/// The pending ids that a command looks at.
#[derive(Default)]
pub(super) struct Pending(BTreeMap<Arc<str>, Known>);

/// When an id expires, as stored and as it is to be stored.
struct Known {
    stored: Option<i64>,
    until_ms: Option<i64>,
}

fn key(group: &Arc<str>, member: &Arc<str>) -> MemberKey {
    MemberKey { group: Arc::clone(group), member: Arc::clone(member) }
}

impl Pending {
    /// Loads an id, if it is pending.
    pub(super) fn load(&mut self, lookups: Lookups<'_>, group: &Arc<str>, id: &Arc<str>) {
        if self.0.contains_key(id) {
            return;
        }
        let stored = lookups.get::<PendingDocument>(&key(group, id)).map(|pending| pending.until_ms);
        if stored.is_some() {
            self.0.insert(Arc::clone(id), Known { stored, until_ms: stored });
        }
    }

    /// Loads all ids of a group.
    pub(super) fn load_all(&mut self, lookups: Lookups<'_>, group: &Arc<str>) {
        let keys = lookups.keys::<PendingDocument>(PendingDocument::of_group(group)).unwrap_or_default();
        keys.iter().for_each(|key| self.load(lookups, group, &key.member));
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|known| known.until_ms.is_some())
    }

    /// Those that have expired.
    pub(super) fn expired(&self, now_ms: i64) -> Vec<Arc<str>> {
        let expired = self.0.iter().filter(|(_, known)| known.until_ms.is_some_and(|until| until <= now_ms));
        expired.map(|(id, _)| Arc::clone(id)).collect()
    }

    pub(super) fn add(&mut self, group: &mut GroupDocument, id: &Arc<str>, until_ms: i64) {
        let known = self.0.entry(Arc::clone(id)).or_insert(Known { stored: None, until_ms: None });
        let is_new = known.until_ms.replace(until_ms).is_none();
        let PendingIds { count, next_ms } =
            group.pending_ids.unwrap_or(PendingIds { count: 0, next_ms: until_ms });
        let count = count.saturating_add(u32::from(is_new));
        group.pending_ids = Some(PendingIds { count, next_ms: next_ms.min(until_ms) });
    }

    pub(super) fn remove(&mut self, group: &mut GroupDocument, id: &str) {
        let removed = self.0.get_mut(id).and_then(|known| known.until_ms.take());
        if let (Some(_), Some(ids)) = (removed, &mut group.pending_ids) {
            ids.count = ids.count.saturating_sub(1);
        }
        group.pending_ids = group.pending_ids.filter(|ids| ids.count > 0);
    }

    /// Notes when the next id expires, once all are loaded.
    pub(super) fn note_next(&self, group: &mut GroupDocument) {
        let next_ms = self.0.values().filter_map(|known| known.until_ms).min();
        if let (Some(next_ms), Some(ids)) = (next_ms, &mut group.pending_ids) {
            ids.next_ms = next_ms;
        }
    }

    /// Removes all of them, which are loaded.
    pub(super) fn clear(&mut self, group: &mut GroupDocument) {
        self.0.values_mut().for_each(|known| known.until_ms = None);
        group.pending_ids = None;
    }

    /// Adds the changed documents.
    pub(super) fn add_changes(self, group: &Arc<str>, changes: &mut Changes) {
        for (id, Known { stored, until_ms }) in self.0 {
            if stored != until_ms {
                let document =
                    until_ms.map(|until_ms| Document::new::<PendingDocument>(PendingDocument { until_ms }));
                changes.insert(PendingDocument::key(&key(group, &id)), document);
            }
        }
    }
}

/// The pending ids of a group, whose documents are loaded.
pub(super) fn ids(set: &WorkingSet<'_>, group: &str) -> Vec<Arc<str>> {
    let keys = set.keys(&PendingDocument::of_group(group)).unwrap_or_default();
    keys.iter().filter_map(PendingDocument::parse_key).map(|key| key.member).collect()
}
