//! Look-ups of groups, client metrics subscriptions and producers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kernel::ports::TopicDirectory;
use kernel::{ProducerId, TopicId, TopicPartition};
use rules::commands::MemberIdentity;
use rules::documents::{
    AssignedKey, AssignedPartition, DocumentKind, GroupConfigs, GroupDocument, GroupState, GroupTopics,
    InstanceDocument, InstanceKey, MemberDocument, MemberKey, OffsetDocument, OffsetKey, PendingOffset,
    ProducerDocument, Subscription,
};
use rules::groups::{GroupView, MemberView};

use super::engine::Store;
use crate::engines::StoreError;

/// How often a group and its members are read until both are of the same time. A group may change all the time.
const READS_MAX: usize = 8;

/// A group's committed offset in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The topic.
    pub(crate) topic: Arc<str>,
    /// The partition.
    pub(crate) partition: i32,
    /// The committed offset: the next one to read.
    pub(crate) offset: i64,
    /// Log end offset.
    pub(crate) end: i64,
}

impl Store {
    /// A group with its members. It costs as much as the group has members.
    pub(crate) async fn group(&self, group: &Arc<str>) -> Result<Option<GroupView>, StoreError> {
        let Some(mut document) = self.get_one::<GroupDocument>(group).await? else { return Ok(None) };
        for reads_left in (0..READS_MAX).rev() {
            if document.members == 0 {
                break;
            }
            let members = self.scan::<MemberDocument>(MemberDocument::of_group(group)).await?;
            let topics = self.get_one::<GroupTopics>(group).await?;
            // If the group has changed since it was read, its members may have as well.
            let Some(again) = self.get_one::<GroupDocument>(group).await? else { return Ok(None) };
            if reads_left == 0 || stage(&again) == stage(&document) {
                let members = members.into_iter().map(|(key, member)| (key.member, member));
                return Ok(Some(GroupView::new(again, members.collect(), topics)));
            }
            document = again;
        }
        Ok(Some(GroupView::new(document, Vec::new(), None)))
    }

    /// A group whose target assignment is to be computed; `None` if it must be read again. If it changes while it is read,
    /// it is the group of an earlier epoch with members that are later: then the next target is due at once. It costs as
    /// much as the group has members.
    pub(crate) async fn group_to_assign(&self, group: &Arc<str>) -> Result<Option<GroupView>, StoreError> {
        let Some(document) = self.get_one::<GroupDocument>(group).await? else { return Ok(None) };
        let members = self.scan::<MemberDocument>(MemberDocument::of_group(group)).await?;
        let topics = self.get_one::<GroupTopics>(group).await?;
        let again = self.get_one::<GroupDocument>(group).await?;
        let has_epoch = again.is_some_and(|again| again.generation == document.generation);
        if has_epoch && members.len() != document.members as usize {
            // A member that gets another id leaves the epoch as it is, and may be read with both or none.
            return Ok(None);
        }
        let members = members.into_iter().map(|(key, member)| (key.member, member));
        Ok(Some(GroupView::new(document, members.collect(), topics)))
    }

    /// A group as far as one member needs it.
    pub(crate) async fn member_view(
        &self,
        group: &Arc<str>,
        member: &MemberIdentity,
    ) -> Result<Option<MemberView>, StoreError> {
        let key = MemberKey { group: Arc::clone(group), member: Arc::clone(&member.id) };
        let instance = |id: &Arc<str>| InstanceKey { group: Arc::clone(group), instance: Arc::clone(id) };
        let mut keys = vec![GroupDocument::key(group), MemberDocument::key(&key)];
        keys.extend(member.instance_id.iter().map(|id| InstanceDocument::key(&instance(id))));
        let mut found = self.engine().await?.get(keys).await?.into_iter();
        let document = found.next().flatten().and_then(|document| document.get_arc::<GroupDocument>());
        let own = found.next().flatten().and_then(|document| document.get_arc::<MemberDocument>());
        let mut has_instance = found.next().flatten().is_some();
        let Some(document) = document else { return Ok(None) };
        let is_own = own.as_ref().is_some_and(|own| own.instance_id == member.instance_id);
        if document.tally.is_none() && member.instance_id.is_some() && !is_own {
            // An earlier release wrote the group, and no documents of its static members.
            let members = self.scan::<MemberDocument>(MemberDocument::of_group(group)).await?;
            has_instance = members.iter().any(|(_, other)| other.instance_id == member.instance_id);
        }
        Ok(Some(MemberView { group: document, member: own, has_instance }))
    }

    /// Whether no other member of a group of the consumer protocol has any of these partitions.
    pub(crate) async fn are_released(
        &self,
        group: &Arc<str>,
        member: &Arc<str>,
        partitions: Vec<(TopicId, i32)>,
    ) -> Result<bool, StoreError> {
        let key = |(topic, partition)| AssignedKey {
            group: Arc::clone(group),
            partition: TopicPartition { topic, partition },
        };
        let keys: Vec<AssignedKey> = partitions.into_iter().map(key).collect();
        let assigned = self.get::<AssignedPartition>(&keys).await?;
        Ok(assigned.into_iter().flatten().all(|assigned| assigned.members.iter().all(|id| id == member)))
    }

