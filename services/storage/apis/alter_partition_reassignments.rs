//! AlterPartitionReassignments (KIP-455): a partition has one replica, this broker, and is never reassigned.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use kernel::{Call, ErrorCode};
use rules::commands::Refused;
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::requests::check_assignment;
use crate::apis::common::text;
use crate::broker::Broker;
use crate::nodes::Nodes;
use crate::store::TopicRef;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: AlterPartitionReassignmentsRequest = call.decode()?;
    call.ticket.after_writes().await;
    let named = |topic: &ReassignableTopic| TopicRef::new(false, &topic.name, Uuid::nil());
    let topics = broker.store.find_topics(request.topics.iter().map(named).collect()).await?;
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let named = named(&topic);
        let answer = |asked: &ReassignablePartition| {
            let known = topics.at(&named, asked.partition_index).map_err(unknown);
            let refused = known.and_then(|_| check(asked, &broker.nodes)).err();
            let (code, message) = text::error_fields(refused);
            let response =
                ReassignablePartitionResponse::default().with_partition_index(asked.partition_index);
            response.with_error_code(code).with_error_message(message)
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        responses
            .push(ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    let response = AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None)
        .with_responses(responses);
    Ok(Some(call.reply(&response)?))
}

fn unknown(error: ErrorCode) -> Refused {
    Refused::new(error, "This server does not host this topic-partition.")
}

/// A partition can be assigned to any broker: each already has it.
fn check(asked: &ReassignablePartition, nodes: &Nodes) -> Result<(), Refused> {
    match &asked.replicas {
        Some(replicas) => check_assignment(replicas, nodes),
        None => Err(Refused::new(ErrorCode::NoReassignmentInProgress, "There is no reassignment to cancel.")),
    }
}
