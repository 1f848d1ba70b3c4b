//! DeleteTopics, by name or, from version 6 on, by id.
//!
//! A deletion is of one life of a topic, so names become ids here. That must see what earlier calls of the connection
//! created, and later calls must see the deletion: such a call waits until it is the first of its connection.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kernel::{Call, ErrorCode, TopicId};
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::requests;
use crate::apis::common::text;
use crate::broker::Broker;
use crate::engines::StoreError;
use rules::commands::{Applied, Command, Outcome, Refused};

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DeleteTopicsRequest = call.decode()?;
    requests::check_timeout(request.timeout_ms)?;
    let mut plan = Plan::of(&request);
    if !plan.names.is_empty() {
        call.ticket.front().await;
        plan.resolve(broker).await?;
    }
    let Plan { targets, mut results, .. } = plan;
    if !targets.is_empty() {
        let delete = |(_, id): &(Option<TopicName>, Uuid)| Command::DeleteTopic { id: TopicId(*id) };
        let outcomes = broker.store.commit(&call.ticket, targets.iter().map(delete).collect()).await?;
        let deleted = targets.into_iter().zip(outcomes);
        results.extend(deleted.map(|((name, id), outcome)| result(name, id, outcome)));
    }
    Ok(Some(call.reply(&DeleteTopicsResponse::default().with_responses(results))?))
}

/// What a request comes to.
struct Plan {
    /// Names that are yet to be resolved.
    names: Vec<TopicName>,
    /// Ids that the client gave, once or more often.
    ids: HashSet<Uuid>,
    /// What to delete, with the name if that is what the client gave.
    targets: Vec<(Option<TopicName>, Uuid)>,
    /// What is refused.
    results: Vec<DeletableTopicResult>,
}

impl Plan {
    /// Sorts out what is meant. Whatever is meant twice is deleted not even once.
    fn of(request: &DeleteTopicsRequest) -> Self {
        let mut results = Vec::new();
        let (mut names, mut ids): (Vec<TopicName>, Vec<Uuid>) = (request.topic_names.clone(), Vec::new());
        for topic in &request.topics {
            let refuse = |why| refused(topic.name.clone(), topic.topic_id, requests::invalid_request(why));
            match (&topic.name, topic.topic_id.is_nil()) {
                (Some(name), true) => names.push(name.clone()),
                (None, false) => ids.push(topic.topic_id),
                (None, true) => results.push(refuse("Neither topic name nor id were specified.")),
                (Some(_), false) => results.push(refuse("You may not specify both topic name and topic id.")),
            }
        }
        let (names_once, names_repeated) = requests::split_repeated(&names, |name| name.as_str());
        let (ids_once, ids_repeated) = requests::split_repeated(&ids, |id| *id);
        let same_name = || requests::invalid_request("Duplicate topic name.");
        let same_id = || requests::invalid_request("Duplicate topic id.");
        let of_name = |name: &TopicName| refused(Some(name.clone()), Uuid::nil(), same_name());
        results.extend(names_repeated.into_iter().map(of_name));
        results.extend(ids_repeated.into_iter().map(|id| refused(None, *id, same_id())));
        let targets = ids_once.into_iter().map(|id| (None, *id)).collect();
        let names = names_once.into_iter().cloned().collect();
        Self { names, ids: ids.into_iter().collect(), targets, results }
    }

    /// Turns names into targets.
    async fn resolve(&mut self, broker: &Broker) -> Result<(), StoreError> {
        let names = self.names.iter().map(|name| Arc::from(name.as_str())).collect();
        let found = broker.store.topics_by_name(names).await?;
        for name in std::mem::take(&mut self.names) {
            match found.get(name.as_str()).map(|topic| topic.id.0) {
                None => self.results.push(refused(Some(name), Uuid::nil(), unknown_name())),
                Some(id) if self.ids.contains(&id) => {
                    self.targets.retain(|(_, target)| *target != id);
                    let why = "The provided topic name maps to an ID that was already supplied.";
                    self.results.push(refused(Some(name), id, requests::invalid_request(why)));
                }
                Some(id) => self.targets.push((Some(name), id)),
            }
        }
        Ok(())
    }
}

fn unknown_name() -> Refused {
    let error = ErrorCode::UnknownTopicOrPartition;
    Refused::new(error, "This server does not host this topic-partition.")
}

fn result(name: Option<TopicName>, id: Uuid, outcome: Outcome) -> DeletableTopicResult {
    match (name, outcome) {
        (_, Ok(Applied::Topic(topic))) => {
            DeletableTopicResult::default().with_name(Some(text::topic_name(&topic.name))).with_topic_id(id)
        }
        (name, Ok(other)) => {
            let message = format!("deleting the topic gave {other:?}");
            refused(name, id, Refused::new(ErrorCode::UnknownServerError, message))
        }
        // Somebody else was faster, and the client knows nothing of ids.
        (Some(name), Err(refusal)) if refusal.error == ErrorCode::UnknownTopicId => {
            refused(Some(name), Uuid::nil(), unknown_name())
        }
        (name, Err(refusal)) => refused(name, id, refusal),
    }
}

fn refused(name: Option<TopicName>, id: Uuid, refused: Refused) -> DeletableTopicResult {
    let (code, message) = text::error_fields(Some(refused));
    DeletableTopicResult::default()
        .with_name(name)
        .with_topic_id(id)
        .with_error_code(code)
        .with_error_message(message)
}

#[cfg(test)]
mod tests;
