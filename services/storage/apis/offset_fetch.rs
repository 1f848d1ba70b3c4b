//! OffsetFetch: how far groups have come.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use kernel::{Call, ErrorCode};

use super::grouping::{own, store_failed, wire};
use super::lookup::{TopicRef, Topics};
use super::shared;
use crate::engines::StoreError;
use crate::rules::groups::OffsetDocument;
use crate::rules::{Document, Key};
use crate::service::{Answer, Service};

/// From this version on several groups are asked for at once (KIP-709).
const BATCHED_FROM: i16 = 8;
/// From this version on topics are named by id (KIP-848).
const BY_ID_FROM: i16 = 10;
/// What Kafka answers where nothing was committed.
const NO_OFFSET: i64 = -1;
const NO_EPOCH: i32 = -1;

pub(crate) async fn handle(service: &Service, call: &mut Call) -> Answer {
    let request: OffsetFetchRequest = call.decode()?;
    // A member reads what it has committed before.
    call.ticket.after_writes().await;
    let by_id = call.header.version >= BY_ID_FROM;
    let response = match call.header.version >= BATCHED_FROM {
        true => {
            let mut groups = Vec::with_capacity(request.groups.len());
            for group in request.groups {
                groups.push(one_group(service, call, group, by_id).await);
            }
            OffsetFetchResponse::default().with_groups(groups)
        }
        false => {
            let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id);
            let group =
                group.with_topics(request.topics.map(|topics| topics.into_iter().map(newer).collect()));
            let found = one_group(service, call, group, by_id).await;
            let topics = found.topics.into_iter().map(older).collect();
            OffsetFetchResponse::default().with_topics(topics).with_error_code(found.error_code)
        }
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
    service: &Service,
    call: &Call,
    asked: OffsetFetchRequestGroup,
    by_id: bool,
) -> OffsetFetchResponseGroup {
    let group = own(&asked.group_id.0);
    if let Err(error) = check_member(service, call, &group, &asked).await {
        return OffsetFetchResponseGroup::default()
            .with_group_id(asked.group_id)
            .with_error_code(error.code());
    }
    let topics = match asked.topics {
        Some(topics) => some_topics(service, &group, topics, by_id).await,
        None => all_topics(service, &group, by_id).await,
    };
    let response = OffsetFetchResponseGroup::default().with_group_id(asked.group_id);
    match topics {
        Ok(topics) => response.with_topics(topics),
        Err(error) => response.with_error_code(store_failed(call, &error).code()),
    }
}

/// A member of a group of the consumer protocol asks in its epoch; who is no member, such as a tool, says neither.
async fn check_member(
    service: &Service,
    call: &Call,
    group: &Arc<str>,
    asked: &OffsetFetchRequestGroup,
) -> Result<(), ErrorCode> {
    if asked.member_id.is_none() && asked.member_epoch < 0 {
        return Ok(());
    }
    let view = service.store.group(group).await.map_err(|error| store_failed(call, &error))?;
    let Some(view) = view.filter(|view| view.group.consumer.is_some()) else { return Ok(()) };
    let member = view.member(asked.member_id.as_deref().unwrap_or_default());
    let own = member.and_then(|member| member.consumer.as_ref()).ok_or(ErrorCode::UnknownMemberId)?;
    if own.epoch == asked.member_epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
}

async fn some_topics(
    service: &Service,
    group: &Arc<str>,
    asked: Vec<OffsetFetchRequestTopics>,
    by_id: bool,
) -> Result<Vec<OffsetFetchResponseTopics>, StoreError> {
    let named: Vec<TopicRef> =
        asked.iter().map(|topic| TopicRef::new(by_id, &topic.name, topic.topic_id)).collect();
    let topics = Topics::load(service, named.clone()).await?;
    let mut keys = Vec::new();
    for (topic, asked) in named.iter().zip(&asked) {
        if let Some(topic) = topics.topic(topic) {
            let key = |partition: &i32| Key::Offset(Arc::clone(group), Arc::clone(&topic.name), *partition);
            keys.extend(asked.partition_indexes.iter().map(key));
        }
    }
    let offsets = offsets(service, keys).await?;
    let mut found = Vec::with_capacity(asked.len());
    for (topic, asked) in named.iter().zip(asked) {
        let document = topics.topic(topic);
        // Who asks by name hears of an unknown topic as of one that nothing was committed for.
        let error = (by_id && document.is_none()).then_some(ErrorCode::UnknownTopicId);
        let partition = |index: i32| {
            let offset = document.and_then(|document| {
                let offset = offsets.get(&(Arc::clone(&document.name), index))?;
                (offset.topic_id == document.id).then_some(offset)
            });
            partition(index, offset, error)
        };
        let partitions = asked.partition_indexes.into_iter().map(partition).collect();
        let response =
            OffsetFetchResponseTopics::default().with_name(asked.name).with_topic_id(asked.topic_id);
        found.push(response.with_partitions(partitions));
    }
    Ok(found)
}

async fn all_topics(
    service: &Service,
    group: &Arc<str>,
    by_id: bool,
) -> Result<Vec<OffsetFetchResponseTopics>, StoreError> {
    let index = service.store.document(Key::OffsetIndex(Arc::clone(group))).await?;
    let Some(Document::OffsetIndex(index)) = index else { return Ok(Vec::new()) };
    let named = index.keys().map(|name| TopicRef::Name(Arc::clone(name))).collect();
    let topics = Topics::load(service, named).await?;
    let mut keys = Vec::new();
    for (name, partitions) in &*index {
        keys.extend(partitions.iter().map(|index| Key::Offset(Arc::clone(group), Arc::clone(name), *index)));
    }
    let offsets = offsets(service, keys).await?;
    let mut found = Vec::with_capacity(index.len());
    for (name, partitions) in &*index {
        // An offset does not outlive its topic.
        let Some(topic) = topics.topic(&TopicRef::Name(Arc::clone(name))) else { continue };
        let offset = |index: &i32| {
            let offset = offsets.get(&(Arc::clone(name), *index))?;
            (offset.topic_id == topic.id).then(|| partition(*index, Some(offset), None))
        };
        let partitions: Vec<_> = partitions.iter().filter_map(offset).collect();
        if partitions.is_empty() {
            continue;
        }
        let response = OffsetFetchResponseTopics::default().with_partitions(partitions);
        found.push(match by_id {
            true => response.with_topic_id(topic.id.0),
            false => response.with_name(shared::topic_name(name)),
        });
    }
    Ok(found)
}

async fn offsets(
    service: &Service,
    keys: Vec<Key>,
) -> Result<HashMap<(Arc<str>, i32), OffsetDocument>, StoreError> {
    let found = shared::load(service, keys).await?;
    let offset = |(key, document)| match (key, document) {
        (Key::Offset(_, topic, partition), Document::Offset(offset)) => Some(((topic, partition), offset)),
        _ => None,
    };
    Ok(found.into_iter().filter_map(offset).collect())
}

fn partition(
    index: i32,
    offset: Option<&OffsetDocument>,
    error: Option<ErrorCode>,
) -> OffsetFetchResponsePartitions {
    let metadata = offset.map(|offset| wire(&offset.metadata)).unwrap_or_default();
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(offset.map_or(NO_OFFSET, |offset| offset.offset))
        .with_committed_leader_epoch(offset.map_or(NO_EPOCH, |offset| offset.leader_epoch))
        .with_metadata(Some(metadata))
        .with_error_code(error.map_or(0, |error| error.code()))
}
