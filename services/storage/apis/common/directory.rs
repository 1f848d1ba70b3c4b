//! Topics as the group APIs see them: they may belong to another service.

use std::collections::{HashMap, HashSet};

use kernel::ports::TopicFacts;
use kernel::{ErrorCode, Ticket};

use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::TopicRef;

/// The topics that a request names and that exist in any service.
#[derive(Debug, Default)]
pub(crate) struct DirectoryTopics(HashMap<TopicRef, TopicFacts>);

impl DirectoryTopics {
    /// Looks up topics.
    pub(crate) async fn find(broker: &Broker, named: &[TopicRef]) -> Result<Self, StoreError> {
        let (mut names, mut ids) = (Vec::new(), Vec::new());
        // A request that has many partitions of a topic names it as often.
        for topic in named.iter().collect::<HashSet<_>>() {
            match topic {
                TopicRef::Name(name) => names.push(name.clone()),
                TopicRef::Id(id) => ids.push(*id),
            }
        }
        let directory = broker.directory();
        let mut found = HashMap::new();
        if !names.is_empty() {
            let topics = directory.by_name(names).await.map_err(StoreError)?;
            found.extend(topics.into_iter().map(|topic| (TopicRef::Name(topic.name.clone()), topic)));
        }
        if !ids.is_empty() {
            let topics = directory.by_id(ids).await.map_err(StoreError)?;
            found.extend(topics.into_iter().map(|topic| (TopicRef::Id(topic.id), topic)));
        }
        Ok(Self(found))
    }

    /// The same for a call that writes. A missing topic is looked up again after the connection's earlier
    /// calls have been answered, because they may create it.
    pub(crate) async fn find_to_write(
        broker: &Broker,
        ticket: &Ticket,
        wanted: &[(TopicRef, i32)],
    ) -> Result<Self, StoreError> {
        let named: Vec<TopicRef> = wanted.iter().map(|(topic, _)| topic.clone()).collect();
        let found = Self::find(broker, &named).await?;
        if wanted.iter().all(|(topic, index)| found.partition(topic, *index).is_ok()) {
            return Ok(found);
        }
        ticket.front().await;
        Self::find(broker, &named).await
    }

    /// The topic, if it exists.
    pub(crate) fn topic(&self, topic: &TopicRef) -> Option<&TopicFacts> {
        self.0.get(topic)
    }

    /// The topic of a partition, or the error if the partition does not exist.
    pub(crate) fn partition(&self, topic: &TopicRef, index: i32) -> Result<&TopicFacts, ErrorCode> {
        let facts = self.0.get(topic).ok_or_else(|| topic.unknown())?;
        if (0..facts.partitions).contains(&index) {
            Ok(facts)
        } else {
            Err(ErrorCode::UnknownTopicOrPartition)
        }
    }
}
