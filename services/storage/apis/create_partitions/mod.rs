//! CreatePartitions: topics grow.
//!
//! A manual assignment can only say that each new partition is on this broker; it is checked as Kafka checks it and has
//! no other effect.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use kernel::{Call, ErrorCode, NodeId};

use super::shared;
use crate::engines::StoreError;
use crate::rules::{Command, Refused, TopicDocument};
use crate::service::{Answer, Service};

pub(crate) async fn handle(service: &Service, call: &mut Call) -> Answer {
    let request: CreatePartitionsRequest = call.decode()?;
    shared::check_timeout(request.timeout_ms)?;
    let (topics, repeated) = shared::split_repeated(&request.topics, |topic| topic.name.as_str());
    let present = assigned_topics(service, call, &topics).await?;
    let prepared = topics.iter().map(|topic| {
        let fault = assignment_fault(topic, &present, service.node.node_id);
        let grow = Command::CreatePartitions { name: Arc::from(topic.name.as_str()), count: topic.count };
        match request.validate_only || fault.is_some() {
            true => (Command::Check(Box::new(grow)), fault),
            false => (grow, fault),
        }
    });
    let (commands, faults): (Vec<Command>, Vec<Option<Refused>>) = prepared.unzip();
    let outcomes = match commands.is_empty() {
        true => Vec::new(),
        false => service.store.commit(&call.ticket, commands).await?,
    };
    let mut results: Vec<CreatePartitionsTopicResult> = Vec::with_capacity(request.topics.len());
    for ((topic, outcome), fault) in topics.iter().zip(outcomes).zip(faults) {
        // Kafka looks at the count before it looks at assignments.
        results.push(result(&topic.name, outcome.err().or(fault)));
    }
    for topic in repeated {
        results.push(result(&topic.name, Some(shared::invalid_request("Duplicate topic name."))));
    }
    Ok(Some(call.reply(&CreatePartitionsResponse::default().with_results(results))?))
}

/// The topics that come with assignments, as they are before they grow.
async fn assigned_topics(
    service: &Service,
    call: &Call,
    topics: &[&CreatePartitionsTopic],
) -> Result<HashMap<Arc<str>, Arc<TopicDocument>>, StoreError> {
    let assigned = topics.iter().filter(|topic| topic.assignments.is_some());
    let names: Vec<Arc<str>> = assigned.map(|topic| Arc::from(topic.name.as_str())).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    // What earlier calls of the connection do to a topic decides how many assignments it takes.
    call.ticket.front().await;
    shared::topics_by_name(service, names).await
}

/// What is wrong with a topic's assignments, if its count is right.
fn assignment_fault(
    topic: &CreatePartitionsTopic,
    present: &HashMap<Arc<str>, Arc<TopicDocument>>,
    node: NodeId,
) -> Option<Refused> {
    let assignments = topic.assignments.as_ref()?;
    let added = i64::from(topic.count) - i64::from(present.get(topic.name.as_str())?.partitions);
    let given = assignments.len();
    if added != given as i64 {
        let message = format!(
            "Attempted to add {added} additional partition(s), but only {given} assignment(s) were specified."
        );
        return Some(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    assignments.iter().find_map(|assignment| shared::check_assignment(&assignment.broker_ids, node).err())
}

fn result(name: &TopicName, refused: Option<Refused>) -> CreatePartitionsTopicResult {
    let (code, message) = shared::verdict(refused);
    CreatePartitionsTopicResult::default()
        .with_name(name.clone())
        .with_error_code(code)
        .with_error_message(message)
}

#[cfg(test)]
mod tests;
