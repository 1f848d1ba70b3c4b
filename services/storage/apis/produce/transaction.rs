//! The transaction of a request: its transactional batches are appended in the transaction of its transactional id.

use kafka_protocol::messages::ProduceRequest;
use kernel::{Call, ErrorCode};
use rules::commands::{BatchFacts, TransactionOfAppend};

use super::checks;
use super::rejected::Rejected;
use crate::apis::common::text::to_arc;
use crate::apis::common::transactions::{Joining, OTHER_SERVICE};

/// With transaction version 2 the partitions join the transaction (KIP-890).
const JOINING: Joining = Joining { joins_from: 12, abortable_from: 11 };

/// The transaction that a request appends in; `None` if none of its batches is transactional.
pub(super) fn of_request(
    request: &ProduceRequest,
    call: &Call,
) -> Result<Option<TransactionOfAppend>, Rejected> {
    if !request.topic_data.iter().flat_map(|topic| &topic.partition_data).any(checks::is_transactional) {
        return Ok(None);
    }
    let Some(id) = &request.transactional_id else {
        // What Kafka answers to a client that may not use its transactional id.
        let message = "A batch is transactional, but the request has no transactional id.";
        return Err(Rejected::new(ErrorCode::TransactionalIdAuthorizationFailed, message));
    };
    if id.is_empty() {
        return Err(Rejected::new(ErrorCode::InvalidRequest, "The transactional id is empty."));
    }
    if call.origin.is_some() {
        return Err(Rejected::new(ErrorCode::InvalidTxnState, OTHER_SERVICE));
    }
    let if_not_added = JOINING.if_not_added(call.header.version);
    Ok(Some(TransactionOfAppend { id: to_arc(&id.0), if_not_added }))
}

/// Checks that the transactional batches of a request have one producer.
pub(super) fn check_producers<'a>(batches: impl Iterator<Item = &'a BatchFacts>) -> Result<(), Rejected> {
    let transactional = batches.filter(|batch| batch.is_transactional());
    let mut producers = transactional.map(|batch| (batch.producer_id, batch.producer_epoch));
    let first = producers.next();
    if producers.all(|other| Some(other) == first) {
        return Ok(());
    }
    let message = "Transactional records contained more than one producer ID";
    Err(Rejected::new(ErrorCode::InvalidProducerIdMapping, message))
}
