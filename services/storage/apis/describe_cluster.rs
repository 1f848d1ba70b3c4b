//! DescribeCluster (KIP-700): the one broker, which is its own controller.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kernel::{Call, ErrorCode};

use crate::apis::common::answer::Answer;
use crate::apis::common::{operations, text};
use crate::broker::Broker;
use crate::nodes::Listed;

/// Endpoint types (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeClusterRequest = call.decode()?;
    let response = match request.endpoint_type {
        BROKERS => describe(broker, call, &request),
        CONTROLLERS => refuse(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_owned(),
        ),
        other => refuse(ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
    };
    Ok(Some(call.reply(&response)?))
}

fn describe(broker: &Broker, call: &Call, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let cluster = broker.nodes.cluster(&call.session);
    // Never fenced: a broker whose lease has ended is not listed.
    let listed = |broker: &Listed| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(broker.id.0))
            .with_host(text::str_bytes(&broker.address.host))
            .with_port(i32::from(broker.address.port))
            .with_rack(broker.rack.as_deref().map(text::str_bytes))
    };
    let operations = if request.include_cluster_authorized_operations {
        operations::CLUSTER_OPERATIONS
    } else {
        operations::OPERATIONS_NOT_ASKED
    };
    DescribeClusterResponse::default()
        .with_cluster_id(text::str_bytes(&broker.node.cluster_id))
        .with_controller_id(BrokerId(cluster.controller().0))
        .with_brokers(cluster.brokers().iter().map(listed).collect())
        .with_cluster_authorized_operations(operations)
}

/// As in Kafka, a refusal has the endpoint type of a broker.
fn refuse(error: ErrorCode, message: String) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_error_code(error.code())
        .with_error_message(text::error_message(message))
}

#[cfg(test)]
mod tests {
    use kernel::Api;

    use super::super::testing::{self, ask};
    use super::*;
    use crate::apis::testing::versions;

    #[tokio::test]
    async fn every_version_describes() {
        let broker = testing::broker().await;
        let node = BrokerId(broker.nodes.id().0);
        for version in versions(Api::DESCRIBE_CLUSTER) {
            for asks in [false, true] {
                let request = DescribeClusterRequest::default()
                    .with_include_cluster_authorized_operations(asks)
                    .with_include_fenced_brokers(asks && version >= 2);
                let response: DescribeClusterResponse =
                    ask(&broker, Api::DESCRIBE_CLUSTER, version, &request).await;
                assert_eq!((response.error_code, response.error_message.as_ref()), (0, None));
                assert_eq!(response.cluster_id.as_str(), &*broker.node.cluster_id);
                assert_eq!((response.endpoint_type, response.controller_id), (1, node));
                let operations = if asks { 8096 } else { i32::MIN };
                assert_eq!(response.cluster_authorized_operations, operations);
                let broker = &response.brokers[0];
                assert_eq!((broker.broker_id, broker.host.as_str(), broker.port), (node, "localhost", 9092));
                assert_eq!((broker.rack.as_ref(), broker.is_fenced), (None, false));
            }
        }
    }

    #[tokio::test]
    async fn only_brokers_are_described() {
        let broker = testing::broker().await;
        for version in 1..=2 {
            for (endpoint_type, code) in [(2, 114), (0, 115), (3, 115), (-1, 115)] {
                let request = DescribeClusterRequest::default().with_endpoint_type(endpoint_type);
                let response: DescribeClusterResponse =
                    ask(&broker, Api::DESCRIBE_CLUSTER, version, &request).await;
                assert_eq!((response.error_code, response.endpoint_type), (code, 1));
                assert!(response.error_message.is_some() && response.brokers.is_empty());
                assert_eq!(response.controller_id, BrokerId(-1));
            }
        }
    }
}
