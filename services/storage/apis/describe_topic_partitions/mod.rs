//! DescribeTopicPartitions (KIP-966): topics and their partitions, in pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use kernel::{Call, ErrorCode, TopicPartition};
use rules::documents::TopicDocument;
use rules::topics::check_topic_name;

use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::{operations, text, topics};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::nodes::Cluster;

/// Upper bound on the client's limit of partitions: Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2000;

/// A topic name, and the topic if it exists.
type Entry = (Arc<str>, Option<Arc<TopicDocument>>);

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeTopicPartitionsRequest = call.decode()?;
    check_cursor(&request)?;
    call.ticket.after_writes().await;
    let from = request.cursor.as_ref().map_or(("", 0), |at| (at.topic_name.as_str(), at.partition_index));
    let topics = if request.topics.is_empty() {
        all(broker, from.0).await?
    } else {
        named(broker, &request, from.0).await?
    };
    let cluster = broker.nodes.cluster(&call.session);
    let left = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let leader_epoch = broker.store.leader_epoch().await?;
    let page = Page { cluster, leader_epoch, left, topics: Vec::new(), next: None }.fill(topics, from);
    let response =
        DescribeTopicPartitionsResponse::default().with_topics(page.topics).with_next_cursor(page.next);
    Ok(Some(call.reply(&response)?))
}

fn check_cursor(request: &DescribeTopicPartitionsRequest) -> Result<(), ApiError> {
    let Some(cursor) = &request.cursor else { return Ok(()) };
    let invalid = |why: String| Err(ApiError::Refused(ErrorCode::InvalidRequest, why));
    let name = &cursor.topic_name;
    if !request.topics.is_empty() && !request.topics.iter().any(|topic| topic.name == *name) {
        return invalid(format!("the cursor's topic {} is not among the topics asked for", name.as_str()));
    }
    if cursor.partition_index < 0 {
        return invalid(format!("the cursor's partition is {}", cursor.partition_index));
    }
    Ok(())
}

async fn all(broker: &Broker, from: &str) -> Result<Vec<Entry>, StoreError> {
    let topics = broker.store.topics().await?.into_iter();
    Ok(topics
        .skip_while(|topic| *topic.name < *from)
        .map(|topic| (Arc::clone(&topic.name), Some(topic)))
        .collect())
}

async fn named(
    broker: &Broker,
    request: &DescribeTopicPartitionsRequest,
    from: &str,
) -> Result<Vec<Entry>, StoreError> {
    let names = request.topics.iter().map(|topic| topic.name.as_str()).filter(|name| *name >= from);
    let names: BTreeSet<Arc<str>> = names.map(Arc::from).collect();
    let mut found = broker.store.topics_by_name(names.iter().cloned().collect()).await?;
    Ok(names
        .into_iter()
        .map(|name| {
            let topic = found.remove(&name);
            (name, topic)
        })
        .collect())
}

/// The page that is being filled.
struct Page {
    cluster: Cluster,
    leader_epoch: i32,
    /// How many more partitions fit.
    left: i32,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
}

impl Page {
    /// Fills the page, starting at the cursor `from`.
    fn fill(mut self, topics: Vec<Entry>, from: (&str, i32)) -> Self {
        for (name, topic) in topics {
            if self.left == 0 {
                return self.ended(&name, 0);
            }
            let Some(topic) = topic else {
                self.topics.push(missing(&name));
                continue;
            };
            let first = if *name == *from.0 { from.1 } else { 0 };
            let end = first.saturating_add(self.left).min(topic.partitions);
            let partitions: Vec<_> = (first..end).map(|index| self.partition(topic.at(index))).collect();
            self.left -= partitions.len() as i32;
            self.topics.push(described(&name).with_topic_id(topic.id.0).with_partitions(partitions));
            if end < topic.partitions {
                return self.ended(&name, end);
            }
        }
        self
    }

    fn partition(&self, at: TopicPartition) -> DescribeTopicPartitionsResponsePartition {
        let leader = BrokerId(self.cluster.leader(at).0);
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(at.partition)
            .with_leader_id(leader)
            .with_leader_epoch(self.leader_epoch)
            .with_replica_nodes(vec![leader])
            .with_isr_nodes(vec![leader])
            // Empty and not null: the leader never fails over.
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    }

    fn ended(mut self, topic: &str, partition: i32) -> Self {
        let name = text::topic_name(topic);
        self.next = Some(Cursor::default().with_topic_name(name).with_partition_index(partition));
        self
    }
}

fn described(name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(text::topic_name(name)))
        .with_is_internal(topics::is_internal(name))
        .with_topic_authorized_operations(operations::TOPIC_OPERATIONS)
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let invalid = check_topic_name(name).err().map(|refused| refused.error);
    described(name).with_error_code(invalid.unwrap_or(ErrorCode::UnknownTopicOrPartition).code())
}

#[cfg(test)]
mod tests;