    /// A group without its members but this one, if it is one, from one snapshot.
    pub(crate) async fn group_of(
        &self,
        group: &Arc<str>,
        member: &Arc<str>,
    ) -> Result<Option<(Arc<GroupDocument>, Option<Arc<MemberDocument>>)>, StoreError> {
        let key = MemberKey { group: Arc::clone(group), member: Arc::clone(member) };
        let keys = vec![GroupDocument::key(group), MemberDocument::key(&key)];
        let mut found = self.engine().await?.get(keys).await?.into_iter();
        let document = found.next().flatten().and_then(|document| document.get_arc());
        let member = found.next().flatten().and_then(|document| document.get_arc());
        Ok(document.map(|document| (document, member)))
    }

    /// All groups without their members, in the order of ids.
    pub(crate) async fn groups(&self) -> Result<Vec<(Arc<str>, Arc<GroupDocument>)>, StoreError> {
        self.scan::<GroupDocument>(GroupDocument::prefix()).await
    }

    /// The offsets that a group has committed, with their keys, in the order of topics and partitions.
    pub(crate) async fn offsets(
        &self,
        group: &Arc<str>,
    ) -> Result<Vec<(OffsetKey, Arc<OffsetDocument>)>, StoreError> {
        let mut offsets = self.scan::<OffsetDocument>(OffsetDocument::of_group(group)).await?;
        // The order of keys is that of partition numbers as text.
        offsets.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(offsets)
    }

    /// The partitions whose committed offsets open transactions may change, of those of a group.
    pub(crate) async fn pending_offsets(
        &self,
        group: &Arc<str>,
    ) -> Result<BTreeSet<(Arc<str>, i32)>, StoreError> {
        let pending = self.scan::<PendingOffset>(PendingOffset::of_group(group)).await?;
        Ok(pending.into_iter().map(|(key, _)| (key.topic, key.partition)).collect())
    }

    /// The offsets that a group has committed, with the log end offsets. Topics that are in no service are left out.
    pub(crate) async fn committed(
        &self,
        group: &Arc<str>,
        directory: &dyn TopicDirectory,
    ) -> Result<Vec<Committed>, StoreError> {
        let offsets = self.offsets(group).await?;
        let at = |(key, offset): &(OffsetKey, Arc<OffsetDocument>)| TopicPartition {
            topic: offset.topic_id,
            partition: key.partition,
        };
        let ends = directory.ends(offsets.iter().map(at).collect()).await.map_err(StoreError)?;
        let committed = offsets.into_iter().zip(ends).filter_map(|((key, offset), end)| {
            let OffsetKey { topic, partition, .. } = key;
            Some(Committed { topic, partition, offset: offset.offset, end: end? })
        });
        Ok(committed.collect())
    }

    /// The configs of groups that have some.
    pub(crate) async fn group_configs_of(
        &self,
        groups: Vec<Arc<str>>,
    ) -> Result<HashMap<Arc<str>, Arc<GroupConfigs>>, StoreError> {
        let found = self.get::<GroupConfigs>(&groups).await?;
        Ok(groups.into_iter().zip(found).filter_map(|(group, configs)| Some((group, configs?))).collect())
    }

    /// The groups that have configs, in the order of ids.
    pub(crate) async fn groups_with_configs(&self) -> Result<Vec<Arc<str>>, StoreError> {
        let found = self.scan::<GroupConfigs>(GroupConfigs::prefix()).await?;
        Ok(found.into_iter().map(|(group, _)| group).collect())
    }

    /// All client metrics subscriptions, in the order of names.
    pub(crate) async fn client_metrics(&self) -> Result<Vec<(Arc<str>, Arc<Subscription>)>, StoreError> {
        self.scan::<Subscription>(Subscription::prefix()).await
    }

    /// The idempotent producers of a partition, in the order of ids; ids of different origins may be equal.
    pub(crate) async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<(ProducerId, Arc<ProducerDocument>)>, StoreError> {
        let found = self.scan::<ProducerDocument>(ProducerDocument::of_partition(partition)).await?;
        let mut producers: Vec<_> =
            found.into_iter().map(|(key, producer)| (key.producer, producer)).collect();
        // Numeric order differs from the order of keys.
        producers.sort_by_key(|(id, _)| *id);
        Ok(producers)
    }
}

/// What changes whenever a group gets or loses members, or all of them change.
fn stage(group: &GroupDocument) -> (GroupState, i32, u32, Option<i32>) {
    let assignment_epoch = group.consumer.as_ref().map(|own| own.assignment_epoch);
    (group.state, group.generation, group.members, assignment_epoch)
}
