//! Look-ups of groups, client metrics subscriptions and producers.

use std::sync::Arc;

use kernel::{ProducerId, TopicPartition};
use rules::documents::{
    DocumentKind, GroupDocument, MemberDocument, MemberKey, OffsetDocument, OffsetKey, PartitionDocument,
    ProducerDocument, Subscription,
};
use rules::groups::GroupView;

use super::engine::Store;
use crate::engines::StoreError;

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
    /// A group with its members, from one snapshot.
    pub(crate) async fn group(&self, group: &Arc<str>) -> Result<Option<GroupView>, StoreError> {
        let engine = self.engine().await?;
        let Some(mut document) = self.get_one::<GroupDocument>(group).await? else { return Ok(None) };
        loop {
            // The group is read again with its members. If they have changed meanwhile, it is read once more.
            let ids = document.members.clone();
            let member = |id: &Arc<str>| MemberKey { group: Arc::clone(group), member: Arc::clone(id) };
            let mut keys = vec![GroupDocument::key(group)];
            keys.extend(ids.iter().map(|id| MemberDocument::key(&member(id))));
            let mut found = engine.get(keys).await?.into_iter();
            let again = found.next().flatten().and_then(|document| document.get_arc::<GroupDocument>());
            let Some(again) = again else { return Ok(None) };
            if again.members != ids {
                document = again;
                continue;
            }
            let member = |(id, document): (Arc<str>, Option<_>)| Some((id, rules_member(document)?));
            let members = ids.into_iter().zip(found).filter_map(member).collect();
            return Ok(Some(GroupView { group: again, members }));
        }
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

    /// The offsets that a group has committed, with the log end offsets. Topics that do not exist here are
    /// left out.
    pub(crate) async fn committed(&self, group: &Arc<str>) -> Result<Vec<Committed>, StoreError> {
        let offsets = self.offsets(group).await?;
        let at = |(key, offset): &(OffsetKey, Arc<OffsetDocument>)| TopicPartition {
            topic: offset.topic_id,
            partition: key.partition,
        };
        let logs = self.get::<PartitionDocument>(&offsets.iter().map(at).collect::<Vec<_>>()).await?;
        let committed = offsets.into_iter().zip(logs).filter_map(|((key, offset), log)| {
            let OffsetKey { topic, partition, .. } = key;
            Some(Committed { topic, partition, offset: offset.offset, end: log?.end })
        });
        Ok(committed.collect())
    }

    /// All client metrics subscriptions, in the order of names.
    pub(crate) async fn client_metrics(&self) -> Result<Vec<(Arc<str>, Arc<Subscription>)>, StoreError> {
        self.scan::<Subscription>(Subscription::prefix()).await
    }

    /// The idempotent producers of a partition, in the order of ids.
    pub(crate) async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<(ProducerId, Arc<ProducerDocument>)>, StoreError> {
        let found = self.scan::<ProducerDocument>(ProducerDocument::of_partition(partition)).await?;
        let mut producers: Vec<_> = found.into_iter().map(|((_, id), producer)| (id, producer)).collect();
        // Numeric order differs from the order of keys.
        producers.sort_by_key(|(id, _)| *id);
        Ok(producers)
    }
}

fn rules_member(document: Option<rules::documents::Document>) -> Option<Arc<MemberDocument>> {
    document?.get_arc()
}
