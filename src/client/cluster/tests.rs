use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use kernel::Api;
use kernel::call::Header;

use super::super::error::ErrorKind;
use super::super::fake::{self, Act};
use super::*;

#[tokio::test]
async fn a_topic_is_looked_up_once_and_again_after_it_was_forgotten() {
    static PARTITIONS: AtomicI32 = AtomicI32::new(0);
    let own = Arc::new(OnceLock::<String>::new());
    let address = fake::start({
        let own = Arc::clone(&own);
        move |header: &Header, _| match (header.api, own.get()) {
            (Api::METADATA, Some(address)) => {
                fake::metadata(header, address, 1 + PARTITIONS.fetch_add(1, Ordering::SeqCst))
            }
            _ => fake::versions(header),
        }
    })
    .await;
    own.set(address.clone()).unwrap();
    let cluster = fake::cluster(&address).await;
    assert_eq!(cluster.topic("t").await.unwrap().partitions.len(), 1);
    assert_eq!(cluster.topic("t").await.unwrap().partitions.len(), 1, "from the metadata at hand");
    cluster.forget("t");
    let topic = cluster.topic("t").await.unwrap();
    assert_eq!(topic.partitions.len(), 2);
    let leader = cluster.leader(&topic, 1).await.unwrap();
    assert_eq!(leader.address(), address);
    let error = cluster.leader(&topic, 2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Kafka(ErrorCode::UnknownTopicOrPartition));
    let error = cluster.topic("other").await.unwrap_err();
    assert!(error.to_string().contains("`yagura topic create other` makes it"), "{error}");
}

#[tokio::test]
async fn the_first_bootstrap_broker_that_answers_is_taken() {
    let address = fake::start(|header, _| match header.api {
        Api::API_VERSIONS => fake::versions(header),
        _ => Act::Hangup,
    })
    .await;
    let bootstrap = vec!["127.0.0.1:1".to_owned(), address.clone()];
    let mut settings = Settings { bootstrap, client_id: "test".to_owned(), timeout: Duration::from_secs(60) };
    let cluster = Cluster::connect(settings.clone()).await.unwrap();
    assert_eq!(cluster.any().await.unwrap().address(), address);
    settings.bootstrap.truncate(1);
    assert_eq!(Cluster::connect(settings).await.unwrap_err().kind(), ErrorKind::Unreachable);
}

#[test]
fn an_ipv6_host_gets_its_brackets() {
    assert_eq!(&*host_port("::1", 9092), "[::1]:9092");
    assert_eq!(&*host_port("localhost", 9092), "localhost:9092");
}
