//! Code shared by the APIs of transactions.

use std::sync::Arc;

use kafka_protocol::messages::{ProducerId as WireProducerId, TransactionalId};
use kernel::{Call, ErrorCode, ProducerId};
use rules::commands::{Applied, Command, IfNotAdded, ProducerIdAndEpoch, TransactionCommand};

use super::groups::store_failed;
use super::leaving::unless_left;
use super::text::to_arc;
use crate::broker::Broker;

/// Why a transaction is refused that would have topics of another service than its transactional id: no command commits in
/// two stores at once.
pub(crate) const OTHER_SERVICE: &str = "the topic is of another service than the transactional id, and a transaction has topics of \
                                        one service only: route both to the same service, or produce without a transactional id";

/// The transactional id of a request.
pub(crate) fn transactional_id(id: &TransactionalId) -> Result<Arc<str>, ErrorCode> {
    if id.is_empty() { Err(ErrorCode::InvalidRequest) } else { Ok(to_arc(&id.0)) }
}

/// The producer that a request comes from.
pub(crate) fn producer(id: WireProducerId, epoch: i16) -> ProducerIdAndEpoch {
    ProducerIdAndEpoch { id: ProducerId(id.0), epoch }
}

/// From which versions of an API on its client knows what there is to do with a partition or group that was not added.
pub(crate) struct Joining {
    /// It has transaction version 2: what was not added joins the transaction.
    pub(crate) joins_from: i16,
    /// It knows TRANSACTION_ABORTABLE.
    pub(crate) abortable_from: i16,
}

impl Joining {
    /// What is done for a client with that version.
    pub(crate) fn if_not_added(&self, version: i16) -> IfNotAdded {
        if version >= self.joins_from {
            IfNotAdded::Join
        } else if version >= self.abortable_from {
            IfNotAdded::RefuseAbortable
        } else {
            IfNotAdded::Refuse
        }
    }
}

/// Commits a command on a transactional id.
pub(crate) async fn commit(
    broker: &Broker,
    call: &Call,
    id: Arc<str>,
    command: TransactionCommand,
) -> Result<Applied, ErrorCode> {
    let commit = broker.store.commit_one(&call.ticket, Command::Transaction { id, command });
    let outcome = unless_left(&call.session, commit).await;
    outcome.map_err(|error| store_failed(call, &error))?.map_err(|refused| refused.error)
}

/// The leader epoch that markers are written with.
pub(crate) async fn leader_epoch(broker: &Broker, call: &Call, now_ms: i64) -> Result<i32, ErrorCode> {
    broker.store.epoch_to_append(now_ms).await.map_err(|error| store_failed(call, &error))
}

/// The error for a client: one that does not know PRODUCER_FENCED (KIP-588) gets the error that it was before.
pub(crate) fn known_error(error: ErrorCode, knows_fenced: bool) -> ErrorCode {
    match error {
        ErrorCode::ProducerFenced if !knows_fenced => ErrorCode::InvalidProducerEpoch,
        error => error,
    }
}
