//! A fake broker for tests: a socket and a function that responds.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiVersionsResponse, MetadataResponse, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use kernel::call::Header;
use kernel::{Api, Reply, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::cluster::{Cluster, Settings};

/// The broker's reaction to a request.
pub(crate) enum Act {
    /// Responds with this body.
    Answer(Bytes),
    /// Sends no response, as for a Produce with acks=0.
    Silence,
    /// Closes the connection.
    Hangup,
}

/// Starts a broker that calls `act` for every request, and returns its address.
pub(crate) async fn start(act: impl Fn(&Header, Bytes) -> Act + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let act = Arc::new(act);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let act = Arc::clone(&act);
            tokio::spawn(async move { serve(stream, &*act).await });
        }
    });
    address
}

async fn serve(mut stream: TcpStream, act: &(impl Fn(&Header, Bytes) -> Act + Send + Sync)) -> Option<()> {
    loop {
        let length = stream.read_i32().await.ok()?;
        let mut request = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut request).await.ok()?;
        let (header, body) = frame::parse_request(request.into()).unwrap();
        match act(&header, body) {
            Act::Answer(body) => {
                let reply = Reply::new(body);
                let (prefix, length) = frame::response_prefix(&header, reply.body.len() as u64).ok()?;
                stream.write_all(&prefix[..length]).await.ok()?;
                stream.write_all(&reply.body).await.ok()?;
            }
            Act::Silence => {}
            Act::Hangup => return None,
        }
    }
}

/// A response in this API's version.
pub(crate) fn answer<T: Encodable>(response: &T, version: i16) -> Act {
    let mut body = BytesMut::new();
    response.encode(&mut body, version).unwrap();
    Act::Answer(body.freeze())
}

/// The response to ApiVersions: all of Kafka 4.1.
pub(crate) fn versions(header: &Header) -> Act {
    let keys = Api::all().map(|api| {
        let versions = api.versions();
        ApiVersion::default()
            .with_api_key(api.0)
            .with_min_version(versions.min)
            .with_max_version(versions.max)
    });
    answer(&ApiVersionsResponse::default().with_api_keys(keys.collect()), header.version)
}

/// The response to Metadata: one broker, 0, at `address`, which leads all partitions of topic `t`.
pub(crate) fn metadata(header: &Header, address: &str, partitions: i32) -> Act {
    let (host, port) = address.split_once(':').unwrap();
    let broker = MetadataResponseBroker::default()
        .with_node_id(0.into())
        .with_host(StrBytes::from_string(host.to_owned()))
        .with_port(port.parse().unwrap());
    let partitions = (0..partitions).map(|index| {
        MetadataResponsePartition::default().with_partition_index(index).with_leader_id(0.into())
    });
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
        .with_partitions(partitions.collect());
    let response = MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_controller_id(0.into())
        .with_topics(vec![topic]);
    answer(&response, header.version)
}

/// A cluster of the broker at `address`.
pub(crate) async fn cluster(address: &str) -> Arc<Cluster> {
    let settings = Settings {
        bootstrap: vec![address.to_owned()],
        client_id: "test".to_owned(),
        timeout: Duration::from_secs(60),
    };
    Arc::new(Cluster::connect(settings).await.unwrap())
}
