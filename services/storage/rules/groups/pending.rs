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

/// An id as stored and as it is to be stored; `None` is not pending.
struct Known {
    stored: Option<PendingDocument>,
    document: Option<PendingDocument>,
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
        let stored = lookups.get::<PendingDocument>(&key(group, id)).map(|pending| *pending);
        if stored.is_some() {
            self.0.insert(Arc::clone(id), Known { stored, document: stored });
        }
    }

    /// Loads all ids of a group.
    pub(super) fn load_all(&mut self, lookups: Lookups<'_>, group: &Arc<str>) {
        let keys = lookups.keys::<PendingDocument>(PendingDocument::of_group(group)).unwrap_or_default();
        keys.iter().for_each(|key| self.load(lookups, group, &key.member));
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.0.get(id).is_some_and(|known| known.document.is_some())
    }

    /// Those that have expired.
    pub(super) fn expired(&self, now_ms: i64) -> Vec<Arc<str>> {
        let is_over = |pending: PendingDocument| pending.until_ms <= now_ms;
        let expired = self.0.iter().filter(|(_, known)| known.document.is_some_and(is_over));
        expired.map(|(id, _)| Arc::clone(id)).collect()
    }

    pub(super) fn add(&mut self, group: &mut GroupDocument, id: &Arc<str>, pending: PendingDocument) {
        let until_ms = pending.until_ms;
        let known = self.0.entry(Arc::clone(id)).or_insert(Known { stored: None, document: None });
        let is_new = known.document.replace(pending).is_none();
        let PendingIds { count, next_ms } =
            group.pending_ids.unwrap_or(PendingIds { count: 0, next_ms: until_ms });
        let count = count.saturating_add(u32::from(is_new));
        group.pending_ids = Some(PendingIds { count, next_ms: next_ms.min(until_ms) });
    }

    pub(super) fn remove(&mut self, group: &mut GroupDocument, id: &str) {
        let removed = self.0.get_mut(id).and_then(|known| known.document.take());
        if let (Some(_), Some(ids)) = (removed, &mut group.pending_ids) {
            ids.count = ids.count.saturating_sub(1);
        }
        group.pending_ids = group.pending_ids.filter(|ids| ids.count > 0);
    }

    /// Notes when the next id expires, once all are loaded.
    pub(super) fn note_next(&self, group: &mut GroupDocument) {
        let pending = self.0.values().filter_map(|known| known.document);
        let next_ms = pending.map(|pending| pending.until_ms).min();
        if let (Some(next_ms), Some(ids)) = (next_ms, &mut group.pending_ids) {
            ids.next_ms = next_ms;
        }
    }

    /// Gives each its whole time anew, from now. All are loaded.
    pub(super) fn restart(&mut self, group: &mut GroupDocument, now_ms: i64) {
        for pending in self.0.values_mut().filter_map(|known| known.document.as_mut()) {
            pending.until_ms = now_ms.saturating_add(i64::from(pending.session_timeout_ms));
        }
        self.note_next(group);
    }

    /// Removes all of them, which are loaded.
    pub(super) fn clear(&mut self, group: &mut GroupDocument) {
        self.0.values_mut().for_each(|known| known.document = None);
        group.pending_ids = None;
    }

    /// Adds the changed documents.
    pub(super) fn add_changes(self, group: &Arc<str>, changes: &mut Changes) {
        for (id, Known { stored, document }) in self.0 {
            if stored != document {
                let document = document.map(Document::new::<PendingDocument>);
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
