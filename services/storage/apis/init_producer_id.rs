//! InitProducerId: a new producer id for an idempotent producer, or the producer of a transactional id (KIP-98).
//!
//! An idempotent producer that already has an id and asks again (KIP-360) gets a new one, as in Kafka: only transactional
//! producers keep their id. One that asks for a transactional id fences those that have asked for it before, and what they
//! have left open is aborted before it is answered.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, TransactionalId};
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, Command, InitTransaction, ProducerIdAndEpoch, TransactionCommand};

use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::transactions::{
    commit, known_error, leader_epoch, producer, transactional_id as checked,
};
use crate::broker::Broker;
use crate::settings::Settings;

const NO_ID: i64 = -1;
const NO_EPOCH: i16 = -1;

/// From this version on a client knows PRODUCER_FENCED.
const FENCED_FROM: i16 = 4;
/// The transaction version until a call tells what the client has.
const VERSION_AT_FIRST: i16 = 1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: InitProducerIdRequest = call.decode()?;
    let response = match init(broker, call, &request).await? {
        Ok(producer) => InitProducerIdResponse::default()
            .with_producer_id(producer.id.0.into())
            .with_producer_epoch(producer.epoch),
        Err(error) => refusal(known_error(error, call.header.version >= FENCED_FROM)),
    };
    Ok(Some(call.reply(&response)?))
}

async fn init(
    broker: &Broker,
    call: &Call,
    request: &InitProducerIdRequest,
) -> Result<Result<ProducerIdAndEpoch, ErrorCode>, ApiError> {
    let asking = match asking(request) {
        Ok(asking) => asking,
        Err(error) => return Ok(Err(error)),
    };
    match &request.transactional_id {
        None => allocate(broker, call).await,
        Some(id) => Ok(init_transactional(broker, call, request, id, asking).await),
    }
}

/// The producer that asks, if it has an id. Producer id and epoch are both set or both absent; before KIP-360 both are
/// absent.
fn asking(request: &InitProducerIdRequest) -> Result<Option<ProducerIdAndEpoch>, ErrorCode> {
    match (request.producer_id.0, request.producer_epoch) {
        (NO_ID, NO_EPOCH) => Ok(None),
        (NO_ID, _) | (_, NO_EPOCH) => Err(ErrorCode::InvalidRequest),
        (_, epoch) => Ok(Some(producer(request.producer_id, epoch))),
    }
}

async fn allocate(broker: &Broker, call: &Call) -> Result<Result<ProducerIdAndEpoch, ErrorCode>, ApiError> {
    let command = Command::AllocateProducerId { seed: seed(broker) };
    Ok(match broker.store.commit_one(&call.ticket, command).await? {
        Ok(Applied::Producer(id)) => Ok(ProducerIdAndEpoch { id, epoch: 0 }),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(refused) => Err(refused.error),
    })
}

fn seed(broker: &Broker) -> u32 {
    broker.fresh_id().as_u128() as u32
}

