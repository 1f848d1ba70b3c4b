//! AddPartitionsToTxn: the partitions that a producer is about to write to in its transaction (KIP-98).
//!
//! Clients of transaction version 2 do not send it. From version 4 on, brokers of Kafka send it to each other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use kernel::{Call, ErrorCode, TopicId, TopicPartition};
use rules::commands::TransactionCommand;
use rules::documents::TopicDocument;
use tracing::warn;
use uuid::Uuid;

use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::directory::DirectoryTopics;
use crate::apis::common::groups::store_failed;
use crate::apis::common::transactions::{OTHER_SERVICE, commit, known_error, producer, transactional_id};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::TopicRef;

/// From this version on a client knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;
/// From this version on a request has several transactions, and comes from a broker.
const BROKERS_FROM: i16 = 4;

/// A partition, as the request names it.
type PartitionRef = (TopicRef, i32);

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let version = call.header.version;
    // First of all, so that a malformed request is told apart, whoever sends it.
    let request: AddPartitionsToTxnRequest = call.decode()?;
    if version >= BROKERS_FROM {
        // Kafka allows it to those who may act for the cluster. No client may here.
        let message =
            format!("AddPartitionsToTxn from version {BROKERS_FROM} on is for brokers, not for clients");
        return Err(ApiError::Refused(ErrorCode::ClusterAuthorizationFailed, message));
    }
    let asked: Vec<PartitionRef> = request.v3_and_below_topics.iter().flat_map(partitions).collect();
    let mut errors = add(broker, call, &request, &asked).await.into_iter();
    let topic = |topic: AddPartitionsToTxnTopic| {
        let results = topic.partitions.iter().zip(errors.by_ref()).map(|(index, error)| {
            let error = error.map(|error| known_error(error, version >= FENCED_FROM));
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(error.map_or(0, |error| error.code()))
        });
        let results = results.collect();
        AddPartitionsToTxnTopicResult::default().with_name(topic.name).with_results_by_partition(results)
    };
    let topics = request.v3_and_below_topics.into_iter().map(topic).collect();
    let response = AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics);
    Ok(Some(call.reply(&response)?))
}

fn partitions(topic: &AddPartitionsToTxnTopic) -> impl Iterator<Item = PartitionRef> {
    let named = TopicRef::new(false, &topic.name, Uuid::nil());
    topic.partitions.iter().map(move |index| (named.clone(), *index))
}

/// Adds all partitions or none; returns the error of each.
async fn add(
    broker: &Broker,
    call: &Call,
    request: &AddPartitionsToTxnRequest,
    asked: &[PartitionRef],
) -> Vec<Option<ErrorCode>> {
    let found = match find(broker, call, asked).await {
        Ok(found) => found,
        Err(error) => return vec![Some(store_failed(call, &error)); asked.len()],
    };
    if found.iter().any(Result::is_err) {
        let error = |found: Result<TopicPartition, ErrorCode>| {
            Some(found.err().unwrap_or(ErrorCode::OperationNotAttempted))
        };
        return found.into_iter().map(error).collect();
    }
    let partitions = found.into_iter().flatten().collect();
    vec![add_found(broker, call, request, partitions).await.err(); asked.len()]
}

async fn add_found(
    broker: &Broker,
    call: &Call,
    request: &AddPartitionsToTxnRequest,
    partitions: Vec<TopicPartition>,
) -> Result<(), ErrorCode> {
    let id = transactional_id(&request.v3_and_below_transactional_id)?;
    let command = TransactionCommand::AddPartitions {
        producer: producer(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch),
        partitions,
        now_ms: broker.clock.now_ms(),
    };
    commit(broker, call, id, command).await.map(drop)
}

