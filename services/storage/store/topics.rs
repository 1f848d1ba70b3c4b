//! Look-ups of topics and their logs, many at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use kernel::ports::{BoxFuture, TopicDirectory, TopicFacts};
use kernel::{ErrorCode, Ticket, TopicId, TopicPartition};
use rules::documents::{DocumentKind, PartitionDocument, TopicDocument, TopicName as NameOfTopic};
use uuid::Uuid;

use super::engine::Store;
use crate::engines::StoreError;

/// A topic as a request names it: by name in older versions, by id in newer ones (KIP-516).
///
/// It owns its text, so that it may outlive the frame it was read from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TopicRef {
    /// By name.
    Name(Arc<str>),
    /// By id.
    Id(TopicId),
}

impl TopicRef {
    /// The one of the two that the request's version has.
    pub(crate) fn new(by_id: bool, name: &TopicName, id: Uuid) -> Self {
        if by_id { TopicRef::Id(TopicId(id)) } else { TopicRef::Name(Arc::from(name.as_str())) }
    }

    /// Its name for a reply; empty if it is named by id.
    pub(crate) fn wire_name(&self) -> TopicName {
        match self {
            TopicRef::Name(name) => TopicName(StrBytes::from_string(name.to_string())),
            TopicRef::Id(_) => TopicName::default(),
        }
    }

    /// Its id for a reply; zero if it is named by name.
    pub(crate) fn wire_id(&self) -> Uuid {
        match self {
            TopicRef::Name(_) => Uuid::nil(),
            TopicRef::Id(id) => id.0,
        }
    }

    /// The error for a topic that does not exist.
    pub(crate) fn unknown(&self) -> ErrorCode {
        match self {
            TopicRef::Name(_) => ErrorCode::UnknownTopicOrPartition,
            TopicRef::Id(_) => ErrorCode::UnknownTopicId,
        }
    }
}

/// The topics that a request names, as far as they exist.
#[derive(Debug, Default)]
pub(crate) struct Topics(HashMap<TopicRef, Arc<TopicDocument>>);

impl Topics {
    /// A topic, if it exists.
    pub(crate) fn topic(&self, topic: &TopicRef) -> Option<&Arc<TopicDocument>> {
        self.0.get(topic)
    }

    /// A partition, or the error for the client.
    pub(crate) fn partition(
        &self,
        topic: &TopicRef,
        index: i32,
    ) -> Result<(&Arc<TopicDocument>, TopicPartition), ErrorCode> {
        let document = self.0.get(topic).ok_or_else(|| topic.unknown())?;
        let at = document.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok((document, at))
    }

    /// A partition whose records may be deleted by request: those of a topic that is only compacted may not, as in Kafka.
    pub(crate) fn at_to_delete(&self, topic: &TopicRef, index: i32) -> Result<TopicPartition, ErrorCode> {
        let (topic, at) = self.partition(topic, index)?;
        let policy = topic.effective().cleanup_policy;
        if policy.compacts() && !policy.deletes() { Err(ErrorCode::PolicyViolation) } else { Ok(at) }
    }

    /// The same, without the topic.
    pub(crate) fn at(&self, topic: &TopicRef, index: i32) -> Result<TopicPartition, ErrorCode> {
        self.partition(topic, index).map(|(_, at)| at)
    }
}

impl Store {
    /// The topics that a request names, each looked up once.
    pub(crate) async fn find_topics(&self, named: Vec<TopicRef>) -> Result<Topics, StoreError> {
        let (mut names, mut ids) = (Vec::new(), Vec::new());
        for topic in named.into_iter().collect::<BTreeSet<_>>() {
            match topic {
                TopicRef::Name(name) => names.push(name),
                TopicRef::Id(id) => ids.push(id),
            }
        }
        let by_name = self.topics_by_name(names).await?;
        let by_id = self.topics_by_id(ids).await?;
        let by_name = by_name.into_iter().map(|(name, topic)| (TopicRef::Name(name), topic));
        let by_id = by_id.into_iter().map(|(id, topic)| (TopicRef::Id(id), topic));
        Ok(Topics(by_name.chain(by_id).collect()))
    }

