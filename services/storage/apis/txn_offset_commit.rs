//! TxnOffsetCommit: offsets of a group that are committed with a transaction (KIP-98, KIP-447).
//!
//! Until then they are pending, and OffsetFetch tells the offsets before them. The topics may be of any service: offsets are
//! where groups are.

use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use kernel::{Call, ErrorCode};
use rules::commands::{CommitTransactionOffsets, CommittedOffset, TransactionCommand};
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::directory::DirectoryTopics;
use crate::apis::common::groups::{check_group_id, identity};
use crate::apis::common::offsets::{AskedOffset, Dates, Row, find_all};
use crate::apis::common::requests::by_topic;
use crate::apis::common::text::to_arc;
use crate::apis::common::transactions::{Joining, commit, producer, transactional_id};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::TopicRef;

/// With transaction version 2 the group joins the transaction (KIP-890).
const JOINING: Joining = Joining { joins_from: 5, abortable_from: 4 };

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: TxnOffsetCommitRequest = call.decode()?;
    let rows = commit_rows(broker, call, &request).await;
    let partition = |(topic, index, result): Row| {
        let code = result.err().map_or(0, |error| error.code());
        let partition = TxnOffsetCommitResponsePartition::default().with_partition_index(index);
        (topic, partition.with_error_code(code))
    };
    let topics = by_topic(rows.into_iter().map(partition)).into_iter().map(|(topic, partitions)| {
        TxnOffsetCommitResponseTopic::default().with_name(topic.wire_name()).with_partitions(partitions)
    });
    let topics = topics.chain(unknown(broker, &request).await?).collect();
    let response = TxnOffsetCommitResponse::default().with_topics(topics);
    Ok(Some(call.reply(&response)?))
}

/// The topics that the request names without partitions, and that do not exist: Kafka names them as well.
async fn unknown(
    broker: &Broker,
    request: &TxnOffsetCommitRequest,
) -> Result<Vec<TxnOffsetCommitResponseTopic>, StoreError> {
    let without_partitions = request.topics.iter().filter(|topic| topic.partitions.is_empty());
    let named: Vec<_> =
        without_partitions.map(|topic| TopicRef::new(false, &topic.name, Uuid::nil())).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let topics = DirectoryTopics::find(broker, &named).await?;
    let unknown = named.iter().filter(|named| topics.topic(named).is_none());
    Ok(unknown.map(|named| TxnOffsetCommitResponseTopic::default().with_name(named.wire_name())).collect())
}

async fn commit_rows(broker: &Broker, call: &Call, request: &TxnOffsetCommitRequest) -> Vec<Row> {
    let mut asked = Vec::new();
    for topic in &request.topics {
        let named = TopicRef::new(false, &topic.name, Uuid::nil());
        asked.extend(topic.partitions.iter().map(|partition| asked_offset(named.clone(), partition)));
    }
    let now_ms = broker.clock.now_ms();
    let (mut rows, offsets) = find_all(broker, call, asked, Dates { now_ms, expires_ms: None }).await;
    // The transaction is checked, and joined, before metadata is looked at, as in Kafka.
    let is_judged = |(_, _, result): &Row| matches!(result, Ok(()) | Err(ErrorCode::OffsetMetadataTooLarge));
    if rows.iter().any(is_judged)
        && let Err(error) = commit_all(broker, call, request, offsets, now_ms).await
    {
        rows.iter_mut().filter(|row| is_judged(row)).for_each(|(_, _, result)| *result = Err(error));
    }
    rows
}

fn asked_offset(topic: TopicRef, partition: &TxnOffsetCommitRequestPartition) -> AskedOffset<'_> {
    AskedOffset {
        topic,
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.as_ref(),
    }
}

