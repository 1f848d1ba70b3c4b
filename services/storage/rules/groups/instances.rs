//! The members that have the group instance ids that a command looks at (KIP-345).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lookups::Lookups;
use crate::documents::{Document, DocumentKind, InstanceDocument, InstanceKey, MemberDocument};
use crate::working_set::Changes;

/// Member ids by group instance id.
#[derive(Default)]
pub(super) struct Instances(BTreeMap<Arc<str>, Known>);

/// The member id as stored and as it is to be stored.
struct Known {
    stored: Option<Arc<str>>,
    member: Option<Arc<str>>,
}

fn key(group: &Arc<str>, instance: &Arc<str>) -> InstanceKey {
    InstanceKey { group: Arc::clone(group), instance: Arc::clone(instance) }
}

impl Instances {
    fn load(&mut self, lookups: Lookups<'_>, group: &Arc<str>, instance: &Arc<str>) -> &mut Known {
        self.0.entry(Arc::clone(instance)).or_insert_with(|| {
            let stored = lookups.get::<InstanceDocument>(&key(group, instance));
            let stored = stored.map(|document| Arc::clone(&document.member));
            Known { member: stored.clone(), stored }
        })
    }

    /// The member that has a group instance id.
    pub(super) fn member(
        &mut self,
        lookups: Lookups<'_>,
        group: &Arc<str>,
        instance: &Arc<str>,
    ) -> Option<Arc<str>> {
        self.load(lookups, group, instance).member.clone()
    }

    /// Notes the change of a member.
    pub(super) fn note(
        &mut self,
        lookups: Lookups<'_>,
        (group, member): (&Arc<str>, &Arc<str>),
        before: Option<&MemberDocument>,
        after: Option<&MemberDocument>,
    ) {
        let before = before.and_then(|member| member.instance_id.as_ref());
        let after = after.and_then(|member| member.instance_id.as_ref());
        if before == after {
            return;
        }
        if let Some(instance) = before {
            let known = self.load(lookups, group, instance);
            known.member = known.member.take().filter(|other| other != member);
        }
        if let Some(instance) = after {
            self.load(lookups, group, instance).member = Some(Arc::clone(member));
        }
    }

    /// Adds the changed documents.
    pub(super) fn add_changes(self, group: &Arc<str>, changes: &mut Changes) {
        for (instance, Known { stored, member }) in self.0 {
            if stored != member {
                let document =
                    member.map(|member| Document::new::<InstanceDocument>(InstanceDocument { member }));
                changes.insert(InstanceDocument::key(&key(group, &instance)), document);
            }
        }
    }
}
