//! Error codes and messages are those of a Kafka 4.1.1 node.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kernel::Api;

use super::super::testing::{self, ask, topic};
use super::*;
use crate::apis::common::text;
use crate::apis::testing::versions;

async fn delete(
    broker: &Arc<Broker>,
    version: i16,
    names: &[&str],
    ids: &[(Option<&str>, Uuid)],
) -> Vec<DeletableTopicResult> {
    let names = names.iter().map(|name| text::topic_name(name));
    let state = |name: Option<TopicName>, id| DeleteTopicState::default().with_name(name).with_topic_id(id);
    let mut request = DeleteTopicsRequest::default().with_timeout_ms(1000);
    if version < 6 {
        request.topic_names = names.collect();
    } else {
        let named = names.map(|name| state(Some(name), Uuid::nil()));
        let other = ids.iter().map(|(name, id)| state(name.map(text::topic_name), *id));
        request.topics = named.chain(other).collect();
    }
    let response: DeleteTopicsResponse = ask(broker, Api::DELETE_TOPICS, version, &request).await;
    response.responses
}

/// Error code, name and message of each topic.
fn seen(results: &[DeletableTopicResult]) -> Vec<(i16, &str, &str)> {
    results.iter().map(|result| (result.error_code, name_of(result), message_of(result))).collect()
}

fn name_of(result: &DeletableTopicResult) -> &str {
    result.name.as_ref().map_or("", |name| name.as_str())
}

fn message_of(result: &DeletableTopicResult) -> &str {
    result.error_message.as_ref().map_or("", |message| message.as_str())
}

const UNKNOWN: &str = "This server does not host this topic-partition.";
const UNKNOWN_ID: &str = "This server does not host this topic ID.";

#[tokio::test]
async fn every_version_deletes() {
    let broker = testing::broker().await;
    for version in versions(Api::DELETE_TOPICS) {
        let id = topic(&broker, "t", 2, &[]).await.id.0;
        topic(&broker, "kept", 1, &[]).await;
        let results = delete(&broker, version, &["t", "kept", "nope", "kept", ""], &[]).await;
        let message = |text: &'static str| if version >= 5 { text } else { "" };
        let expected = [
            (42, "kept", message("Duplicate topic name.")),
            (3, "nope", message(UNKNOWN)),
            (3, "", message(UNKNOWN)),
            (0, "t", ""),
        ];
        assert_eq!(seen(&results), expected, "version {version}");
        assert_eq!(results[3].topic_id, if version >= 6 { id } else { Uuid::nil() });
        let left = broker.store.topics().await.unwrap();
        assert_eq!(left.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["kept"]);
        assert_eq!(seen(&delete(&broker, version, &["kept"], &[]).await), [(0, "kept", "")]);
    }
}

#[tokio::test]
async fn topics_are_deleted_by_id() {
    let broker = testing::broker().await;
    let id = topic(&broker, "t", 1, &[]).await.id.0;
    let other = topic(&broker, "other", 1, &[]).await.id.0;
    let unknown = Uuid::from_u128(9);
    let results = delete(&broker, 6, &[], &[(None, id), (None, unknown), (None, other), (None, other)]).await;
    let expected = [(42, "", "Duplicate topic id."), (0, "t", ""), (100, "", UNKNOWN_ID)];
    assert_eq!(seen(&results), expected);
    assert_eq!([results[0].topic_id, results[1].topic_id, results[2].topic_id], [other, id, unknown]);
    assert!(results[2].name.is_none());
}

#[tokio::test]
async fn what_is_named_twice_or_not_at_all_stays() {
    let broker = testing::broker().await;
    let id = topic(&broker, "t", 1, &[]).await.id.0;
    let results = delete(&broker, 6, &["t"], &[(None, id)]).await;
    let same = "The provided topic name maps to an ID that was already supplied.";
    assert_eq!((seen(&results), results[0].topic_id), (vec![(42, "t", same)], id));
    let results = delete(&broker, 6, &["t"], &[(None, id), (None, id)]).await;
    assert_eq!(seen(&results), [(42, "", "Duplicate topic id."), (42, "t", same)]);
    let results = delete(&broker, 6, &[], &[(Some("t"), id), (None, Uuid::nil())]).await;
    let both = "You may not specify both topic name and topic id.";
    let neither = "Neither topic name nor id were specified.";
    assert_eq!(seen(&results), [(42, "t", both), (42, "", neither)]);
    assert_eq!(broker.store.topics().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_needs_time() {
    let broker = testing::broker().await;
    topic(&broker, "t", 1, &[]).await;
    let request = DeleteTopicsRequest::default().with_topic_names(vec![text::topic_name("t")]);
    let response: DeleteTopicsResponse = ask(&broker, Api::DELETE_TOPICS, 5, &request).await;
    assert_eq!((response.responses[0].error_code, name_of(&response.responses[0])), (7, "t"));
    assert!(delete(&broker, 6, &[], &[]).await.is_empty());
}
