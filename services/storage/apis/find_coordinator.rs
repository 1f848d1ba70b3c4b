//! FindCoordinator: any broker serves any group and any transactional id; each has one that its clients are sent to.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::Call;

use crate::apis::common::answer::Answer;
use crate::apis::common::{requests, text};
use crate::broker::Broker;
use crate::nodes::{Cluster, Coordinates};

/// Key types.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// From this version on a request has several keys (KIP-699).
const BATCHED_SINCE: i16 = 4;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: FindCoordinatorRequest = call.decode()?;
    let cluster = broker.nodes.cluster(&call.session);
    let find = |key: &StrBytes| coordinator(&cluster, request.key_type, key);
    let response = if call.header.version >= BATCHED_SINCE {
        let of_key = |key: StrBytes| find(&key).with_key(key);
        let coordinators = request.coordinator_keys.into_iter().map(of_key).collect();
        FindCoordinatorResponse::default().with_coordinators(coordinators)
    } else {
        let found = find(&request.key);
        // Kafka sends the name of "no error" here.
        let is_found = found.error_code == 0;
        let none = is_found.then(|| StrBytes::from_static_str("NONE"));
        FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(none.or(found.error_message))
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port)
    };
    Ok(Some(call.reply(&response)?))
}

/// The coordinator of a key.
fn coordinator(cluster: &Cluster, key_type: i8, key: &str) -> Coordinator {
    // The Java client treats INVALID_REQUEST as fatal and shows the message; it would retry every "not
    // available" error until the application times out.
    let refused = match key_type {
        GROUP => return found(cluster, Coordinates::Group, key),
        TRANSACTION => return found(cluster, Coordinates::Transaction, key),
        SHARE => requests::invalid_request("Yagura has no share groups yet: use a consumer group"),
        other => requests::invalid_request(format!("{other} is not a type of coordinator")),
    };
    let (code, message) = text::error_fields(Some(refused));
    Coordinator::default()
        .with_node_id(BrokerId(-1))
        .with_port(-1)
        .with_error_code(code)
        .with_error_message(message)
}

fn found(cluster: &Cluster, of: Coordinates, key: &str) -> Coordinator {
    let id = cluster.coordinator(of, key);
    let found = Coordinator::default().with_node_id(BrokerId(id.0));
    // It is one of the brokers that it was chosen from.
    cluster.broker(id).map_or_else(Coordinator::default, |broker| {
        found.with_host(text::str_bytes(&broker.address.host)).with_port(i32::from(broker.address.port))
    })
}

#[cfg(test)]
mod tests {
    use kernel::Api;

    use super::super::testing::{self, ask};
    use super::*;
    use crate::apis::testing::versions;

    fn request(version: i16, key_type: i8, keys: &[&str]) -> FindCoordinatorRequest {
        let request = FindCoordinatorRequest::default().with_key_type(key_type);
        if version < BATCHED_SINCE {
            request.with_key(text::str_bytes(keys[0]))
        } else {
            request.with_coordinator_keys(keys.iter().map(|key| text::str_bytes(key)).collect())
        }
    }

    #[tokio::test]
    async fn groups_and_transactional_ids_are_coordinated_here() {
        let broker = testing::broker().await;
        let node = BrokerId(broker.nodes.id().0);
        let of_groups = versions(Api::FIND_COORDINATOR).map(|version| (version, GROUP));
        let of_transactions = versions(Api::FIND_COORDINATOR).skip(1).map(|version| (version, TRANSACTION));
        for (version, key_type) in of_groups.chain(of_transactions) {
            let request = request(version, key_type, &["g", "", "g"]);
            let response: FindCoordinatorResponse =
                ask(&broker, Api::FIND_COORDINATOR, version, &request).await;
            if version < BATCHED_SINCE {
                assert_eq!((response.error_code, response.node_id), (0, node));
                assert_eq!((response.host.as_str(), response.port), ("localhost", 9092));
                let message = response.error_message.as_ref().map(|message| message.as_str());
                assert_eq!(message.filter(|_| version >= 1), (version >= 1).then_some("NONE"));
                continue;
            }
            let keys: Vec<&str> = response.coordinators.iter().map(|found| found.key.as_str()).collect();
            assert_eq!(keys, ["g", "", "g"]);
            for found in &response.coordinators {
                assert_eq!((found.error_code, found.node_id), (0, node));
                assert_eq!((found.host.as_str(), found.port), ("localhost", 9092));
                assert_eq!(found.error_message.as_ref().unwrap().as_str(), "");
            }
        }
    }

    #[tokio::test]
    async fn other_coordinators_are_refused_for_good() {
        let broker = testing::broker().await;
        for version in versions(Api::FIND_COORDINATOR).skip(1) {
            for key_type in [SHARE, 3, -1] {
                let request = request(version, key_type, &["k"]);
                let response: FindCoordinatorResponse =
                    ask(&broker, Api::FIND_COORDINATOR, version, &request).await;
                let (code, node, port, message) = match response.coordinators.first() {
                    Some(found) => (found.error_code, found.node_id, found.port, &found.error_message),
                    None => (response.error_code, response.node_id, response.port, &response.error_message),
                };
                assert_eq!((code, node, port), (42, BrokerId(-1), -1));
                assert!(message.as_ref().is_some_and(|message| !message.is_empty()));
            }
        }
    }
}
