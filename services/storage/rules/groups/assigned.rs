//! Which members have the partitions that a command looks at, in a group of the consumer protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::{TopicId, TopicPartition};

use super::lookups::Lookups;
use crate::documents::{
    AssignedKey, AssignedPartition, ConsumerMember, Document, DocumentKind, MemberDocument, each, holds,
};
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
        if are_same(before, after) {
            return;
        }
        for partition in all(before).filter(|partition| !has(after, *partition)) {
            self.load(lookups, group, partition).members.remove(member);
        }
        for partition in all(after).filter(|partition| !has(before, *partition)) {
            self.load(lookups, group, partition).members.insert(Arc::clone(member));
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

fn consumer(member: Option<&MemberDocument>) -> Option<&ConsumerMember> {
    member?.consumer.as_deref()
}

/// Whether nothing has touched the partitions of a member.
fn are_same(before: Option<&MemberDocument>, after: Option<&MemberDocument>) -> bool {
    let (Some(before), Some(after)) = (consumer(before), consumer(after)) else { return false };
    Arc::ptr_eq(&before.assigned, &after.assigned) && Arc::ptr_eq(&before.revoking, &after.revoking)
}

/// The partitions that a member has, or has yet to revoke.
fn all(member: Option<&MemberDocument>) -> impl Iterator<Item = TopicPartition> {
    let own = consumer(member).into_iter();
    let both = own.flat_map(|own| each(&own.assigned).chain(each(&own.revoking)));
    both.map(|(topic, partition)| TopicPartition { topic, partition })
}

/// Whether a partition is one of these.
fn has(member: Option<&MemberDocument>, TopicPartition { topic, partition }: TopicPartition) -> bool {
    consumer(member)
        .is_some_and(|own| holds(&own.assigned, topic, partition) || holds(&own.revoking, topic, partition))
}
