//! Topics and partitions as the data APIs name them, and the leader epochs that clients believe in.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kernel::{ErrorCode, Ticket, TopicId, TopicPartition};
use uuid::Uuid;

use super::shared;
use crate::engines::StoreError;
use crate::rules::{Document, Key, PartitionDocument, TopicDocument};
use crate::service::Service;

/// Kafka's "no leader epoch".
const NO_EPOCH: i32 = -1;

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
    /// The one of the two that the request's version carries.
    pub(crate) fn new(by_id: bool, name: &TopicName, id: Uuid) -> Self {
        if by_id { TopicRef::Id(TopicId(id)) } else { TopicRef::Name(Arc::from(name.as_str())) }
    }

    /// Its name for a reply; empty if it is named by id.
    pub(crate) fn wire_name(&self) -> TopicName {
        match self {
            TopicRef::Name(name) => shared::topic_name(name),
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

    /// What a client is told whose topic is not there.
    pub(crate) fn unknown(&self) -> ErrorCode {
        match self {
            TopicRef::Name(_) => ErrorCode::UnknownTopicOrPartition,
            TopicRef::Id(_) => ErrorCode::UnknownTopicId,
        }
    }
}

/// What a request says of partitions, each once: of one that stands there twice the last word counts, as in Kafka,
/// which reads them into a map.
pub(crate) fn last_words<K: Hash + Eq + Clone, V>(said: Vec<(K, V)>) -> Vec<(K, V)> {
    let mut kept: Vec<(K, V)> = Vec::with_capacity(said.len());
    let mut places: HashMap<K, usize> = HashMap::with_capacity(said.len());
    for (key, value) in said {
        match places.entry(key.clone()) {
            Entry::Occupied(place) => kept[*place.get()].1 = value,
            Entry::Vacant(free) => {
                free.insert(kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

/// The rows of partitions by their topics, as a reply lists them: each topic once, in the order of first mention.
pub(crate) fn by_topic<T>(rows: impl IntoIterator<Item = (TopicRef, T)>) -> Vec<(TopicRef, Vec<T>)> {
    let mut topics: Vec<(TopicRef, Vec<T>)> = Vec::new();
    let mut places: HashMap<TopicRef, usize> = HashMap::new();
    for (topic, row) in rows {
        let place = *places.entry(topic).or_insert_with_key(|topic| {
            topics.push((topic.clone(), Vec::new()));
            topics.len() - 1
        });
        topics[place].1.push(row);
    }
    topics
}

/// The topics that a request names, as far as they exist.
#[derive(Debug, Default)]
pub(crate) struct Topics(HashMap<TopicRef, Arc<TopicDocument>>);

impl Topics {
    /// Loads topics, each once.
    pub(crate) async fn load(service: &Service, named: Vec<TopicRef>) -> Result<Self, StoreError> {
        let (mut names, mut ids) = (Vec::new(), Vec::new());
        for topic in named.into_iter().collect::<BTreeSet<_>>() {
            match topic {
                TopicRef::Name(name) => names.push(name),
                TopicRef::Id(id) => ids.push(id),
            }
        }
        let by_name = shared::topics_by_name(service, names).await?;
        let by_id = shared::topics_by_id(service, ids).await?;
        let by_name = by_name.into_iter().map(|(name, topic)| (TopicRef::Name(name), topic));
        let by_id = by_id.into_iter().map(|(id, topic)| (TopicRef::Id(id), topic));
        Ok(Self(by_name.chain(by_id).collect()))
    }

    /// Loads the topics of a call that writes, which may be about to be made by an earlier call of its connection:
    /// if one is missing, it is looked for again when those have been answered. A read waits for earlier writes
    /// anyway; a write must not ([`Ticket::after_writes`] would let later reads overtake it).
    pub(crate) async fn load_to_write(
        service: &Service,
        ticket: &Ticket,
        wanted: Vec<(TopicRef, i32)>,
    ) -> Result<Self, StoreError> {
        let named: Vec<TopicRef> = wanted.iter().map(|(topic, _)| topic.clone()).collect();
        let topics = Self::load(service, named.clone()).await?;
        if wanted.iter().all(|(topic, index)| topics.at(topic, *index).is_ok()) {
            return Ok(topics);
        }
        ticket.front().await;
        Self::load(service, named).await
    }

    /// A topic, if it exists.
    pub(crate) fn topic(&self, topic: &TopicRef) -> Option<&Arc<TopicDocument>> {
        self.0.get(topic)
    }

    /// A partition, or what its client is told.
    pub(crate) fn partition(
        &self,
        topic: &TopicRef,
        index: i32,
    ) -> Result<(&Arc<TopicDocument>, TopicPartition), ErrorCode> {
        let document = self.0.get(topic).ok_or_else(|| topic.unknown())?;
        let at = document.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok((document, at))
    }

    /// The same, for who does not need the topic.
    pub(crate) fn at(&self, topic: &TopicRef, index: i32) -> Result<TopicPartition, ErrorCode> {
        self.partition(topic, index).map(|(_, at)| at)
    }
}

/// The logs of partitions, without those that are gone.
pub(crate) async fn logs(
    service: &Service,
    partitions: Vec<TopicPartition>,
) -> Result<HashMap<TopicPartition, PartitionDocument>, StoreError> {
    let found = shared::load(service, partitions.into_iter().map(Key::Partition).collect()).await?;
    let logs = found.into_iter().filter_map(|(key, document)| match (key, document) {
        (Key::Partition(at), Document::Partition(log)) => Some((at, log)),
        _ => None,
    });
    Ok(logs.collect())
}

/// The epoch that a client says it knows, unless it says "none".
pub(crate) fn epoch(sent: i32) -> Option<i32> {
    (sent != NO_EPOCH).then_some(sent)
}

/// Whether the client believes in the same leader as the broker (KIP-320).
pub(crate) fn check_leader_epoch(believed: Option<i32>, log: &PartitionDocument) -> Result<(), ErrorCode> {
    match believed {
        Some(epoch) if epoch < log.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
        Some(epoch) if epoch > log.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where an epoch ends, in Kafka's answer: the epoch itself and the offset after its last record.
///
/// A partition keeps its first leader epoch for life, so there is no history to look into: an earlier epoch ended
/// where the log begins, and a later one is not known.
pub(crate) fn end_of_epoch(log: &PartitionDocument, epoch: i32) -> Option<(i32, i64)> {
    match epoch {
        NO_EPOCH => None,
        epoch if epoch == log.leader_epoch => Some((epoch, log.end)),
        epoch if epoch < log.leader_epoch => Some((epoch, log.log_start)),
        _ => None,
    }
}
