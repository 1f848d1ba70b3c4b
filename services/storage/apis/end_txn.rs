//! EndTxn: commits or aborts a transaction, in all its partitions and groups at once (KIP-98).

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, EndTransaction, ProducerIdAndEpoch, TransactionCommand};

use crate::apis::common::answer::Answer;
use crate::apis::common::transactions::{commit, known_error, leader_epoch, producer, transactional_id};
use crate::broker::Broker;

/// From this version on a client knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 2;
/// From this version on a client has transaction version 2, and gets its next epoch with the answer (KIP-890).
const VERSION_2_FROM: i16 = 5;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: EndTxnRequest = call.decode()?;
    let response = match end(broker, call, &request).await {
        // Earlier versions have no fields for it.
        Ok(producer) => EndTxnResponse::default()
            .with_producer_id(producer.id.0.into())
            .with_producer_epoch(producer.epoch),
        Err(error) => {
            let error = known_error(error, call.header.version >= FENCED_FROM);
            EndTxnResponse::default().with_error_code(error.code())
        }
    };
    Ok(Some(call.reply(&response)?))
}

async fn end(broker: &Broker, call: &Call, request: &EndTxnRequest) -> Result<ProducerIdAndEpoch, ErrorCode> {
    let id = transactional_id(&request.transactional_id)?;
    let now_ms = broker.clock.now_ms();
    let command = TransactionCommand::End(EndTransaction {
        producer: producer(request.producer_id, request.producer_epoch),
        commit: request.committed,
        version: if call.header.version >= VERSION_2_FROM { 2 } else { 1 },
        now_ms,
        leader_epoch: leader_epoch(broker, call, now_ms).await?,
    });
    match commit(broker, call, id, command).await? {
        Applied::TransactionEnded(producer) => Ok(producer),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::TransactionalId;
    use kernel::Api;

    use super::*;
    use crate::apis::common::text::str_bytes;
    use crate::apis::testing::{ask, broker, open_transaction, transactional_producer};

    async fn end(
        broker: &Arc<Broker>,
        version: i16,
        id: &str,
        producer: ProducerIdAndEpoch,
        commit: bool,
    ) -> (i16, i64, i16) {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(str_bytes(id)))
            .with_producer_id(producer.id.0.into())
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        let response: EndTxnResponse = ask(broker, Api::END_TXN, version, &request).await;
        (response.error_code, response.producer_id.0, response.producer_epoch)
    }

    #[tokio::test]
    async fn a_repeated_call_is_no_error_and_one_that_contradicts_is() {
        let broker = broker().await;
        for version in 0..VERSION_2_FROM {
            for commit in [true, false] {
                let producer = open_transaction(&broker, "id").await;
                assert_eq!(end(&broker, version, "id", producer, commit).await, (0, -1, -1));
                assert_eq!(end(&broker, version, "id", producer, commit).await, (0, -1, -1));
                assert_eq!(end(&broker, version, "id", producer, !commit).await, (48, -1, -1));
            }
        }
    }

    #[tokio::test]
    async fn with_version_5_the_producer_gets_its_next_epoch() {
        let broker = broker().await;
        for commit in [true, false] {
            let producer = open_transaction(&broker, "id").await;
            let ProducerIdAndEpoch { id, epoch } = producer;
            assert_eq!(end(&broker, 5, "id", producer, commit).await, (0, id.0, epoch + 1));
            assert_eq!(end(&broker, 5, "id", producer, commit).await, (0, id.0, epoch + 1), "repeated");
            assert_eq!(end(&broker, 5, "id", producer, !commit).await, (48, -1, -1));
        }
    }

    #[tokio::test]
    async fn others_than_the_producer_are_refused() {
        let broker = broker().await;
        let idle = transactional_producer(&broker, "idle").await;
        let producer = open_transaction(&broker, "id").await;
        let old = ProducerIdAndEpoch { epoch: producer.epoch - 1, ..producer };
        for version in 0..=5 {
            let fenced = if version < FENCED_FROM { 47 } else { 90 };
            assert_eq!(end(&broker, version, "id", old, true).await, (fenced, -1, -1));
            assert_eq!(end(&broker, version, "idle", producer, true).await, (49, -1, -1));
            assert_eq!(end(&broker, version, "another", producer, true).await, (49, -1, -1));
            assert_eq!(end(&broker, version, "", producer, true).await, (42, -1, -1));
            assert_eq!(end(&broker, version, "idle", idle, true).await, (48, -1, -1), "nothing is open");
        }
    }
}
