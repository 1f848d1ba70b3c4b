//! OffsetFetch: the committed offsets of groups.
//!
//! A client that requires stable offsets (KIP-447) gets UNSTABLE_OFFSET_COMMIT for a partition whose offset an open
//! transaction will change, and asks again. What is pending is looked at before the offsets: a transaction that ends in
//! between has changed them by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use kernel::ports::TopicFacts;
use kernel::{Call, ErrorCode};
use rules::commands::MemberIdentity;
use rules::documents::{DocumentKind, OffsetDocument, OffsetKey, PendingOffset};
use rules::groups::check_offset_fetch;

use crate::apis::common::answer::Answer;
use crate::apis::common::directory::DirectoryTopics;
use crate::apis::common::groups::store_failed;
use crate::apis::common::text::{self, to_arc, to_wire};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::TopicRef;

/// From this version on a request has several groups (KIP-709).
const BATCHED_FROM: i16 = 8;
/// From this version on topics are named by id (KIP-848).
const BY_ID_FROM: i16 = 10;
/// Kafka's "no committed offset".
const NO_OFFSET: i64 = -1;
const NO_EPOCH: i32 = -1;
/// Offsets that are looked up together; a request may name millions of partitions.
const LOOKUPS_MAX: usize = 10_000;
/// Pending offsets of a group that are read at once. If it has more, each partition that is asked for is looked up.
const PENDING_MAX: usize = 1_000;

/// Which offsets a client wants.
#[derive(Debug, Clone, Copy)]
struct Terms {
    /// Topics are named by id.
    by_id: bool,
    /// None that an open transaction may change.
    stable: bool,
}

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: OffsetFetchRequest = call.decode()?;
    // A member must read its own earlier commits.
    call.ticket.after_writes().await;
    let terms = Terms { by_id: call.header.version >= BY_ID_FROM, stable: request.require_stable };
    let response = if call.header.version >= BATCHED_FROM {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(one_group(broker, call, group, terms).await);
        }
        OffsetFetchResponse::default().with_groups(groups)
    } else {
        let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id);
        let group = group.with_topics(request.topics.map(|topics| topics.into_iter().map(newer).collect()));
        let found = one_group(broker, call, group, terms).await;
        let topics = found.topics.into_iter().map(older).collect();
        OffsetFetchResponse::default().with_topics(topics).with_error_code(found.error_code)
    };
    Ok(Some(call.reply(&response)?))
}

fn newer(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
}

fn older(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    };
    let partitions = topic.partitions.into_iter().map(partition).collect();
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}

async fn one_group(
    broker: &Broker,
    call: &Call,
    asked: OffsetFetchRequestGroup,
    terms: Terms,
) -> OffsetFetchResponseGroup {
    let group = to_arc(&asked.group_id.0);
    if let Err(error) = check_member(broker, call, &group, &asked).await {
        return OffsetFetchResponseGroup::default()
            .with_group_id(asked.group_id)
            .with_error_code(error.code());
    }
    let topics = match asked.topics {
        Some(topics) => some_topics(broker, &group, topics, terms).await,
        None => all_topics(broker, &group, terms).await,
    };
    let response = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
    match topics {
        Ok(topics) => response.with_topics(topics),
        Err(error) => response.with_error_code(store_failed(call, &error).code()),
    }
}

/// A consumer protocol member sends its id and epoch; a client that is no member, such as a tool, neither.
async fn check_member(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    asked: &OffsetFetchRequestGroup,
) -> Result<(), ErrorCode> {
    if asked.member_id.is_none() && asked.member_epoch < 0 {
        return Ok(());
    }
    let id = Arc::from(asked.member_id.as_deref().unwrap_or_default());
    let member = MemberIdentity { id, instance_id: None, generation: asked.member_epoch };
    let view = broker.store.member_view(group, &member).await.map_err(|error| store_failed(call, &error))?;
    check_offset_fetch(view.as_ref(), asked.member_epoch)
}

