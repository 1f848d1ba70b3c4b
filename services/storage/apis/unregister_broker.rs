//! UnregisterBroker (KIP-500): a broker that has gone is not registered any more, so there is nothing to unregister.

use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use kernel::{Call, ErrorCode, NodeId};
use rules::commands::Refused;

use crate::apis::common::answer::Answer;
use crate::apis::common::requests::invalid_request;
use crate::apis::common::text;
use crate::broker::Broker;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: UnregisterBrokerRequest = call.decode()?;
    let id = request.broker_id.0;
    let refused = if broker.nodes.has(NodeId(id)) {
        invalid_request(format!("Broker {id} runs: stop it instead."))
    } else {
        Refused::new(ErrorCode::BrokerIdNotRegistered, format!("Broker ID {id} is not currently registered"))
    };
    let (code, message) = text::error_fields(Some(refused));
    let response = UnregisterBrokerResponse::default().with_error_code(code).with_error_message(message);
    Ok(Some(call.reply(&response)?))
}
