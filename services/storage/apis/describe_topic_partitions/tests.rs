//! Pages are those of Kafka 4.1.1.

use kafka_protocol::messages::describe_topic_partitions_request::{self, TopicRequest};
use kernel::Api;

use super::super::testing::{self, ask, topic};
use super::*;
use crate::apis::common::text;

async fn describe(
    broker: &Arc<Broker>,
    names: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = cursor.map(|(name, partition)| {
        describe_topic_partitions_request::Cursor::default()
            .with_topic_name(text::topic_name(name))
            .with_partition_index(partition)
    });
    let topic = |name: &&str| TopicRequest::default().with_name(text::topic_name(name));
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(names.iter().map(topic).collect())
        .with_response_partition_limit(limit)
        .with_cursor(cursor);
    ask(broker, Api::DESCRIBE_TOPIC_PARTITIONS, 0, &request).await
}

/// `name:partitions` of each topic (`name!code` if refused), and `> name:partition` for the next cursor.
fn seen(response: &DescribeTopicPartitionsResponse) -> String {
    let topic = |topic: &DescribeTopicPartitionsResponseTopic| {
        let name = topic.name.as_ref().map_or("", |name| name.as_str());
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index.to_string());
        match topic.error_code {
            0 => format!("{name}:{}", partitions.collect::<Vec<_>>().join(",")),
            code => format!("{name}!{code}"),
        }
    };
    let mut words: Vec<String> = response.topics.iter().map(topic).collect();
    if let Some(next) = &response.next_cursor {
        words.push(format!("> {}:{}", next.topic_name.as_str(), next.partition_index));
    }
    words.join(" ")
}

async fn three_topics() -> Arc<Broker> {
    let broker = testing::broker().await;
    for (name, partitions) in [("t3", 3), ("t1", 1), ("t2", 2)] {
        topic(&broker, name, partitions, &[]).await;
    }
    broker
}

// These pages are those of Kafka 4.1.1.
#[tokio::test]
async fn pages_end_where_the_limit_is() {
    let broker = three_topics().await;
    for (limit, expected) in [
        (-1, "t1:0 > t2:0"),
        (0, "t1:0 > t2:0"),
        (1, "t1:0 > t2:0"),
        (2, "t1:0 t2:0 > t2:1"),
        (3, "t1:0 t2:0,1 > t3:0"),
        (5, "t1:0 t2:0,1 t3:0,1 > t3:2"),
        (6, "t1:0 t2:0,1 t3:0,1,2"),
        (i32::MAX, "t1:0 t2:0,1 t3:0,1,2"),
    ] {
        assert_eq!(seen(&describe(&broker, &["t3", "t1", "t2", "t1"], limit, None).await), expected);
        assert_eq!(seen(&describe(&broker, &[], limit, None).await), expected);
    }
    let names = ["t1", "t1x", "t2", "tx", "a b"];
    for (limit, expected) in [
        (1, "a b!17 t1:0 > t1x:0"),
        (2, "a b!17 t1:0 t1x!3 t2:0 > t2:1"),
        (3, "a b!17 t1:0 t1x!3 t2:0,1 > tx:0"),
        (4, "a b!17 t1:0 t1x!3 t2:0,1 tx!3"),
    ] {
        assert_eq!(seen(&describe(&broker, &names, limit, None).await), expected);
    }
}

#[tokio::test]
async fn pages_begin_where_the_cursor_is() {
    let broker = three_topics().await;
    let all = ["t3", "t1", "t2"];
    for (cursor, limit, expected) in [
        (("t1", 0), 2000, "t1:0 t2:0,1 t3:0,1,2"),
        (("t1", 1), 2000, "t1: t2:0,1 t3:0,1,2"),
        (("t2", 1), 2, "t2:1 t3:0 > t3:1"),
        (("t2", 9), 2000, "t2: t3:0,1,2"),
        (("t2", i32::MAX), 2000, "t2: t3:0,1,2"),
    ] {
        assert_eq!(seen(&describe(&broker, &all, limit, Some(cursor)).await), expected);
        assert_eq!(seen(&describe(&broker, &[], limit, Some(cursor)).await), expected);
    }
    assert_eq!(seen(&describe(&broker, &[], 2, Some(("t1x", 5))).await), "t2:0,1 > t3:0");
    for cursor in [("t2", -1), ("t21", 0), ("", 0)] {
        assert_eq!(seen(&describe(&broker, &all, 9, Some(cursor)).await), "t3!42 t1!42 t2!42");
    }
}

#[tokio::test]
async fn a_partition_is_on_the_one_broker() {
    let broker = three_topics().await;
    let node = BrokerId(broker.nodes.id().0);
    let response = describe(&broker, &["t1", "__consumer_offsets"], 9, None).await;
    assert!(response.topics[0].is_internal && !response.topics[1].is_internal);
    let topic = &response.topics[1];
    let id = testing::stored(&broker, "t1").await.id.0;
    assert_eq!((topic.topic_id, topic.topic_authorized_operations), (id, 3576));
    let partition = &topic.partitions[0];
    assert_eq!((partition.error_code, partition.leader_id, partition.leader_epoch), (0, node, 0));
    assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![node], &vec![node]));
    assert_eq!(partition.eligible_leader_replicas, Some(Vec::new()));
    assert_eq!(partition.last_known_elr, Some(Vec::new()));
    assert!(partition.offline_replicas.is_empty());
}
