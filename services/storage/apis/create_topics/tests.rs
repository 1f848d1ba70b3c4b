//! Error codes and messages are those of Kafka 4.1.1 with one broker.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
use kernel::Api;

use super::super::testing::{self, ask, topic};
use super::*;
use crate::apis::common::text;
use crate::apis::testing::versions;

fn new(name: &str, partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(text::topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(factor)
}

fn with_configs(topic: CreatableTopic, configs: &[(&str, Option<&str>)]) -> CreatableTopic {
    let config = |(name, value): &(&str, Option<&str>)| {
        CreatableTopicConfig::default()
            .with_name(text::str_bytes(name))
            .with_value(value.map(text::str_bytes))
    };
    topic.with_configs(configs.iter().map(config).collect())
}

/// A topic with these partitions, each on these brokers.
fn assigned(partitions: &[i32], brokers: &[i32]) -> CreatableTopic {
    let assignment = |index: &i32| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(brokers.iter().map(|broker| BrokerId(*broker)).collect())
    };
    new("t", -1, -1).with_assignments(partitions.iter().map(assignment).collect())
}

async fn create(broker: &Arc<Broker>, version: i16, topics: Vec<CreatableTopic>) -> CreateTopicsResponse {
    let request = CreateTopicsRequest::default().with_topics(topics);
    ask(broker, Api::CREATE_TOPICS, version, &request).await
}

/// Error code and message of one topic that is not created.
async fn refusal(broker: &Arc<Broker>, topic: CreatableTopic) -> (i16, String) {
    let response = create(broker, 7, vec![topic]).await;
    let result = &response.topics[0];
    assert_eq!((result.num_partitions, result.replication_factor), (-1, -1));
    assert!(result.topic_id.is_nil() && result.configs.as_ref().unwrap().is_empty());
    (result.error_code, result.error_message.as_ref().unwrap().to_string())
}

#[tokio::test]
async fn every_version_creates() {
    let broker = testing::broker().await;
    for version in versions(Api::CREATE_TOPICS) {
        let name = format!("t{version}");
        let configs = [("retention.ms", Some(" 0077 ")), ("flush.ms", Some("9223372036854775807"))];
        let topic = with_configs(new(&name, -1, -1), &configs);
        let response = create(&broker, version, vec![topic]).await;
        let result = &response.topics[0];
        assert_eq!((result.error_code, result.error_message.as_ref()), (0, None), "version {version}");
        let stored = testing::stored(&broker, &name).await;
        assert_eq!(stored.partitions, broker.settings.default_partitions);
        if version >= 5 {
            assert_eq!((result.num_partitions, result.replication_factor), (stored.partitions, 1));
            let configs = result.configs.as_ref().unwrap();
            assert_eq!(configs.len(), topic_configs().len());
            let set: Vec<_> = configs.iter().filter(|config| config.config_source == 1).collect();
            assert_eq!(
                set.iter().map(|config| config.name.as_str()).collect::<Vec<_>>(),
                ["flush.ms", "retention.ms"]
            );
            assert_eq!(set[1].value.as_ref().unwrap().as_str(), " 0077 ");
        }
        assert_eq!(result.topic_id, if version >= 7 { stored.id.0 } else { uuid::Uuid::nil() });
    }
}

#[tokio::test]
async fn a_check_creates_nothing() {
    let broker = testing::broker().await;
    let topics = vec![new("checked", 3, 1), new("bad name", 3, 1)];
    let request = CreateTopicsRequest::default().with_topics(topics).with_validate_only(true);
    let response: CreateTopicsResponse = ask(&broker, Api::CREATE_TOPICS, 7, &request).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 3));
    assert!(!response.topics[0].topic_id.is_nil());
    assert_eq!(response.topics[1].error_code, 17);
    assert!(broker.store.topics().await.unwrap().is_empty());
}

#[tokio::test]
async fn counts_that_cannot_be() {
    let broker = testing::broker().await;
    let larger = "Replication factor must be larger than 0, or -1 to use the default value.";
    let positive = "Number of partitions was set to an invalid non-positive value.";
    let two = "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached \
               because only 1 broker(s) are registered.";
    for (partitions, factor, code, message) in [
        (1, 0, 38, larger),
        (1, -2, 38, larger),
        (0, 0, 38, larger),
        (0, 1, 37, positive),
        (-2, 1, 37, positive),
        (0, 3, 37, positive),
        (1, 2, 38, two),
    ] {
        assert_eq!(refusal(&broker, new("t", partitions, factor)).await, (code, message.to_owned()));
    }
}

