//! UnregisterBroker (KIP-500): there are no broker registrations, so there is nothing to unregister.

use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use kernel::{Call, ErrorCode};
use rules::commands::Refused;

use crate::apis::common::answer::Answer;
use crate::apis::common::requests::invalid_request;
use crate::apis::common::text;
use crate::broker::Broker;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: UnregisterBrokerRequest = call.decode()?;
    let id = request.broker_id.0;
    let refused = if id == broker.node.node_id.0 {
        invalid_request(format!("Broker {id} is the one that answers: stop it instead."))
    } else {
        Refused::new(ErrorCode::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered"))
    };
    let (code, message) = text::error_fields(Some(refused));
    let response = UnregisterBrokerResponse::default().with_error_code(code).with_error_message(message);
    Ok(Some(call.reply(&response)?))
}
