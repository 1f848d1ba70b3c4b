//! InitProducerId: a new producer id for an idempotent producer (KIP-98).
//!
//! A producer that already has an id and asks again (KIP-360) gets a new one, as in Kafka: only transactional
//! producers keep their id. There are no transactions yet.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, Command};
use tracing::warn;

use crate::apis::common::answer::Answer;
use crate::broker::Broker;

const NO_ID: i64 = -1;
const NO_EPOCH: i16 = -1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: InitProducerIdRequest = call.decode()?;
    let response = match check(&request) {
        Err(error) => refusal(error),
        Ok(()) => match broker.store.commit_one(&call.ticket, allocate(broker)).await? {
            Ok(Applied::Producer(id)) => {
                InitProducerIdResponse::default().with_producer_id(ProducerId(id.0)).with_producer_epoch(0)
            }
            Ok(_) => refusal(ErrorCode::UnknownServerError),
            Err(refused) => refusal(refused.error),
        },
    };
    Ok(Some(call.reply(&response)?))
}

fn allocate(broker: &Broker) -> Command {
    Command::AllocateProducerId { seed: broker.fresh_id().as_u128() as u32 }
}

fn check(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    // Producer id and epoch are both set or both absent; before KIP-360 both are absent.
    if (request.producer_id.0 == NO_ID) != (request.producer_epoch == NO_EPOCH) {
        return Err(ErrorCode::InvalidRequest);
    }
    match &request.transactional_id {
        None => Ok(()),
        Some(id) if id.is_empty() => Err(ErrorCode::InvalidRequest),
        Some(id) => {
            // The response has no message field, and this is the one error that every client library treats
            // as fatal; others are retried for minutes.
            let id = id.as_str();
            warn!(
                transactional_id = id,
                "a transactional producer was refused: there are no transactions yet"
            );
            Err(ErrorCode::TransactionalIdAuthorizationFailed)
        }
    }
}

fn refusal(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default().with_error_code(error.code()).with_producer_epoch(NO_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::TransactionalId;
    use kernel::Api;

    use super::*;
    use crate::apis::common::text;
    use crate::apis::testing::{ask, broker};

    async fn init(broker: &Arc<Broker>, version: i16, request: InitProducerIdRequest) -> (i16, i64, i16) {
        let response: InitProducerIdResponse = ask(broker, Api::INIT_PRODUCER_ID, version, &request).await;
        (response.error_code, response.producer_id.0, response.producer_epoch)
    }

    fn request() -> InitProducerIdRequest {
        InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000)
    }

    #[tokio::test]
    async fn every_producer_gets_an_id_of_its_own() {
        let broker = broker().await;
        let (_, first, _) = init(&broker, 0, request()).await;
        for version in 1..=5 {
            assert_eq!(init(&broker, version, request()).await, (0, first + i64::from(version), 0));
        }
    }

    /// Their producers may write to one topic, when it is routed.
    #[tokio::test]
    async fn two_stores_give_different_ids() {
        let (one, other) = (broker().await, broker().await);
        assert_ne!(init(&one, 5, request()).await, init(&other, 5, request()).await);
    }

    #[tokio::test]
    async fn one_that_has_an_id_gets_another() {
        let broker = broker().await;
        let again = |id, epoch| request().with_producer_id(ProducerId(id)).with_producer_epoch(epoch);
        let (error, first, epoch) = init(&broker, 3, again(9, 4)).await;
        assert_eq!((error, epoch), (0, 0));
        assert_eq!(init(&broker, 5, again(9, i16::MAX)).await, (0, first + 1, 0));
        let invalid_request = (42, -1, -1);
        assert_eq!(init(&broker, 4, again(9, -1)).await, invalid_request);
        assert_eq!(init(&broker, 4, again(-1, 4)).await, invalid_request);
    }

    #[tokio::test]
    async fn transactions_are_refused_for_good() {
        let broker = broker().await;
        let transactional = |id| request().with_transactional_id(Some(TransactionalId(text::str_bytes(id))));
        for version in 0..=5 {
            assert_eq!(init(&broker, version, transactional("payments")).await, (53, -1, -1));
            assert_eq!(init(&broker, version, transactional("")).await, (42, -1, -1));
        }
    }
}
