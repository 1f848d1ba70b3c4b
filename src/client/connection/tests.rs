use std::sync::atomic::{AtomicUsize, Ordering};

use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse, MetadataRequest};

use super::super::error::ErrorKind;
use super::super::fake::{self, Act};
use super::*;

const TIMEOUT: Duration = Duration::from_secs(60);

async fn connect(address: &str) -> Connection {
    Connection::connect(address, "test", TIMEOUT).await.unwrap()
}

fn cluster_response(id: String) -> DescribeClusterResponse {
    DescribeClusterResponse::default().with_error_message(None).with_cluster_id(StrBytes::from_string(id))
}

#[tokio::test]
async fn requests_in_flight_get_their_own_answers() {
    let count = AtomicUsize::new(0);
    let address = fake::start(move |header, _| match header.api {
        Api::API_VERSIONS => fake::versions(header),
        _ => {
            let id = count.fetch_add(1, Ordering::SeqCst).to_string();
            fake::answer(&cluster_response(id), header.version)
        }
    });
    let connection = connect(&address.await).await;
    let request = DescribeClusterRequest::default();
    let version = connection.version::<DescribeClusterRequest>().unwrap();
    let pending: Vec<_> = (0..100).map(|_| connection.send(version, &request).unwrap()).collect();
    for (index, pending) in pending.into_iter().enumerate() {
        assert_eq!(&*pending.await.unwrap().cluster_id, index.to_string().as_str());
    }
}

#[tokio::test]
async fn a_broken_connection_fails_all_that_was_asked() {
    let address = fake::start(|header, _| match header.api {
        Api::API_VERSIONS => fake::versions(header),
        _ => Act::Hangup,
    });
    let connection = connect(&address.await).await;
    let request = DescribeClusterRequest::default();
    let pending: Vec<_> = (0..3).map(|_| connection.send(0, &request).unwrap()).collect();
    for pending in pending {
        assert_eq!(pending.await.unwrap_err().kind(), ErrorKind::Disconnected);
    }
    assert!(connection.is_closed());
    assert_eq!(connection.send(0, &request).unwrap_err().kind(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn an_old_broker_is_asked_again_in_version_0() {
    let address = fake::start(|header, _| match (header.api, header.version) {
        (Api::API_VERSIONS, 0) => fake::versions(header),
        (Api::API_VERSIONS, _) => fake::answer(&ApiVersionsResponse::default().with_error_code(35), 0),
        _ => Act::Hangup,
    });
    let connection = connect(&address.await).await;
    assert_eq!(connection.version::<MetadataRequest>(), Ok(12));
}

#[tokio::test]
async fn what_is_not_kafka_is_told_apart() {
    let address = fake::start(|_, _| Act::Answer(Bytes::from_static(&[0, 0, 255, 255, 255, 255, 15])));
    let error = Connection::connect(&address.await, "test", TIMEOUT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    let error = Connection::connect("127.0.0.1:1", "test", TIMEOUT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn a_silent_broker_is_not_waited_for_for_ever() {
    let address = fake::start(|header, _| match header.api {
        Api::API_VERSIONS => fake::versions(header),
        _ => Act::Silence,
    });
    let connection = connect(&address.await).await;
    let pending = connection.send(0, &DescribeClusterRequest::default()).unwrap();
    let error = pending.within(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("did not answer DescribeCluster within 20ms"), "{error}");
}

#[tokio::test]
async fn dropping_the_connection_fails_what_is_pending() {
    let address = fake::start(|header, _| match header.api {
        Api::API_VERSIONS => fake::versions(header),
        _ => Act::Silence,
    });
    let connection = connect(&address.await).await;
    let pending = connection.send(0, &DescribeClusterRequest::default()).unwrap();
    drop(connection);
    assert_eq!(pending.await.unwrap_err().kind(), ErrorKind::Disconnected);
}