async fn init_transactional(
    broker: &Broker,
    call: &Call,
    request: &InitProducerIdRequest,
    id: &TransactionalId,
    producer: Option<ProducerIdAndEpoch>,
) -> Result<ProducerIdAndEpoch, ErrorCode> {
    let id = checked(id)?;
    check(request, &broker.settings)?;
    let now_ms = broker.clock.now_ms();
    let command = TransactionCommand::Init(InitTransaction {
        timeout_ms: request.transaction_timeout_ms,
        producer,
        version: VERSION_AT_FIRST,
        seed: seed(broker),
        now_ms,
        leader_epoch: leader_epoch(broker, call, now_ms).await?,
    });
    match commit(broker, call, id, command).await? {
        Applied::TransactionalProducer(producer) => Ok(producer),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

fn check(request: &InitProducerIdRequest, settings: &Settings) -> Result<(), ErrorCode> {
    // Two-phase commit (KIP-939) begins after the versions that are served. This is what Kafka answers where it is off.
    if request.enable_2_pc {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if request.keep_prepared_txn {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let timeout_ms = u128::try_from(request.transaction_timeout_ms).unwrap_or_default();
    let is_valid = (1..=settings.transaction_max_timeout.0.as_millis()).contains(&timeout_ms);
    if is_valid { Ok(()) } else { Err(ErrorCode::InvalidTransactionTimeout) }
}

fn refusal(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default().with_error_code(error.code()).with_producer_epoch(NO_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use kafka_protocol::messages::ProducerId;
    use kernel::Api;
    use kernel::units::Span;
    use rules::documents::{TransactionDocument, TransactionState};

    use super::*;
    use crate::apis::common::text;
    use crate::apis::testing::{ask, broker, broker_with, open_transaction};

    async fn init(broker: &Arc<Broker>, version: i16, request: InitProducerIdRequest) -> (i16, i64, i16) {
        let response: InitProducerIdResponse = ask(broker, Api::INIT_PRODUCER_ID, version, &request).await;
        (response.error_code, response.producer_id.0, response.producer_epoch)
    }

    fn request() -> InitProducerIdRequest {
        InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000)
    }

    fn transactional(id: &str) -> InitProducerIdRequest {
        request().with_transactional_id(Some(TransactionalId(text::str_bytes(id))))
    }

    fn of(request: InitProducerIdRequest, id: i64, epoch: i16) -> InitProducerIdRequest {
        request.with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
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
        let (error, first, epoch) = init(&broker, 3, of(request(), 9, 4)).await;
        assert_eq!((error, epoch), (0, 0));
        assert_eq!(init(&broker, 5, of(request(), 9, i16::MAX)).await, (0, first + 1, 0));
        let invalid_request = (42, -1, -1);
        for request in [request(), transactional("payments")] {
            assert_eq!(init(&broker, 4, of(request.clone(), 9, -1)).await, invalid_request);
            assert_eq!(init(&broker, 4, of(request, -1, 4)).await, invalid_request);
        }
    }

    #[tokio::test]
    async fn each_producer_of_a_transactional_id_fences_the_one_before() {
        let broker = broker().await;
        let (_, id, _) = init(&broker, 0, transactional("payments")).await;
        for version in 1..=5 {
            assert_eq!(init(&broker, version, transactional("payments")).await, (0, id, version));
        }
        assert_ne!(init(&broker, 5, transactional("refunds")).await.1, id);
        assert_eq!(init(&broker, 5, of(transactional("payments"), id, 5)).await, (0, id, 6));
        assert_eq!(init(&broker, 5, of(transactional("payments"), id, 5)).await, (0, id, 6), "asked again");
        for (version, fenced) in [(3, 47), (4, 90), (5, 90)] {
            assert_eq!(init(&broker, version, of(transactional("payments"), id, 3)).await, (fenced, -1, -1));
        }
    }

    #[tokio::test]
    async fn what_was_left_open_is_aborted() {
        let broker = broker().await;
        let producer = open_transaction(&broker, "payments").await;
        let (error, id, epoch) = init(&broker, 5, transactional("payments")).await;
        assert_eq!((error, id), (0, producer.id.0));
        assert!(epoch > producer.epoch);
        let document = broker.store.get_one::<TransactionDocument>(&Arc::from("payments")).await.unwrap();
        assert_eq!(document.unwrap().state, TransactionState::Empty);
    }

    #[tokio::test]
    async fn timeouts_are_limited() {
        let (broker, strict) = (
            broker().await,
            broker_with(|settings| settings.transaction_max_timeout = Span(Duration::from_secs(1))),
        );
        let with = |timeout_ms| transactional("payments").with_transaction_timeout_ms(timeout_ms);
        for version in 0..=5 {
            for timeout_ms in [0, -1, i32::MIN, 900_001, i32::MAX] {
                assert_eq!(init(&broker, version, with(timeout_ms)).await, (50, -1, -1), "{timeout_ms}");
            }
            assert_eq!(init(&broker, version, with(900_000)).await.0, 0);
            assert_eq!(init(&strict, version, with(1_001)).await, (50, -1, -1));
            assert_eq!(init(&strict, version, with(1_000)).await.0, 0);
            assert_eq!(init(&broker, version, transactional("")).await, (42, -1, -1));
        }
    }

    /// No version that is served can ask for it.
    #[test]
    fn two_phase_commit_is_refused() {
        let settings = Settings::at("memory://");
        let asked = transactional("payments");
        assert_eq!(check(&asked, &settings), Ok(()));
        let enabled = asked.clone().with_enable_2_pc(true);
        assert_eq!(check(&enabled, &settings), Err(ErrorCode::TransactionalIdAuthorizationFailed));
        let kept = asked.with_keep_prepared_txn(true);
        assert_eq!(check(&kept, &settings), Err(ErrorCode::UnsupportedVersion));
    }
}
