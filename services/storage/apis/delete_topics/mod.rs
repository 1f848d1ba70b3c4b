//! DeleteTopics, by name or, from version 6 on, by id.
//!
//! A topic is deleted by id, so names are resolved to ids here. The lookup must see topics that earlier calls
//! of the connection created, and later calls must see the deletion: such a call waits until it is the
//! connection's first.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kernel::{Call, ErrorCode, TopicId};
use rules::commands::{Applied, Command, Outcome, Refused};
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::{requests, text};
use crate::broker::Broker;
use crate::engines::StoreError;

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

/// What a request deletes and refuses.
struct Plan {
    /// Names that are not resolved yet.
    names: Vec<TopicName>,
    /// Ids that the client sent, including duplicates.
    ids: HashSet<Uuid>,
    /// Topics to delete, with the name if the client sent the name.
    targets: Vec<(Option<TopicName>, Uuid)>,
    /// Refused topics.
    results: Vec<DeletableTopicResult>,
}

impl Plan {
    /// Parses the request. A duplicate topic is refused and not deleted at all.
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

    /// Resolves names to ids.
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
        // Another client deleted it first; this client sent no id, so the error is that of a name.
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
