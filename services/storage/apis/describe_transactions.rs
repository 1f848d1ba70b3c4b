//! DescribeTransactions (KIP-664): the producer and the state of transactional ids, and the partitions in their open
//! transactions.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse, TransactionalId};
use kernel::{Call, ErrorCode, TopicId};
use rules::documents::{TransactionDocument, TransactionPartition};

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::store_failed;
use crate::apis::common::repeats::without_repeats;
use crate::apis::common::text;
use crate::apis::common::transactions::transactional_id;
use crate::broker::Broker;
use crate::engines::StoreError;

/// The start of a transaction that is not open, in ms.
const NOT_STARTED: i64 = -1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeTransactionsRequest = call.decode()?;
    call.ticket.after_writes().await;
    let asked = without_repeats(request.transactional_ids, TransactionalId::clone);
    let mut states = Vec::with_capacity(asked.len());
    for id in asked {
        let described = describe(broker, call, &id).await;
        let state =
            described.unwrap_or_else(|error| TransactionState::default().with_error_code(error.code()));
        states.push(state.with_transactional_id(id));
    }
    let response = DescribeTransactionsResponse::default().with_transaction_states(states);
    Ok(Some(call.reply(&response)?))
}

async fn describe(broker: &Broker, call: &Call, id: &TransactionalId) -> Result<TransactionState, ErrorCode> {
    let id = transactional_id(id)?;
    let failed = |error: StoreError| store_failed(call, &error);
    let document = broker.store.get_one::<TransactionDocument>(&id).await.map_err(failed)?;
    let document = document.ok_or(ErrorCode::TransactionalIdNotFound)?;
    let topics = if document.is_ongoing() { topics(broker, &id).await.map_err(failed)? } else { Vec::new() };
    Ok(TransactionState::default()
        .with_transaction_state(text::str_bytes(document.state.name()))
        .with_transaction_timeout_ms(document.timeout_ms)
        .with_transaction_start_time_ms(document.started_ms.unwrap_or(NOT_STARTED))
        .with_producer_id(document.producer_id.0.into())
        .with_producer_epoch(document.epoch)
        .with_topics(topics))
}

/// The partitions in an open transaction, in order. Those that were deleted are left out.
async fn topics(broker: &Broker, id: &Arc<str>) -> Result<Vec<TopicData>, StoreError> {
    let prefix = TransactionPartition::of_transaction(id);
    let added = broker.store.scan::<TransactionPartition>(prefix).await?;
    let partitions = || added.iter().map(|(key, _)| key.partition);
    let mut ids: Vec<TopicId> = partitions().map(|at| at.topic).collect();
    ids.dedup();
    let known = broker.store.topics_by_id(ids).await?;
    let mut by_name: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for at in partitions() {
        if let Some(topic) = known.get(&at.topic) {
            by_name.entry(&topic.name).or_default().push(at.partition);
        }
    }
    let topic = |(name, mut partitions): (&str, Vec<i32>)| {
        // The order of keys is that of numbers as text.
        partitions.sort_unstable();
        TopicData::default().with_topic(text::topic_name(name)).with_partitions(partitions)
    };
    Ok(by_name.into_iter().map(topic).collect())
}

#[cfg(test)]
mod tests {
    use kernel::Api;

    use super::*;
    use crate::apis::testing::{
        NOW_MS, ask, broker, end_transaction, open_transaction, produce_in_transaction, topic,
        transactional_producer,
    };

    async fn describe(broker: &Arc<Broker>, ids: &[&str]) -> Vec<TransactionState> {
        let ids = ids.iter().map(|id| TransactionalId(text::str_bytes(id)));
        let request = DescribeTransactionsRequest::default().with_transactional_ids(ids.collect());
        let response: DescribeTransactionsResponse =
            ask(broker, Api::DESCRIBE_TRANSACTIONS, 0, &request).await;
        response.transaction_states
    }

    #[tokio::test]
    async fn an_open_transaction_is_shown_with_its_partitions() {
        let broker = broker().await;
        let (orders, audit) =
            (topic(&broker, "orders", 11, &[]).await, topic(&broker, "audit", 1, &[]).await);
        let producer = transactional_producer(&broker, "id").await;
        let fresh = describe(&broker, &["id"]).await.remove(0);
        let expected = TransactionState::default()
            .with_transactional_id(TransactionalId(text::str_bytes("id")))
            .with_transaction_state(text::str_bytes("Empty"))
            .with_transaction_timeout_ms(60_000)
            .with_transaction_start_time_ms(-1)
            .with_producer_id(producer.id.0.into())
            .with_producer_epoch(producer.epoch);
        assert_eq!(fresh, expected);
        for partition in [orders.partition(10), orders.partition(2), audit.partition(0)] {
            produce_in_transaction(&broker, "id", producer, partition.unwrap()).await;
        }
        let data = |name, partitions: &[i32]| {
            TopicData::default().with_topic(text::topic_name(name)).with_partitions(partitions.to_vec())
        };
        let open = expected
            .clone()
            .with_transaction_state(text::str_bytes("Ongoing"))
            .with_transaction_start_time_ms(NOW_MS)
            .with_topics(vec![data("audit", &[0]), data("orders", &[2, 10])]);
        assert_eq!(describe(&broker, &["id", "id"]).await, [open.clone(), open]);
        end_transaction(&broker, "id", producer, false).await;
        // Since when it ran is shown still, as Kafka does.
        let ended = expected
            .with_transaction_state(text::str_bytes("CompleteAbort"))
            .with_transaction_start_time_ms(NOW_MS);
        assert_eq!(describe(&broker, &["id"]).await, [ended]);
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_for_each_id() {
        let broker = broker().await;
        open_transaction(&broker, "id").await;
        let described = describe(&broker, &["unknown", "id", ""]).await;
        let rows: Vec<_> =
            described.iter().map(|state| (state.transactional_id.as_str(), state.error_code)).collect();
        assert_eq!(rows, [("unknown", 105), ("id", 0), ("", 42)]);
    }
}
