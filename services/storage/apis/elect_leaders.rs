//! ElectLeaders (KIP-183, KIP-460): every partition has its preferred leader, so no election is needed.

use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use kernel::{Call, ErrorCode};
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::requests::by_topic;
use crate::apis::common::text;
use crate::broker::Broker;
use crate::store::TopicRef;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ElectLeadersRequest = call.decode()?;
    call.ticket.after_writes().await;
    // A request for all partitions (null) lists only those that got another leader: none.
    let asked = request.topic_partitions.unwrap_or_default();
    let named = |topic: &TopicPartitions| TopicRef::new(false, &topic.topic, Uuid::nil());
    let topics = broker.store.find_topics(asked.iter().map(named).collect()).await?;
    let mut rows = Vec::new();
    for topic in &asked {
        let named = named(topic);
        for index in &topic.partitions {
            let result = result(*index, topics.at(&named, *index).err());
            rows.push((named.clone(), result));
        }
    }
    let topics = by_topic(rows).into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default().with_topic(topic.wire_name()).with_partition_result(partitions)
    });
    let response = ElectLeadersResponse::default().with_replica_election_results(topics.collect());
    Ok(Some(call.reply(&response)?))
}

fn result(index: i32, error: Option<ErrorCode>) -> PartitionResult {
    let (error, message) = match error {
        Some(error) => (error, "This server does not host this topic-partition."),
        None => (ErrorCode::ElectionNotNeeded, "The partition has the leader that it prefers."),
    };
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(error.code())
        .with_error_message(text::error_message(message.to_owned()))
}