#[tokio::test]
async fn a_replication_factor_that_is_allowed_makes_one_copy() {
    let broker = testing::broker_with(|settings| settings.replication_factor_max = 3);
    let response = create(&broker, 7, vec![new("t", 1, 3)]).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].replication_factor), (0, 1));
    assert_eq!(refusal(&broker, new("u", 1, 4)).await.0, 38);
}

#[tokio::test]
async fn assignments_that_cannot_be() {
    let broker = testing::broker().await;
    let both = |what| format!("A manual partition assignment was specified, but {what} was not set to -1.");
    let mut counted = assigned(&[0], &[1]);
    counted.num_partitions = 1;
    assert_eq!(refusal(&broker, counted.clone()).await, (42, both("numPartitions")));
    counted.replication_factor = 1;
    assert_eq!(refusal(&broker, counted).await, (42, both("replication factor")));
    let gap = "partitions should be a consecutive 0-based integer sequence".to_owned();
    assert_eq!(refusal(&broker, assigned(&[0, 2], &[1])).await, (39, gap.clone()));
    assert_eq!(refusal(&broker, assigned(&[-1], &[1])).await, (39, gap));
    let twice = "Found multiple manual partition assignments for partition 0".to_owned();
    assert_eq!(refusal(&broker, assigned(&[0, 0], &[1])).await, (39, twice));
    let empty = "The manual partition assignment includes an empty replica list.".to_owned();
    assert_eq!(refusal(&broker, assigned(&[0], &[])).await, (39, empty));
    let response = create(&broker, 7, vec![assigned(&[1, 0], &[1])]).await;
    assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 2));
}

#[tokio::test]
async fn the_first_of_several_faults_is_told() {
    let broker = testing::broker().await;
    topic(&broker, "old", 1, &[]).await;
    let unknown = [("foo", Some("1"))];
    let null = [("retention.ms", None), ("foo", Some("1"))];
    let exists = (36, "Topic 'old' already exists.".to_owned());
    assert_eq!(refusal(&broker, with_configs(new("old", 0, 9), &unknown)).await, exists);
    assert_eq!(refusal(&broker, with_configs(new("old", 0, 9), &null)).await, exists);
    let null_value = (40, "Null value not supported for topic configs: retention.ms".to_owned());
    assert_eq!(refusal(&broker, with_configs(new("t", 0, 9), &null)).await, null_value);
    let unknown_name = (40, "Unknown topic config name: foo".to_owned());
    assert_eq!(refusal(&broker, with_configs(new("t", 0, 9), &unknown)).await, unknown_name);
    assert_eq!(refusal(&broker, with_configs(new("a b", 0, 9), &null)).await.0, 17);
}

#[tokio::test]
async fn names_that_are_repeated_or_prohibited() {
    let broker = testing::broker().await;
    let topics = ["__cluster_metadata", "b", "a", "b", "b"].map(|name| new(name, 1, 1));
    let response = create(&broker, 7, topics.to_vec()).await;
    let seen = response.topics.iter().map(|topic| (topic.error_code, topic.name.as_str()));
    assert_eq!(seen.collect::<Vec<_>>(), [(0, "a"), (42, "b"), (42, "__cluster_metadata")]);
    let message = |index: usize| response.topics[index].error_message.as_ref().unwrap().as_str();
    assert_eq!(message(1), "Duplicate topic name.");
    assert_eq!(message(2), "Creation of internal topic __cluster_metadata is prohibited.");
    assert_eq!(broker.store.topics().await.unwrap().len(), 1);
}

#[tokio::test]
async fn requests_that_are_refused_whole() {
    let broker = testing::broker().await;
    let codes = |response: &CreateTopicsResponse| -> Vec<i16> {
        response.topics.iter().map(|topic| topic.error_code).collect()
    };
    for version in versions(Api::CREATE_TOPICS) {
        let many = create(&broker, version, vec![new("a", 6000, 1), new("a b", 4001, 1)]).await;
        assert_eq!(codes(&many), [44, 44]);
        let late = CreateTopicsRequest::default().with_topics(vec![new("a", 1, 1)]).with_timeout_ms(0);
        let late: CreateTopicsResponse = ask(&broker, Api::CREATE_TOPICS, version, &late).await;
        assert_eq!(codes(&late), [7]);
        assert!(create(&broker, version, Vec::new()).await.topics.is_empty());
    }
    assert!(broker.store.topics().await.unwrap().is_empty());
}
