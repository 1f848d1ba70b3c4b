//! UnregisterBroker (KIP-500): brokers that are gone leave nothing behind that could be unregistered.

use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use kernel::{Call, ErrorCode};

use super::shared::{self, invalid_request};
use crate::rules::Refused;
use crate::service::{Answer, Service};

pub(crate) fn handle(service: &Service, call: &mut Call) -> Answer {
    let request: UnregisterBrokerRequest = call.decode()?;
    let id = request.broker_id.0;
    let refused = match id == service.node.node_id.0 {
        true => invalid_request(format!("Broker {id} is the one that answers: stop it instead.")),
        false => Refused::new(
            ErrorCode::BrokerIdNotRegistered,
            format!("Broker ID {id} is not currently registered"),
        ),
    };
    let (code, message) = shared::verdict(Some(refused));
    let response = UnregisterBrokerResponse::default().with_error_code(code).with_error_message(message);
    Ok(Some(call.reply(&response)?))
}
