//! Error codes and messages are those of Kafka 4.1.1 with one broker.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;
use kernel::Api;

use super::super::testing::{self, ask, topic};
use super::*;
use crate::apis::common::text;
use crate::apis::testing::versions;

fn grow(name: &str, count: i32, assignments: Option<Vec<Vec<i32>>>) -> CreatePartitionsTopic {
    let assignment = |brokers: Vec<i32>| {
        let brokers = brokers.into_iter().map(BrokerId).collect();
        CreatePartitionsAssignment::default().with_broker_ids(brokers)
    };
    CreatePartitionsTopic::default()
        .with_name(text::topic_name(name))
        .with_count(count)
        .with_assignments(assignments.map(|given| given.into_iter().map(assignment).collect()))
}

async fn send(
    broker: &Arc<Broker>,
    version: i16,
    topics: Vec<CreatePartitionsTopic>,
    is_check: bool,
) -> Vec<(i16, String)> {
    let request = CreatePartitionsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(1000)
        .with_validate_only(is_check);
    let response: CreatePartitionsResponse = ask(broker, Api::CREATE_PARTITIONS, version, &request).await;
    let message = |result: &CreatePartitionsTopicResult| {
        result.error_message.as_ref().map_or(String::new(), |message| message.to_string())
    };
    response.results.iter().map(|result| (result.error_code, message(result))).collect()
}

async fn partitions(broker: &Arc<Broker>, name: &str) -> i32 {
    testing::stored(broker, name).await.partitions
}

#[tokio::test]
async fn every_version_grows_and_checks() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[]).await;
    for version in versions(Api::CREATE_PARTITIONS) {
        let (has, wants) = (1 + i32::from(version), 2 + i32::from(version));
        let ok = [(0, String::new())];
        assert_eq!(send(&broker, version, vec![grow("t", wants, None)], true).await, ok);
        assert_eq!(partitions(&broker, "t").await, has, "a check changes nothing");
        assert_eq!(send(&broker, version, vec![grow("t", wants, Some(vec![vec![1]]))], false).await, ok);
        assert_eq!(partitions(&broker, "t").await, wants);
        let same = format!("Topic already has {wants} partition(s).");
        assert_eq!(send(&broker, version, vec![grow("t", wants, None)], false).await, [(37, same)]);
    }
}

/// A count, assignments, and the error code and message for them.
type Case = (i32, Option<Vec<Vec<i32>>>, i16, &'static str);

#[tokio::test]
async fn counts_and_assignments_that_cannot_be() {
    let broker = testing::broker().await;
    topic(&broker, "t", 2, &[]).await;
    let unknown = "The manual partition assignment includes broker 7, but no such broker is registered.";
    let cases: [Case; 7] = [
        (1, Some(vec![vec![7]]), 37, "The topic t currently has 2 partition(s); 1 would not be an increase."),
        (-5, None, 37, "The topic t currently has 2 partition(s); -5 would not be an increase."),
        (2, Some(vec![vec![7]]), 37, "Topic already has 2 partition(s)."),
        (
            4,
            Some(vec![vec![1]]),
            39,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            4,
            Some(vec![vec![1], vec![]]),
            39,
            "The manual partition assignment includes an empty replica list.",
        ),
        (3, Some(vec![vec![7]]), 39, unknown),
        (3, Some(vec![vec![1, 7]]), 39, unknown),
    ];
    for (count, assignments, code, message) in cases {
        let seen = send(&broker, 3, vec![grow("t", count, assignments)], false).await;
        assert_eq!(seen, [(code, message.to_owned())]);
    }
    assert_eq!(partitions(&broker, "t").await, 2);
}

#[tokio::test]
async fn unknown_and_repeated_topics() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[]).await;
    let topics = vec![grow("t", 3, None), grow("nope", 3, Some(vec![])), grow("t", 4, None)];
    let seen = send(&broker, 3, topics, false).await;
    assert_eq!((seen.len(), seen[0].0), (2, 3));
    assert_eq!(seen[1], (42, "Duplicate topic name.".to_owned()));
    assert_eq!(partitions(&broker, "t").await, 1);
    let late = CreatePartitionsRequest::default().with_topics(vec![grow("t", 3, None)]);
    let late: CreatePartitionsResponse = ask(&broker, Api::CREATE_PARTITIONS, 0, &late).await;
    assert_eq!(late.results[0].error_code, 7);
    assert!(send(&broker, 0, Vec::new(), false).await.is_empty());
}
