//! AddOffsetsToTxn: the group whose offsets a producer is about to commit in its transaction (KIP-98).
//!
//! Clients of transaction version 2 do not send it.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use kernel::{Call, ErrorCode};
use rules::commands::TransactionCommand;

use crate::apis::common::answer::Answer;
use crate::apis::common::text::to_arc;
use crate::apis::common::transactions::{commit, known_error, producer, transactional_id};
use crate::broker::Broker;

/// From this version on a client knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: AddOffsetsToTxnRequest = call.decode()?;
    let error = add(broker, call, &request).await.err();
    let error = error.map(|error| known_error(error, call.header.version >= FENCED_FROM));
    let response = AddOffsetsToTxnResponse::default().with_error_code(error.map_or(0, |error| error.code()));
    Ok(Some(call.reply(&response)?))
}

async fn add(broker: &Broker, call: &Call, request: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    let id = transactional_id(&request.transactional_id)?;
    let command = TransactionCommand::AddGroup {
        producer: producer(request.producer_id, request.producer_epoch),
        group: to_arc(&request.group_id.0),
        now_ms: broker.clock.now_ms(),
    };
    commit(broker, call, id, command).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::{GroupId, TransactionalId};
    use kernel::Api;
    use rules::commands::ProducerIdAndEpoch;
    use rules::documents::{TransactionGroup, TransactionGroupKey};

    use super::*;
    use crate::apis::common::text::str_bytes;
    use crate::apis::testing::{ask, broker, transactional_producer, versions};

    async fn add(broker: &Arc<Broker>, version: i16, id: &str, producer: ProducerIdAndEpoch) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(TransactionalId(str_bytes(id)))
            .with_producer_id(producer.id.0.into())
            .with_producer_epoch(producer.epoch)
            .with_group_id(GroupId(str_bytes("g")));
        let response: AddOffsetsToTxnResponse = ask(broker, Api::ADD_OFFSETS_TO_TXN, version, &request).await;
        response.error_code
    }

    #[tokio::test]
    async fn a_group_is_added_by_the_producer_alone() {
        let broker = broker().await;
        let producer = transactional_producer(&broker, "id").await;
        let old = ProducerIdAndEpoch { epoch: producer.epoch - 1, ..producer };
        for version in versions(Api::ADD_OFFSETS_TO_TXN) {
            let fenced = if version < FENCED_FROM { 47 } else { 90 };
            assert_eq!(add(&broker, version, "id", old).await, fenced);
            assert_eq!(add(&broker, version, "another", producer).await, 49);
            assert_eq!(add(&broker, version, "", producer).await, 42);
            assert_eq!(add(&broker, version, "id", producer).await, 0);
        }
        let key = TransactionGroupKey { transaction: Arc::from("id"), group: Arc::from("g") };
        assert!(broker.store.get_one::<TransactionGroup>(&key).await.unwrap().is_some());
    }
}