async fn some_topics(
    broker: &Broker,
    group: &Arc<str>,
    asked: Vec<OffsetFetchRequestTopics>,
    terms: Terms,
) -> Result<Vec<OffsetFetchResponseTopics>, StoreError> {
    let by_id = terms.by_id;
    let unstable = Unstable::of(broker, group, terms).await?;
    let named: Vec<TopicRef> =
        asked.iter().map(|topic| TopicRef::new(by_id, &topic.name, topic.topic_id)).collect();
    let topics = DirectoryTopics::find(broker, &named).await?;
    let mut keys = Keys {
        group,
        asked: &asked,
        facts: named.iter().map(|topic| topics.topic(topic)).collect(),
        next: (0, 0),
    };
    let mut offsets = VecDeque::new();
    let mut found = Vec::with_capacity(asked.len());
    for (topic, asked) in named.iter().zip(&asked) {
        let facts = topics.topic(topic);
        // By name, an unknown topic is answered like one without committed offsets.
        let error = (by_id && facts.is_none()).then_some(ErrorCode::UnknownTopicId);
        let mut partitions = Vec::with_capacity(asked.partition_indexes.len());
        for index in &asked.partition_indexes {
            tokio::task::consume_budget().await;
            let (mut offset, mut error) = (None, error);
            if let Some(facts) = facts {
                if offsets.is_empty() {
                    let keys = keys.take();
                    let are_unstable = unstable.each(&keys).await?;
                    let found = broker.store.get::<OffsetDocument>(&keys).await?;
                    offsets.extend(found.into_iter().zip(are_unstable));
                }
                let (found, is_unstable) = offsets.pop_front().unwrap_or_default();
                offset = found.filter(|offset| offset.topic_id == facts.id);
                error = is_unstable.then_some(ErrorCode::UnstableOffsetCommit);
            }
            partitions.push(partition(*index, offset.as_deref(), error));
        }
        let response = OffsetFetchResponseTopics::default().with_name(asked.name.clone());
        found.push(response.with_topic_id(asked.topic_id).with_partitions(partitions));
    }
    Ok(found)
}

/// The partitions whose offsets open transactions may change.
enum Unstable<'a> {
    /// These; none if the client does not care.
    Known(BTreeSet<(Arc<str>, i32)>),
    /// There are many; each has to be looked up.
    Many(&'a Broker),
}

impl<'a> Unstable<'a> {
    async fn of(broker: &'a Broker, group: &Arc<str>, terms: Terms) -> Result<Self, StoreError> {
        if !terms.stable {
            return Ok(Unstable::Known(BTreeSet::new()));
        }
        let engine = broker.store.engine().await?;
        let pending = engine.scan(PendingOffset::of_group(group), None, PENDING_MAX).await?;
        if pending.len() == PENDING_MAX {
            return Ok(Unstable::Many(broker));
        }
        let keys = pending.iter().filter_map(|(key, _)| PendingOffset::parse_key(key));
        Ok(Unstable::Known(keys.map(|key| (key.topic, key.partition)).collect()))
    }

    /// Whether these are among them.
    async fn each(&self, keys: &[OffsetKey]) -> Result<Vec<bool>, StoreError> {
        let broker = match self {
            Unstable::Known(partitions) => {
                let is_in = |key: &OffsetKey| partitions.contains(&(Arc::clone(&key.topic), key.partition));
                return Ok(keys.iter().map(|key| !partitions.is_empty() && is_in(key)).collect());
            }
            Unstable::Many(broker) => *broker,
        };
        let engine = broker.store.engine().await?;
        let mut each = Vec::with_capacity(keys.len());
        for OffsetKey { group, topic, partition } in keys {
            let prefix = PendingOffset::of_offset(group, topic, *partition);
            each.push(!engine.scan(prefix, None, 1).await?.is_empty());
        }
        Ok(each)
    }
}

/// The keys of the offsets of known topics, in the order of the request.
struct Keys<'a> {
    group: &'a Arc<str>,
    asked: &'a [OffsetFetchRequestTopics],
    facts: Vec<Option<&'a TopicFacts>>,
    /// The topic and partition to go on with.
    next: (usize, usize),
}

