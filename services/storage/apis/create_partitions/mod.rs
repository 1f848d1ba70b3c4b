//! CreatePartitions: adds partitions to topics.
//!
//! A manual assignment can only place each new partition on this broker. It is checked as Kafka checks it and
//! has no other effect.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use kernel::{Call, ErrorCode};
use rules::commands::{Command, Refused};
use rules::documents::TopicDocument;

use crate::apis::common::answer::Answer;
use crate::apis::common::{requests, text};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::nodes::Nodes;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: CreatePartitionsRequest = call.decode()?;
    requests::check_timeout(request.timeout_ms)?;
    let (topics, repeated) = requests::split_repeated(&request.topics, |topic| topic.name.as_str());
    let present = assigned_topics(broker, call, &topics).await?;
    let prepared = topics.iter().map(|topic| {
        let fault = assignment_fault(topic, &present, &broker.nodes);
        let grow = Command::CreatePartitions { name: Arc::from(topic.name.as_str()), count: topic.count };
        if request.validate_only || fault.is_some() {
            (Command::Check(Box::new(grow)), fault)
        } else {
            (grow, fault)
        }
    });
    let (commands, faults): (Vec<Command>, Vec<Option<Refused>>) = prepared.unzip();
    let outcomes =
        if commands.is_empty() { Vec::new() } else { broker.store.commit(&call.ticket, commands).await? };
    let mut results: Vec<CreatePartitionsTopicResult> = Vec::with_capacity(request.topics.len());
    for ((topic, outcome), fault) in topics.iter().zip(outcomes).zip(faults) {
        // Kafka checks the count before the assignments.
        results.push(result(&topic.name, outcome.err().or(fault)));
    }
    for topic in repeated {
        results.push(result(&topic.name, Some(requests::invalid_request("Duplicate topic name."))));
    }
    Ok(Some(call.reply(&CreatePartitionsResponse::default().with_results(results))?))
}

/// The topics that have assignments in the request, before partitions are added.
async fn assigned_topics(
    broker: &Broker,
    call: &Call,
    topics: &[&CreatePartitionsTopic],
) -> Result<HashMap<Arc<str>, Arc<TopicDocument>>, StoreError> {
    let assigned = topics.iter().filter(|topic| topic.assignments.is_some());
    let names: Vec<Arc<str>> = assigned.map(|topic| Arc::from(topic.name.as_str())).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    // Earlier calls of the connection may change how many assignments are expected.
    call.ticket.front().await;
    broker.store.topics_by_name(names).await
}

/// The fault in a topic's assignments, if its count is valid.
fn assignment_fault(
    topic: &CreatePartitionsTopic,
    present: &HashMap<Arc<str>, Arc<TopicDocument>>,
    nodes: &Nodes,
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
    assignments.iter().find_map(|assignment| requests::check_assignment(&assignment.broker_ids, nodes).err())
}

fn result(name: &TopicName, refused: Option<Refused>) -> CreatePartitionsTopicResult {
    let (code, message) = text::error_fields(refused);
    CreatePartitionsTopicResult::default()
        .with_name(name.clone())
        .with_error_code(code)
        .with_error_message(message)
}

#[cfg(test)]
mod tests;
