//! OffsetFetch: the committed offsets of groups.

use std::collections::{BTreeMap, VecDeque};
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
use rules::documents::{OffsetDocument, OffsetKey};
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

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: OffsetFetchRequest = call.decode()?;
    // A member must read its own earlier commits.
    call.ticket.after_writes().await;
    let by_id = call.header.version >= BY_ID_FROM;
    let response = if call.header.version >= BATCHED_FROM {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(one_group(broker, call, group, by_id).await);
        }
        OffsetFetchResponse::default().with_groups(groups)
    } else {
        let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id);
        let group = group.with_topics(request.topics.map(|topics| topics.into_iter().map(newer).collect()));
        let found = one_group(broker, call, group, by_id).await;
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
    by_id: bool,
) -> OffsetFetchResponseGroup {
    let group = to_arc(&asked.group_id.0);
    if let Err(error) = check_member(broker, call, &group, &asked).await {
        return OffsetFetchResponseGroup::default()
            .with_group_id(asked.group_id)
            .with_error_code(error.code());
    }
    let topics = match asked.topics {
        Some(topics) => some_topics(broker, &group, topics, by_id).await,
        None => all_topics(broker, &group, by_id).await,
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
    by_id: bool,
) -> Result<Vec<OffsetFetchResponseTopics>, StoreError> {
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
            let mut offset = None;
            if let Some(facts) = facts {
                if offsets.is_empty() {
                    offsets.extend(broker.store.get::<OffsetDocument>(&keys.take()).await?);
                }
                offset = offsets.pop_front().flatten().filter(|offset| offset.topic_id == facts.id);
            }
            partitions.push(partition(*index, offset.as_deref(), error));
        }
        let response = OffsetFetchResponseTopics::default().with_name(asked.name.clone());
        found.push(response.with_topic_id(asked.topic_id).with_partitions(partitions));
    }
    Ok(found)
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
    by_id: bool,
) -> Result<Vec<OffsetFetchResponseTopics>, StoreError> {
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
        let own = offsets.iter().filter(|(_, offset)| offset.topic_id == facts.id);
        let partitions: Vec<_> =
            own.map(|(index, offset)| partition(*index, Some(&**offset), None)).collect();
        if partitions.is_empty() {
            continue;
        }
        let response = OffsetFetchResponseTopics::default().with_partitions(partitions);
        found.push(if by_id {
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
    let metadata = offset.map(|offset| to_wire(&offset.metadata)).unwrap_or_default();
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(offset.map_or(NO_OFFSET, |offset| offset.offset))
        .with_committed_leader_epoch(offset.map_or(NO_EPOCH, |offset| offset.leader_epoch))
        .with_metadata(Some(metadata))
        .with_error_code(error.map_or(0, |error| error.code()))
}