    /// The topics of a call that writes. An earlier call of its connection may be about to create them: a
    /// missing topic is looked up again after those calls have been answered. A read waits for earlier writes
    /// anyway; a write must not ([`Ticket::after_writes`] would let later reads overtake it).
    pub(crate) async fn find_topics_to_write(
        &self,
        ticket: &Ticket,
        wanted: Vec<(TopicRef, i32)>,
    ) -> Result<Topics, StoreError> {
        let named: Vec<TopicRef> = wanted.iter().map(|(topic, _)| topic.clone()).collect();
        let topics = self.find_topics(named.clone()).await?;
        if wanted.iter().all(|(topic, index)| topics.at(topic, *index).is_ok()) {
            return Ok(topics);
        }
        ticket.after_earlier_writes().await;
        self.find_topics(named).await
    }

    /// Topics by name.
    pub(crate) async fn topics_by_name(
        &self,
        names: Vec<Arc<str>>,
    ) -> Result<HashMap<Arc<str>, Arc<TopicDocument>>, StoreError> {
        let found = self.get::<TopicDocument>(&names).await?;
        let topics = found.into_iter().flatten().map(|topic| (Arc::clone(&topic.name), topic));
        Ok(topics.collect())
    }

    /// Topics by id.
    pub(crate) async fn topics_by_id(
        &self,
        ids: Vec<TopicId>,
    ) -> Result<HashMap<TopicId, Arc<TopicDocument>>, StoreError> {
        let names = self.get::<NameOfTopic>(&ids).await?;
        let names = names.into_iter().flatten().map(|name| Arc::clone(&name.0)).collect();
        let topics = self.topics_by_name(names).await?;
        // A topic may be recreated between the two look-ups. It then has another id, which was not requested.
        Ok(topics.into_values().map(|topic| (topic.id, topic)).collect())
    }

    /// All topics, in the order of names.
    pub(crate) async fn topics(&self) -> Result<Vec<Arc<TopicDocument>>, StoreError> {
        let found = self.scan::<TopicDocument>(TopicDocument::prefix()).await?;
        Ok(found.into_iter().map(|(_, topic)| topic).collect())
    }

    /// The logs of partitions.
    pub(crate) async fn logs(&self, partitions: Vec<TopicPartition>) -> Result<Logs, StoreError> {
        let found = self.get_each::<PartitionDocument>(&partitions).await?;
        let log = |log: Result<Option<Arc<PartitionDocument>>, StoreError>| match log {
            Ok(log) => log.map(|log| *log).ok_or(ErrorCode::UnknownTopicOrPartition),
            Err(_) => Err(ErrorCode::KafkaStorageError),
        };
        Ok(Logs(partitions.into_iter().zip(found.into_iter().map(log)).collect()))
    }
}

/// The logs of some partitions.
pub(crate) struct Logs(HashMap<TopicPartition, Result<PartitionDocument, ErrorCode>>);

impl Logs {
    /// The log of a partition, or why there is none: it was deleted, or it cannot be read.
    pub(crate) fn get(&self, at: TopicPartition) -> Result<&PartitionDocument, ErrorCode> {
        self.0
            .get(&at)
            .map_or(Err(ErrorCode::UnknownTopicOrPartition), |log| log.as_ref().map_err(|error| *error))
    }
}

impl Store {
    /// Bytes of the batches in partitions, without deleted ones.
    pub(crate) async fn sizes(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<HashMap<TopicPartition, u64>, StoreError> {
        let logs = self.logs(partitions.clone()).await?;
        let sizes = self.engine().await?.sizes(partitions.clone()).await?;
        Ok(partitions.into_iter().zip(sizes).filter(|(at, _)| logs.get(*at).is_ok()).collect())
    }
}

impl TopicDirectory for Store {
    fn by_name(&self, names: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        Box::pin(async move {
            let found = self.topics_by_name(names).await.map_err(|error| error.0)?;
            Ok(found.into_values().map(|topic| topic.facts()).collect())
        })
    }

    fn by_id(&self, ids: Vec<TopicId>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        Box::pin(async move {
            let found = self.topics_by_id(ids).await.map_err(|error| error.0)?;
            Ok(found.into_values().map(|topic| topic.facts()).collect())
        })
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        Box::pin(async move {
            let found = self.topics().await.map_err(|error| error.0)?;
            Ok(found.into_iter().map(|topic| topic.facts()).collect())
        })
    }

    fn ends(&self, partitions: Vec<TopicPartition>) -> BoxFuture<'_, Result<Vec<Option<i64>>, String>> {
        Box::pin(async move {
            let logs = self.get::<PartitionDocument>(&partitions).await.map_err(|error| error.0)?;
            Ok(logs.into_iter().map(|log| log.map(|log| log.end)).collect())
        })
    }

    fn version(&self) -> u64 {
        self.engine_if_open().map_or(0, |engine| engine.topics_version())
    }
}