impl Keys<'_> {
    /// The next keys, at most [`LOOKUPS_MAX`].
    fn take(&mut self) -> Vec<OffsetKey> {
        let mut keys = Vec::new();
        let (mut topic, mut from) = self.next;
        while topic < self.asked.len() && keys.len() < LOOKUPS_MAX {
            let indexes = &self.asked[topic].partition_indexes[from..];
            let count = indexes.len().min(LOOKUPS_MAX - keys.len());
            if let Some(facts) = self.facts[topic] {
                keys.extend(indexes[..count].iter().map(|index| key(self.group, &facts.name, *index)));
            }
            (topic, from) = if count < indexes.len() { (topic, from + count) } else { (topic + 1, 0) };
        }
        self.next = (topic, from);
        keys
    }
}

async fn all_topics(
    broker: &Broker,
    group: &Arc<str>,
    terms: Terms,
) -> Result<Vec<OffsetFetchResponseTopics>, StoreError> {
    let pending = if terms.stable { broker.store.pending_offsets(group).await? } else { BTreeSet::new() };
    let mut of_topics: BTreeMap<Arc<str>, Vec<(i32, Arc<OffsetDocument>)>> = BTreeMap::new();
    for (OffsetKey { topic, partition, .. }, offset) in broker.store.offsets(group).await? {
        of_topics.entry(topic).or_default().push((partition, offset));
    }
    let named: Vec<TopicRef> = of_topics.keys().map(|name| TopicRef::Name(Arc::clone(name))).collect();
    let topics = DirectoryTopics::find(broker, &named).await?;
    let mut found = Vec::with_capacity(of_topics.len());
    for (name, offsets) in of_topics {
        tokio::task::consume_budget().await;
        // A deleted topic has no committed offsets.
        let Some(facts) = topics.topic(&TopicRef::Name(Arc::clone(&name))) else { continue };
        let mut partitions = Vec::new();
        for (index, offset) in offsets.iter().filter(|(_, offset)| offset.topic_id == facts.id) {
            let is_unstable = pending.contains(&(Arc::clone(&name), *index));
            let error = is_unstable.then_some(ErrorCode::UnstableOffsetCommit);
            partitions.push(partition(*index, Some(&**offset), error));
        }
        if partitions.is_empty() {
            continue;
        }
        let response = OffsetFetchResponseTopics::default().with_partitions(partitions);
        found.push(if terms.by_id {
            response.with_topic_id(facts.id.0)
        } else {
            response.with_name(text::topic_name(&name))
        });
    }
    Ok(found)
}

