//! OffsetCommit: stores the committed offsets of a group.

use std::sync::Arc;

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use kernel::{Call, ErrorCode};
use rules::commands::{CommittedOffset, GroupCommand};
use rules::documents::GroupDocument;

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::{commit, identity, store_failed};
use crate::apis::common::offsets::{AskedOffset, Dates, Row, find_all};
use crate::apis::common::requests::by_topic;
use crate::apis::common::text::to_arc;
use crate::broker::Broker;
use crate::store::TopicRef;

/// From this version on topics are named by id (KIP-848).
const BY_ID_FROM: i16 = 10;
/// From this version on a client understands member epoch errors (KIP-848).
const EPOCHS_FROM: i16 = 9;
/// Before this version the error for an unknown group is ILLEGAL_GENERATION.
const UNKNOWN_GROUP_FROM: i16 = 9;
/// Kafka's "use the broker's offset retention".
const BROKERS_RETENTION: i64 = -1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: OffsetCommitRequest = call.decode()?;
    let rows = commit_rows(broker, call, &request).await;
    let partition = |(topic, index, result): Row| {
        let code = result.err().map_or(0, |error| error.code());
        let partition = OffsetCommitResponsePartition::default().with_partition_index(index);
        (topic, partition.with_error_code(code))
    };
    let topics = by_topic(rows.into_iter().map(partition)).into_iter();
    let topics = topics.map(|(topic, partitions)| {
        let response = OffsetCommitResponseTopic::default().with_name(topic.wire_name());
        response.with_topic_id(topic.wire_id()).with_partitions(partitions)
    });
    let response = OffsetCommitResponse::default().with_topics(topics.collect());
    Ok(Some(call.reply(&response)?))
}

async fn commit_rows(broker: &Broker, call: &Call, request: &OffsetCommitRequest) -> Vec<Row> {
    let version = call.header.version;
    let mut asked = Vec::new();
    for topic in &request.topics {
        let named = TopicRef::new(version >= BY_ID_FROM, &topic.name, topic.topic_id);
        asked.extend(topic.partitions.iter().map(|partition| asked_offset(named.clone(), partition)));
    }
    let now_ms = broker.clock.now_ms();
    let expires_ms = (request.retention_time_ms != BROKERS_RETENTION && version < 5)
        .then(|| now_ms.saturating_add(request.retention_time_ms));
    let (mut rows, offsets) = find_all(broker, call, asked, Dates { now_ms, expires_ms }).await;
    if !offsets.is_empty()
        && let Err(error) = commit_all(broker, call, request, offsets, now_ms).await
    {
        let good = rows.iter_mut().filter(|(_, _, result)| result.is_ok());
        good.for_each(|(_, _, result)| *result = Err(error));
    }
    rows
}

fn asked_offset(topic: TopicRef, partition: &OffsetCommitRequestPartition) -> AskedOffset<'_> {
    AskedOffset {
        topic,
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.as_ref(),
    }
}

async fn commit_all(
    broker: &Broker,
    call: &Call,
    request: &OffsetCommitRequest,
    offsets: Vec<CommittedOffset>,
    now_ms: i64,
) -> Result<(), ErrorCode> {
    let generation = request.generation_id_or_member_epoch;
    let member = identity(&request.member_id, request.group_instance_id.as_ref(), generation);
    let group = to_arc(&request.group_id.0);
    let id = Arc::clone(&member.id);
    let knows_epochs = call.header.version >= EPOCHS_FROM;
    let committed =
        commit(broker, call, &group, GroupCommand::CommitOffsets { member, offsets, knows_epochs, now_ms })
            .await;
    match committed {
        Ok(_) => {
            // A commit restarts the member's session timeout, but not in a group of the consumer protocol: its members have to
            // send heartbeats, or a rebalance would wait for one that only commits. Without a generation, it need not be one.
            if !id.is_empty() && generation >= 0 && is_classic(broker, call, &group).await? {
                broker.coordinator.heard(&group, &id);
            }
            Ok(())
        }
        Err(ErrorCode::GroupIdNotFound) if call.header.version < UNKNOWN_GROUP_FROM => {
            Err(ErrorCode::IllegalGeneration)
        }
        Err(error) => Err(error),
    }
}

async fn is_classic(broker: &Broker, call: &Call, group: &Arc<str>) -> Result<bool, ErrorCode> {
    let found = broker.store.get_one::<GroupDocument>(group).await;
    let found = found.map_err(|error| store_failed(call, &error))?;
    Ok(found.is_some_and(|document| document.consumer.is_none()))
}
