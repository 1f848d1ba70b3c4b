//! Which members have the partitions that a command looks at, in a group of the consumer protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::{TopicId, TopicPartition};

use super::lookups::Lookups;
use crate::documents::{AssignedKey, AssignedPartition, Document, DocumentKind, MemberDocument, each};
use crate::working_set::Changes;

/// The members by partition.
#[derive(Default)]
pub(super) struct Assigned(BTreeMap<TopicPartition, Known>);

/// The members as stored and as they are to be stored; none stands for no document.
struct Known {
    stored: BTreeSet<Arc<str>>,
    members: BTreeSet<Arc<str>>,
}

fn key(group: &Arc<str>, partition: TopicPartition) -> AssignedKey {
    AssignedKey { group: Arc::clone(group), partition }
}

impl Assigned {
    fn load(&mut self, lookups: Lookups<'_>, group: &Arc<str>, partition: TopicPartition) -> &mut Known {
        self.0.entry(partition).or_insert_with(|| {
            let stored = lookups.get::<AssignedPartition>(&key(group, partition));
            let stored = stored.map(|document| document.members.clone()).unwrap_or_default();
            Known { members: stored.clone(), stored }
        })
    }

    /// Whether another member than this has a partition, or has yet to revoke it.
    pub(super) fn is_taken(
        &mut self,
        lookups: Lookups<'_>,
        (group, but): (&Arc<str>, &str),
        (topic, partition): (TopicId, i32),
    ) -> bool {
        let known = self.load(lookups, group, TopicPartition { topic, partition });
        known.members.iter().any(|member| **member != *but)
    }

    /// Notes the change of a member.
    pub(super) fn note(
        &mut self,
        lookups: Lookups<'_>,
        (group, member): (&Arc<str>, &Arc<str>),
        before: Option<&MemberDocument>,
        after: Option<&MemberDocument>,
    ) {
        let (before, after) = (all(before), all(after));
        for partition in before.difference(&after) {
            self.load(lookups, group, *partition).members.remove(member);
        }
        for partition in after.difference(&before) {
            self.load(lookups, group, *partition).members.insert(Arc::clone(member));
        }
    }

    /// Adds the changed documents.
    pub(super) fn add_changes(self, group: &Arc<str>, changes: &mut Changes) {
        for (partition, Known { stored, members }) in self.0 {
            if stored != members {
                let document = (!members.is_empty())
                    .then(|| Document::new::<AssignedPartition>(AssignedPartition { members }));
                changes.insert(AssignedPartition::key(&key(group, partition)), document);
            }
        }
    }
}

/// The partitions that a member has, or has yet to revoke.
fn all(member: Option<&MemberDocument>) -> BTreeSet<TopicPartition> {
    let own = member.and_then(|member| member.consumer.as_deref());
    let both = own.into_iter().flat_map(|own| each(&own.assigned).chain(each(&own.revoking)));
    both.map(|(topic, partition)| TopicPartition { topic, partition }).collect()
}