fn key(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> OffsetKey {
    OffsetKey { group: Arc::clone(group), topic: Arc::clone(topic), partition }
}

fn partition(
    index: i32,
    offset: Option<&OffsetDocument>,
    error: Option<ErrorCode>,
) -> OffsetFetchResponsePartitions {
    let offset = offset.filter(|_| error.is_none());
    let metadata = offset.map(|offset| to_wire(&offset.metadata)).unwrap_or_default();
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(offset.map_or(NO_OFFSET, |offset| offset.offset))
        .with_committed_leader_epoch(offset.map_or(NO_EPOCH, |offset| offset.leader_epoch))
        .with_metadata(Some(metadata))
        .with_error_code(error.map_or(0, |error| error.code()))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::GroupId;
    use kafka_protocol::protocol::StrBytes;
    use kernel::Api;
    use rules::documents::TopicDocument;

    use super::*;
    use crate::apis::testing::{self, broker, topic};
    use crate::apis::testing_transactions::Transactional;

    const UNSTABLE: i16 = 88;

    fn partitions(topic: &TopicDocument) -> Vec<i32> {
        (0..topic.partitions).collect()
    }

    /// Offsets and errors of the partitions of a topic, or of all that the group has.
    async fn told(
        broker: &Arc<Broker>,
        version: i16,
        topic: Option<&TopicDocument>,
        stable: bool,
    ) -> Vec<(i32, i64, i16)> {
        let group = GroupId(StrBytes::from_static_str("g"));
        if version < BATCHED_FROM {
            let asked = topic.map(|topic| {
                let asked = OffsetFetchRequestTopic::default().with_name(text::topic_name(&topic.name));
                vec![asked.with_partition_indexes(partitions(topic))]
            });
            let request = OffsetFetchRequest::default().with_group_id(group).with_topics(asked);
            let request = request.with_require_stable(stable);
            let response: OffsetFetchResponse =
                testing::ask(broker, Api::OFFSET_FETCH, version, &request).await;
            let told = response.topics.iter().flat_map(|topic| &topic.partitions);
            return told.map(|part| (part.partition_index, part.committed_offset, part.error_code)).collect();
        }
        let asked = topic.map(|topic| {
            let named = OffsetFetchRequestTopics::default();
            let named = if version >= BY_ID_FROM {
                named.with_topic_id(topic.id.0)
            } else {
                named.with_name(text::topic_name(&topic.name))
            };
            vec![named.with_partition_indexes(partitions(topic))]
        });
        let group = OffsetFetchRequestGroup::default().with_group_id(group).with_topics(asked);
        let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(stable);
        let response: OffsetFetchResponse = testing::ask(broker, Api::OFFSET_FETCH, version, &request).await;
        let told = response.groups[0].topics.iter().flat_map(|topic| &topic.partitions);
        told.map(|part| (part.partition_index, part.committed_offset, part.error_code)).collect()
    }

    #[tokio::test]
    async fn an_offset_is_unstable_while_a_transaction_has_another_one() {
        let broker = broker().await;
        let orders = topic(&broker, "orders", 3, &[]).await;
        let mut producer = Transactional::new(&broker, "x").await;
        producer.commit_offsets("g", &orders, 0..2, 5).await;
        producer.end(true).await;
        producer.commit_offsets("g", &orders, 1..3, 8).await;
        let stable = [(0, 5, 0), (1, 5, 0), (2, -1, 0)];
        for version in 7..=9 {
            for (topic, count) in [(Some(&*orders), 3), (None, 2)] {
                assert_eq!(told(&broker, version, topic, false).await, stable[..count], "version {version}");
                let unstable = [(0, 5, 0), (1, -1, UNSTABLE), (2, -1, UNSTABLE)];
                assert_eq!(told(&broker, version, topic, true).await, unstable[..count], "version {version}");
            }
        }
        producer.end(false).await;
        assert_eq!(told(&broker, 9, Some(&*orders), true).await, stable, "it was aborted");
        producer.commit_offsets("g", &orders, 1..3, 9).await;
        producer.end(true).await;
        assert_eq!(told(&broker, 9, Some(&*orders), true).await, [(0, 5, 0), (1, 9, 0), (2, 9, 0)]);
    }

    #[tokio::test]
    async fn of_many_pending_offsets_each_that_is_asked_for_is_looked_up() {
        let broker = broker().await;
        let count = i32::try_from(PENDING_MAX).unwrap();
        let many = topic(&broker, "many", count + 1, &[]).await;
        let orders = topic(&broker, "orders", 2, &[]).await;
        let mut producer = Transactional::new(&broker, "x").await;
        producer.commit_offsets("g", &orders, 0..2, 5).await;
        producer.end(true).await;
        producer.commit_offsets("g", &many, 0..count, 8).await;
        producer.commit_offsets("g", &orders, 1..2, 8).await;
        let unstable = [(0, 5, 0), (1, -1, UNSTABLE)];
        assert_eq!(told(&broker, 9, Some(&*orders), true).await, unstable);
        assert_eq!(told(&broker, 9, None, true).await, unstable, "the others have none that is committed");
        let pending = told(&broker, 9, Some(&*many), true).await;
        assert!(pending[..PENDING_MAX].iter().all(|(_, _, error)| *error == UNSTABLE));
        assert_eq!(pending[PENDING_MAX], (count, -1, 0));
    }
}