/// The partitions, each with its error if it cannot be in the transaction.
async fn find(
    broker: &Broker,
    call: &Call,
    asked: &[PartitionRef],
) -> Result<Vec<Result<TopicPartition, ErrorCode>>, StoreError> {
    let topics = DirectoryTopics::find_to_write(broker, &call.ticket, asked).await?;
    let ids: BTreeSet<TopicId> =
        asked.iter().filter_map(|(topic, _)| topics.topic(topic)).map(|facts| facts.id).collect();
    let own = broker.store.topics_by_id(ids.into_iter().collect()).await?;
    let (mut found, mut elsewhere) = (Vec::with_capacity(asked.len()), None);
    for (topic, index) in asked {
        tokio::task::consume_budget().await;
        let one = find_one(&topics, &own, topic, *index);
        if one == Err(ErrorCode::InvalidTxnState) {
            elsewhere = topics.topic(topic);
        }
        found.push(one);
    }
    if let Some(facts) = elsewhere {
        // The response has no message, and the error is fatal to the producer.
        warn!(topic = &*facts.name, "a transaction was refused: {OTHER_SERVICE}");
    }
    Ok(found)
}

fn find_one(
    topics: &DirectoryTopics,
    own: &HashMap<TopicId, Arc<TopicDocument>>,
    topic: &TopicRef,
    index: i32,
) -> Result<TopicPartition, ErrorCode> {
    let facts = topics.partition(topic, index)?;
    let is_own = own.contains_key(&facts.id);
    let partition = TopicPartition { topic: facts.id, partition: index };
    is_own.then_some(partition).ok_or(ErrorCode::InvalidTxnState)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ProducerId, TransactionalId};
    use kernel::Api;
    use kernel::ports::{BoxFuture, TopicDirectory, TopicFacts};
    use rules::commands::ProducerIdAndEpoch;
    use rules::documents::{TransactionDocument, TransactionPartition, TransactionPartitionKey};

    use super::*;
    use crate::apis::common::text;
    use crate::apis::testing::{ask, broker, topic, transactional_producer};

    fn request(
        id: &str,
        ProducerIdAndEpoch { id: producer, epoch }: ProducerIdAndEpoch,
        topics: &[(&str, &[i32])],
    ) -> AddPartitionsToTxnRequest {
        let topic = |(name, partitions): &(&str, &[i32])| {
            AddPartitionsToTxnTopic::default()
                .with_name(text::topic_name(name))
                .with_partitions(partitions.to_vec())
        };
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text::str_bytes(id)))
            .with_v3_and_below_producer_id(ProducerId(producer.0))
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(topics.iter().map(topic).collect())
    }

    async fn add(
        broker: &Arc<Broker>,
        version: i16,
        request: &AddPartitionsToTxnRequest,
    ) -> Vec<(String, i32, i16)> {
        let response: AddPartitionsToTxnResponse =
            ask(broker, Api::ADD_PARTITIONS_TO_TXN, version, request).await;
        let rows = response.results_by_topic_v3_and_below.into_iter().flat_map(|topic| {
            let name = topic.name.as_str().to_owned();
            let results = topic.results_by_partition.into_iter();
            results.map(move |result| (name.clone(), result.partition_index, result.partition_error_code))
        });
        rows.collect()
    }

    fn row(topic: &str, partition: i32, code: i16) -> (String, i32, i16) {
        (topic.to_owned(), partition, code)
    }

    async fn is_added(broker: &Broker, id: &str, partition: TopicPartition) -> bool {
        let key = TransactionPartitionKey { transaction: Arc::from(id), partition };
        broker.store.get_one::<TransactionPartition>(&key).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn partitions_are_added_in_the_order_of_the_request() {
        let broker = broker().await;
        let (orders, payments) =
            (topic(&broker, "orders", 2, &[]).await, topic(&broker, "payments", 1, &[]).await);
        let producer = transactional_producer(&broker, "id").await;
        for version in 0..BROKERS_FROM {
            let asked = request("id", producer, &[("payments", &[0]), ("orders", &[1, 0, 1])]);
            let expected =
                [row("payments", 0, 0), row("orders", 1, 0), row("orders", 0, 0), row("orders", 1, 0)];
            assert_eq!(add(&broker, version, &asked).await, expected);
        }
        for partition in [orders.partition(0), orders.partition(1), payments.partition(0)] {
            assert!(is_added(&broker, "id", partition.unwrap()).await);
        }
    }

    #[tokio::test]
    async fn with_one_that_is_unknown_none_is_added() {
        let broker = broker().await;
        let orders = topic(&broker, "orders", 1, &[]).await;
        let producer = transactional_producer(&broker, "id").await;
        let asked = request("id", producer, &[("orders", &[0, 1]), ("unknown", &[0])]);
        let expected = [row("orders", 0, 55), row("orders", 1, 3), row("unknown", 0, 3)];
        assert_eq!(add(&broker, 3, &asked).await, expected);
        assert!(!is_added(&broker, "id", orders.partition(0).unwrap()).await);
    }

    #[tokio::test]
    async fn others_than_the_producer_are_refused() {
        let broker = broker().await;
        topic(&broker, "orders", 1, &[]).await;
        let producer = transactional_producer(&broker, "id").await;
        let old = ProducerIdAndEpoch { epoch: producer.epoch - 1, ..producer };
        let other = ProducerIdAndEpoch { id: kernel::ProducerId(producer.id.0 + 1), ..producer };
        let topics: &[(&str, &[i32])] = &[("orders", &[0])];
        for version in 0..BROKERS_FROM {
            let fenced = if version < FENCED_FROM { 47 } else { 90 };
            for (id, producer, code) in [
                ("id", producer, 0),
                ("id", old, fenced),
                ("id", other, 49),
                ("another", producer, 49),
                ("", producer, 42),
            ] {
                let added = add(&broker, version, &request(id, producer, topics)).await;
                assert_eq!(added, [row("orders", 0, code)], "{version} {id}");
            }
        }
    }

    #[tokio::test]
    async fn a_request_without_partitions_begins_a_transaction() {
        let broker = broker().await;
        let producer = transactional_producer(&broker, "id").await;
        assert!(add(&broker, 3, &request("id", producer, &[])).await.is_empty());
        let document = broker.store.get_one::<TransactionDocument>(&Arc::from("id")).await.unwrap().unwrap();
        assert!(document.is_ongoing());
    }

    #[tokio::test]
    async fn the_requests_of_brokers_are_refused_to_clients() {
        let broker = broker().await;
        for version in [4, 5] {
            let response: AddPartitionsToTxnResponse =
                ask(&broker, Api::ADD_PARTITIONS_TO_TXN, version, &AddPartitionsToTxnRequest::default())
                    .await;
            assert_eq!((response.error_code, response.results_by_transaction.len()), (31, 0));
        }
    }

    /// The topics of the broker and one of another service.
    struct Routed(crate::store::Store);

    impl TopicDirectory for Routed {
        fn by_name(&self, names: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
            Box::pin(async move {
                let has_far = names.iter().any(|name| &**name == "far");
                let id = TopicId(Uuid::from_u128(7));
                let far = has_far.then(|| TopicFacts { name: Arc::from("far"), id, partitions: 1 });
                let mut found = self.0.by_name(names).await?;
                found.extend(far);
                Ok(found)
            })
        }

        fn by_id(&self, ids: Vec<TopicId>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
            self.0.by_id(ids)
        }

        fn all(&self) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
            self.0.all()
        }

        fn version(&self) -> u64 {
            self.0.version()
        }
    }

    #[tokio::test]
    async fn a_topic_of_another_service_is_refused() {
        let broker = broker().await;
        topic(&broker, "orders", 1, &[]).await;
        broker.set_directory(Arc::new(Routed(broker.store.clone())));
        let producer = transactional_producer(&broker, "id").await;
        let asked = request("id", producer, &[("far", &[0, 1]), ("orders", &[0])]);
        let expected = [row("far", 0, 48), row("far", 1, 3), row("orders", 0, 55)];
        assert_eq!(add(&broker, 3, &asked).await, expected);
        assert_eq!(
            add(&broker, 3, &request("id", producer, &[("orders", &[0])])).await,
            [row("orders", 0, 0)]
        );
    }
}