/// The group is checked before the transactional id, as in Kafka.
async fn commit_all(
    broker: &Broker,
    call: &Call,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<CommittedOffset>,
    now_ms: i64,
) -> Result<(), ErrorCode> {
    check_group_id(&request.group_id)?;
    let id = transactional_id(&request.transactional_id)?;
    let commit_offsets = CommitTransactionOffsets {
        producer: producer(request.producer_id, request.producer_epoch),
        group: to_arc(&request.group_id.0),
        member: identity(&request.member_id, request.group_instance_id.as_ref(), request.generation_id),
        offsets,
        if_not_added: JOINING.if_not_added(call.header.version),
        now_ms,
    };
    let command = TransactionCommand::CommitOffsets(Box::new(commit_offsets));
    commit(broker, call, id, command).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
    use kafka_protocol::messages::{GroupId, TransactionalId};
    use kafka_protocol::protocol::StrBytes;
    use kernel::Api;
    use rules::commands::ProducerIdAndEpoch;
    use rules::documents::{OffsetDocument, OffsetKey, TransactionOffset, TransactionOffsetKey};

    use super::*;
    use crate::apis::common::text;
    use crate::apis::testing::{
        ask, broker, end_transaction, open_transaction, topic, transactional_producer, versions,
    };

    fn request(id: &str, group: &str, producer: ProducerIdAndEpoch, topic: &str) -> TxnOffsetCommitRequest {
        let partition = |index| {
            TxnOffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(7)
        };
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(text::topic_name(topic))
            .with_partitions(vec![partition(0), partition(9)]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(text::str_bytes(id)))
            .with_group_id(GroupId(text::str_bytes(group)))
            .with_producer_id(producer.id.0.into())
            .with_producer_epoch(producer.epoch)
            .with_topics(vec![topic])
    }

    /// The codes of the two partitions.
    async fn commit(broker: &Arc<Broker>, version: i16, request: &TxnOffsetCommitRequest) -> [i16; 2] {
        let response: TxnOffsetCommitResponse = ask(broker, Api::TXN_OFFSET_COMMIT, version, request).await;
        let [topic] = &response.topics[..] else { panic!("{response:?}") };
        let [one, other] = &topic.partitions[..] else { panic!("{topic:?}") };
        assert_eq!((one.partition_index, other.partition_index), (0, 9));
        [one.error_code, other.error_code]
    }

    async fn committed(broker: &Broker) -> Option<i64> {
        let key = OffsetKey { group: Arc::from("g"), topic: Arc::from("orders"), partition: 0 };
        let document = broker.store.get_one::<OffsetDocument>(&key).await.unwrap();
        document.map(|document| document.offset)
    }

    #[tokio::test]
    async fn offsets_are_committed_with_the_transaction() {
        let broker = broker().await;
        topic(&broker, "orders", 1, &[]).await;
        for version in versions(Api::TXN_OFFSET_COMMIT) {
            let producer = open_transaction(&broker, "id").await;
            assert_eq!(commit(&broker, version, &request("id", "g", producer, "orders")).await, [0, 3]);
            let key = TransactionOffsetKey {
                transaction: Arc::from("id"),
                group: Arc::from("g"),
                topic: Arc::from("orders"),
                partition: 0,
            };
            let pending = broker.store.get_one::<TransactionOffset>(&key).await.unwrap().unwrap();
            assert_eq!((pending.0.offset, pending.0.expires_ms), (7, None));
            let is_last = version == 5;
            end_transaction(&broker, "id", producer, is_last).await;
            assert_eq!(committed(&broker).await, is_last.then_some(7));
        }
    }

    #[tokio::test]
    async fn a_group_that_was_not_added_joins_with_version_5() {
        let broker = broker().await;
        topic(&broker, "orders", 1, &[]).await;
        let producer = transactional_producer(&broker, "id").await;
        for (version, code) in [(0, 48), (3, 48), (4, 120), (5, 0), (4, 0), (0, 0)] {
            let asked = request("id", "g", producer, "orders");
            assert_eq!(commit(&broker, version, &asked).await, [code, 3], "version {version}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_for_each_partition() {
        let broker = broker().await;
        topic(&broker, "orders", 1, &[]).await;
        let producer = open_transaction(&broker, "id").await;
        let old = ProducerIdAndEpoch { epoch: producer.epoch - 1, ..producer };
        for version in versions(Api::TXN_OFFSET_COMMIT) {
            for (id, group, producer, topic, codes) in [
                ("id", "g", producer, "unknown", [3, 3]),
                ("id", "g", old, "orders", [47, 3]),
                ("another", "g", producer, "orders", [49, 3]),
                ("", "g", producer, "orders", [42, 3]),
                ("id", "", producer, "orders", [24, 3]),
            ] {
                let asked = request(id, group, producer, topic);
                assert_eq!(commit(&broker, version, &asked).await, codes, "version {version}, {id} {group}");
            }
        }
        let mut long = request("id", "g", producer, "orders");
        let metadata = StrBytes::from_string("x".repeat(4_097));
        long.topics[0].partitions[0].committed_metadata = Some(metadata);
        assert_eq!(commit(&broker, 5, &long).await, [12, 3]);
        let of_member = request("id", "unknown", producer, "orders").with_generation_id(3);
        assert_eq!(commit(&broker, 5, &of_member).await, [22, 3]);
    }
}
