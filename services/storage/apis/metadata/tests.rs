//! Response shapes and error codes are those of a Kafka 4.1.1 node.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kernel::Api;

use super::super::testing::{self, ask, topic};
use super::*;
use crate::apis::common::text;
use crate::apis::testing::versions;

fn named(names: &[&str]) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(text::topic_name(name)));
    MetadataRequest::default().with_topics(Some(names.iter().map(topic).collect()))
}

fn identified(ids: &[Uuid]) -> MetadataRequest {
    let topic = |id: &Uuid| MetadataRequestTopic::default().with_name(None).with_topic_id(*id);
    MetadataRequest::default().with_topics(Some(ids.iter().map(topic).collect()))
}

async fn metadata(broker: &Arc<Broker>, version: i16, request: &MetadataRequest) -> MetadataResponse {
    ask(broker, Api::METADATA, version, request).await
}

/// Error code, name and number of partitions of each topic.
fn seen(response: &MetadataResponse) -> Vec<(i16, &str, usize)> {
    response.topics.iter().map(|topic| (topic.error_code, name_of(topic), topic.partitions.len())).collect()
}

fn name_of(topic: &MetadataResponseTopic) -> &str {
    topic.name.as_ref().map_or("", |name| name.as_str())
}

#[tokio::test]
async fn all_topics_or_none() {
    let broker = testing::broker().await;
    topic(&broker, "b", 2, &[]).await;
    topic(&broker, "a", 1, &[]).await;
    let none = MetadataRequest::default().with_topics(Some(Vec::new()));
    let all = MetadataRequest::default().with_topics(None);
    let both = vec![(0, "a", 1), (0, "b", 2)];
    assert_eq!(seen(&metadata(&broker, 0, &none).await), both, "an empty list meant all in version 0");
    for version in versions(Api::METADATA).skip(1) {
        assert!(metadata(&broker, version, &none).await.topics.is_empty());
        assert_eq!(seen(&metadata(&broker, version, &all).await), both);
    }
}

#[tokio::test]
async fn every_version_carries_what_it_has() {
    let broker = testing::broker().await;
    topic(&broker, "t", 2, &[]).await;
    let node = BrokerId(broker.nodes.id().0);
    for version in versions(Api::METADATA) {
        let response = metadata(&broker, version, &named(&["t"])).await;
        let listed = &response.brokers[0];
        assert_eq!((listed.node_id, listed.host.as_str(), listed.port), (node, "localhost", 9092));
        assert_eq!(listed.rack, None);
        assert_eq!(response.controller_id, if version >= 1 { node } else { BrokerId(-1) });
        let cluster = response.cluster_id.as_ref().map(|id| id.as_str());
        assert_eq!(cluster, (version >= 2).then_some(&*broker.node.cluster_id));
        let topic = &response.topics[0];
        assert_eq!(topic.topic_id.is_nil(), version < 10);
        for (index, partition) in topic.partitions.iter().enumerate() {
            assert_eq!(partition.partition_index, index as i32);
            assert_eq!((partition.error_code, partition.leader_id), (0, node));
            assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![node], &vec![node]));
            assert_eq!(partition.leader_epoch, if version >= 7 { 0 } else { -1 });
            assert!(partition.offline_replicas.is_empty());
        }
    }
}

#[tokio::test]
async fn operations_are_told_to_who_asks() {
    let broker = testing::broker().await;
    for version in 8..=13 {
        let mut request = named(&["nope"]).with_allow_auto_topic_creation(false);
        let response = metadata(&broker, version, &request).await;
        assert_eq!(response.topics[0].topic_authorized_operations, i32::MIN);
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
        request.include_topic_authorized_operations = true;
        request.include_cluster_authorized_operations = version <= 10;
        let response = metadata(&broker, version, &request).await;
        assert_eq!(response.topics[0].topic_authorized_operations, 3576);
        let cluster = if version <= 10 { 8096 } else { i32::MIN };
        assert_eq!(response.cluster_authorized_operations, cluster);
    }
}

#[tokio::test]
async fn topics_are_created_on_demand() {
    let broker = testing::broker().await;
    let partitions = broker.settings.default_partitions as usize;
    let request = named(&["fresh", "a b", "", "..", "fresh", "__consumer_offsets", "__cluster_metadata"]);
    let expected = vec![
        (0, "fresh", partitions),
        (17, "a b", 0),
        (17, "", 0),
        (17, "..", 0),
        (3, "__consumer_offsets", 0),
        (3, "__cluster_metadata", 0),
    ];
    let refused = request.clone().with_allow_auto_topic_creation(false);
    assert_eq!(seen(&metadata(&broker, 4, &refused).await)[0], (3, "fresh", 0));
    let first = metadata(&broker, 13, &request).await;
    assert_eq!(seen(&first), expected);
    assert!(first.topics[4].is_internal && !first.topics[0].is_internal);
    let again = metadata(&broker, 13, &request).await;
    assert_eq!(again, first, "it is created once");
    // Before version 4 a client cannot disable auto-creation.
    assert_eq!(seen(&metadata(&broker, 3, &named(&["other"])).await), [(0, "other", partitions)]);
}

#[tokio::test]
async fn one_request_creates_no_more_than_create_topics_may() {
    let broker = testing::broker().await;
    let created_max = 10_000 / broker.settings.default_partitions as usize;
    let names: Vec<String> = (0..created_max + 3).map(|number| format!("topic-{number:05}")).collect();
    let request = named(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let errors = |response: MetadataResponse| {
        response
            .topics
            .iter()
            .filter(|topic| topic.error_code == ErrorCode::UnknownTopicOrPartition.code())
            .count()
    };
    assert_eq!(errors(metadata(&broker, 4, &request).await), 3);
    assert_eq!(errors(metadata(&broker, 4, &request).await), 0, "the next request creates the rest");
}

#[tokio::test]
async fn a_name_that_collides_is_refused() {
    let broker = testing::broker().await;
    topic(&broker, "a.b", 1, &[]).await;
    let response = metadata(&broker, 13, &named(&["a_b", "a.b"])).await;
    assert_eq!(seen(&response), [(17, "a_b", 0), (0, "a.b", 1)]);
}

#[tokio::test]
async fn topics_are_found_by_id() {
    let broker = testing::broker().await;
    let id = topic(&broker, "t", 1, &[]).await.id.0;
    let unknown = Uuid::from_u128(5);
    for version in 12..=13 {
        let response = metadata(&broker, version, &identified(&[id, unknown, id])).await;
        assert_eq!(seen(&response), [(0, "t", 1), (100, "", 0)]);
        assert_eq!((response.topics[1].name.as_ref(), response.topics[1].topic_id), (None, unknown));
        // The id is used, whatever the name is.
        let mut both = named(&["nope"]);
        both.topics.as_mut().unwrap()[0].topic_id = id;
        assert_eq!(seen(&metadata(&broker, version, &both).await), [(0, "t", 1)]);
    }
    for version in 10..=11 {
        let response = metadata(&broker, version, &identified(&[id])).await;
        assert_eq!((response.brokers.len(), seen(&response)), (0, vec![(42, "", 0)]));
    }
    let response = metadata(&broker, 13, &identified(&[Uuid::nil()])).await;
    assert_eq!((response.error_code, seen(&response)), (42, vec![(42, "", 0)]));
}
