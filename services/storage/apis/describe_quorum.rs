//! DescribeQuorum (KIP-595): there is no Raft here; the one broker answers as a quorum of one.
//!
//! What Kafka keeps in its metadata log is in the store, whose commits are durable on return. So the quorum
//! has no log: log end offset and high watermark are 0.

use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode, NodeId};

use crate::apis::common::answer::Answer;
use crate::apis::common::text;
use crate::apis::common::topics::CLUSTER_METADATA_TOPIC;
use crate::broker::Broker;

/// From this version on the response has error messages and nodes (KIP-853).
const NODES_FROM: i16 = 2;
/// The first leader epoch of a quorum.
const LEADER_EPOCH: i32 = 1;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeQuorumRequest = call.decode()?;
    let is_asked = match request.topics.as_slice() {
        [topic] => {
            let is_first = topic.partitions.len() == 1 && topic.partitions[0].partition_index == 0;
            topic.topic_name.as_str() == CLUSTER_METADATA_TOPIC && is_first
        }
        _ => false,
    };
    let has_nodes = call.header.version >= NODES_FROM;
    let partition =
        |index: i32| if is_asked { described(broker, call, index) } else { unknown(index, has_nodes) };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index));
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions.collect())
    });
    let response = DescribeQuorumResponse::default().with_topics(topics.collect());
    let response = if has_nodes {
        let nodes = is_asked.then(|| node(broker, call)).into_iter().collect();
        response.with_error_message(no_message()).with_nodes(nodes)
    } else {
        response
    };
    Ok(Some(call.reply(&response)?))
}

/// Kafka sends an empty string here, not null, for "no message".
fn no_message() -> Option<StrBytes> {
    Some(StrBytes::default())
}

/// The controller that Metadata tells of is the only voter; the store is what all agree by.
fn described(broker: &Broker, call: &Call, index: i32) -> PartitionData {
    let cluster = broker.nodes.cluster(&call.session);
    let (now_ms, id) = (broker.clock.now_ms(), cluster.controller());
    let times = if call.header.version >= 1 { now_ms } else { -1 };
    let state = |id: NodeId| {
        ReplicaState::default()
            .with_replica_id(id.0.into())
            .with_last_fetch_timestamp(times)
            .with_last_caught_up_timestamp(times)
    };
    let others = cluster.brokers().iter().map(|broker| broker.id).filter(|other| *other != id);
    let partition = PartitionData::default()
        .with_partition_index(index)
        .with_leader_id(id.0.into())
        .with_leader_epoch(LEADER_EPOCH)
        .with_current_voters(vec![state(id)])
        .with_observers(others.map(state).collect());
    if call.header.version >= NODES_FROM { partition.with_error_message(no_message()) } else { partition }
}

fn unknown(index: i32, has_message: bool) -> PartitionData {
    let partition = PartitionData::default()
        .with_partition_index(index)
        .with_error_code(ErrorCode::UnknownTopicOrPartition.code());
    let message =
        format!("only partition 0 of {CLUSTER_METADATA_TOPIC} has a quorum, and it is asked for alone");
    if has_message { partition.with_error_message(text::error_message(message)) } else { partition }
}

fn node(broker: &Broker, call: &Call) -> Node {
    let cluster = broker.nodes.cluster(&call.session);
    let id = cluster.controller();
    let advertised = cluster.broker(id).map_or(&call.session.advertised, |controller| &controller.address);
    let listener = Listener::default()
        // Kafka's admin client requires upper case.
        .with_name(text::str_bytes(&call.session.listener.to_uppercase()))
        .with_host(text::str_bytes(&advertised.host))
        .with_port(advertised.port);
    Node::default().with_node_id(id.0.into()).with_listeners(vec![listener])
}
