//! Where a group is listed beside its own documents: among the groups with timeouts, and in the due index.

use std::sync::Arc;

use crate::documents::{Document, DocumentKind, Due, DueKey, DueSubject, GroupDocument, LiveGroup};
use crate::due;
use crate::working_set::{Changes, WorkingSet};

/// Notes that a group's document is stored. Nothing is written unless the group has got its first timeout, or has none any
/// more.
pub(super) fn note(
    group: &Arc<str>,
    before: Option<&GroupDocument>,
    after: &GroupDocument,
    changes: &mut Changes,
) {
    let (was_live, is_live) = (before.is_some_and(GroupDocument::has_timeouts), after.has_timeouts());
    if was_live != is_live {
        let entry = is_live.then(|| Document::new::<LiveGroup>(LiveGroup {}));
        changes.insert(LiveGroup::key(group), entry);
    }
    if !is_live && (was_live || before.is_none()) {
        // It is to be deleted once it has no offsets either.
        let entry = DueKey::at_once(DueSubject::Offsets(Arc::clone(group)));
        changes.insert(Due::key(&entry), Some(Document::new::<Due>(Due {})));
    }
}

/// Notes that a group is deleted.
pub(super) fn note_deleted(set: &mut WorkingSet<'_>, group: &Arc<str>) {
    if set.get::<GroupDocument>(group).is_some_and(GroupDocument::has_timeouts) {
        set.delete::<LiveGroup>(group);
    }
}

/// Lists a group that an earlier release has stored.
pub(super) fn index(set: &mut WorkingSet<'_>, group: &Arc<str>) {
    let Some(has_timeouts) = set.get::<GroupDocument>(group).map(GroupDocument::has_timeouts) else { return };
    if has_timeouts {
        set.put::<LiveGroup>(group, LiveGroup {});
    }
    due::look_at_once(set, &DueSubject::Offsets(Arc::clone(group)));
}
