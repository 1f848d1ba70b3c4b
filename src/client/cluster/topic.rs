//! A topic's metadata.

use std::sync::Arc;

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kernel::TopicId;

/// A topic's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; zero from brokers without topic ids.
    pub id: TopicId,
    /// Whether it is internal to Kafka.
    pub is_internal: bool,
    /// Its partitions, indexed by number.
    pub partitions: Vec<Partition>,
}

/// A partition's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// The node id of its leader; -1 when there is none.
    pub leader: i32,
    /// Its replicas.
    pub replicas: Vec<i32>,
    /// Its in-sync replicas.
    pub in_sync_replicas: Vec<i32>,
}

/// The address to connect to; an IPv6 address needs its brackets.
pub(super) fn host_port(host: &str, port: i32) -> Arc<str> {
    if host.contains(':') { format!("[{host}]:{port}").into() } else { format!("{host}:{port}").into() }
}

/// The topic, unless it has an error or its partitions are not numbered from 0.
pub(super) fn read_topic(name: &str, answered: &MetadataResponseTopic) -> Option<Topic> {
    let mut partitions: Vec<Partition> = answered
        .partitions
        .iter()
        .map(|partition| Partition {
            index: partition.partition_index,
            leader: partition.leader_id.0,
            replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
            in_sync_replicas: partition.isr_nodes.iter().map(|node| node.0).collect(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    let is_numbered = (0..).zip(&partitions).all(|(index, partition)| partition.index == index);
    (answered.error_code == 0 && is_numbered && !partitions.is_empty()).then(|| Topic {
        name: name.to_owned(),
        id: TopicId(answered.topic_id),
        is_internal: answered.is_internal,
        partitions,
    })
}
