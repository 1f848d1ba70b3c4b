//! What the admin APIs share: Kafka's constants, checks that several requests go through, and topics by name or id.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use kernel::{ErrorCode, NodeId, TopicId};
use uuid::Uuid;

use crate::engines::{Load, StoreError};
use crate::rules::{Document, Key, Refused, TopicDocument};
use crate::service::{Fault, Service};

/// What a client may do to a topic where nobody asks who it is: Kafka's bits of all operations that a topic has.
pub(super) const TOPIC_OPERATIONS: i32 = 3576;

/// The same for the cluster.
pub(super) const CLUSTER_OPERATIONS: i32 = 8096;

/// Kafka's "the client did not ask for its operations".
pub(super) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// The leader epoch of every partition. The one broker leads all of them from their beginning, so that reading
/// thousands of partition documents for it would be in vain.
pub(super) const LEADER_EPOCH: i32 = 0;

/// The topic that holds the metadata of a Kafka cluster; nobody may create it.
pub(super) const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Longest sentence of a reply, in bytes. A sentence can repeat a client's own text, and before KIP-482 a string longer
/// than 32767 bytes cannot be sent.
const SENTENCE_BYTES_MAX: usize = 4096;

/// Kafka's internal topics, which it tells by their names.
pub(super) fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

/// A topic's name as the wire takes it.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(words(name))
}

/// A copy of a text as the wire takes it.
pub(super) fn words(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A client's sentence as the wire takes it.
pub(super) fn sentence(mut text: String) -> Option<StrBytes> {
    if text.len() > SENTENCE_BYTES_MAX {
        let mut end = SENTENCE_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    Some(StrBytes::from_string(text))
}

/// The code and sentence of a part of a reply; 0 and null where nothing was refused.
pub(super) fn verdict(refused: Option<Refused>) -> (i16, Option<StrBytes>) {
    refused.map_or((0, None), |refused| (refused.error.code(), sentence(refused.message)))
}

/// A refusal with INVALID_REQUEST.
pub(super) fn invalid_request(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::InvalidRequest, message)
}

/// Kafka's controller drops a request that has no time left when its turn comes; old clients send 0 for "don't wait".
pub(super) fn check_timeout(timeout_ms: i32) -> Result<(), Fault> {
    if timeout_ms > 0 {
        return Ok(());
    }
    let message = format!("timeout_ms is {timeout_ms}: the request has no time to be done in");
    Err(Fault::Refused(ErrorCode::RequestTimedOut, message))
}

/// Splits a request's parts into those that stand in it once, in its order, and those that are repeated, each of them
/// once.
pub(super) fn split_repeated<'a, T, K>(items: &'a [T], key: impl Fn(&'a T) -> K) -> (Vec<&'a T>, Vec<&'a T>)
where
    K: Eq + Hash,
{
    let mut counts: HashMap<K, usize> = HashMap::new();
    for item in items {
        *counts.entry(key(item)).or_default() += 1;
    }
    let (mut once, mut repeated) = (Vec::new(), Vec::new());
    for item in items {
        match counts.remove(&key(item)) {
            Some(1) => once.push(item),
            Some(_) => repeated.push(item),
            // A later one of those repeated.
            None => {}
        }
    }
    (once, repeated)
}

/// Checks the brokers that a client wants a partition's replicas on, as Kafka's controller does.
pub(super) fn check_assignment(brokers: &[BrokerId], node: NodeId) -> Result<(), Refused> {
    let invalid = |what: String| {
        let message = format!("The manual partition assignment includes {what}");
        Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message))
    };
    if brokers.is_empty() {
        return invalid("an empty replica list.".to_owned());
    }
    let mut sorted: Vec<i32> = brokers.iter().map(|broker| broker.0).collect();
    sorted.sort_unstable();
    let mut previous = None;
    for broker in sorted {
        if broker != node.0 {
            return invalid(format!("broker {broker}, but no such broker is registered."));
        }
        if previous == Some(broker) {
            return invalid(format!("the broker {broker} more than once."));
        }
        previous = Some(broker);
    }
    Ok(())
}

/// A topic's id that nobody has: random, and never one that command-line tools would take for an option.
pub(super) fn fresh_topic_id() -> TopicId {
    loop {
        let id = TopicId(Uuid::new_v4());
        // Kafka's reserved ids, 0 to 99, are not among those of version 4.
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

/// The store's URL as any client may read it: without a password.
pub(super) fn masked(url: &str) -> String {
    let parts = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)));
    match parts {
        Some((scheme, (login, place))) if login.contains(':') => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{place}")
        }
        _ => url.to_owned(),
    }
}

/// Loads documents, all at once; those that are absent are left out.
pub(super) async fn load(service: &Service, keys: Vec<Key>) -> Result<Vec<(Key, Document)>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    service.store.engine().await?.load(Load::Keys(keys)).await
}

/// Topics by name.
pub(super) async fn topics_by_name(
    service: &Service,
    names: Vec<Arc<str>>,
) -> Result<HashMap<Arc<str>, Arc<TopicDocument>>, StoreError> {
    let found = load(service, names.into_iter().map(Key::Topic).collect()).await?;
    let topics = found.iter().filter_map(|(_, document)| document.as_topic());
    Ok(topics.map(|topic| (Arc::clone(&topic.name), Arc::clone(topic))).collect())
}

/// Topics by id.
pub(super) async fn topics_by_id(
    service: &Service,
    ids: Vec<TopicId>,
) -> Result<HashMap<TopicId, Arc<TopicDocument>>, StoreError> {
    let found = load(service, ids.into_iter().map(Key::TopicName).collect()).await?;
    let names = found.into_iter().filter_map(|(_, document)| match document {
        Document::TopicName(name) => Some(name),
        _ => None,
    });
    let topics = topics_by_name(service, names.collect()).await?;
    // Between the two loads a name may have begun another life: its id is then another, and nobody asked for that.
    Ok(topics.into_values().map(|topic| (topic.id, topic)).collect())
}

/// The versions that Kafka 4.1 serves of an API.
#[cfg(test)]
pub(super) fn versions(api: kernel::Api) -> std::ops::RangeInclusive<i16> {
    api.versions().min..=api.versions().max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_repeated_are_told_once() {
        let items = ["a", "b", "a", "c", "b", "a"];
        let (once, repeated) = split_repeated(&items, |item| *item);
        assert_eq!((once, repeated), (vec![&"c"], vec![&"a", &"b"]));
    }

    // The sentences are those of Kafka 4.1.1 with one broker.
    #[test]
    fn assignments_are_checked_as_kafka_checks_them() {
        let check = |brokers: &[i32]| {
            let brokers: Vec<BrokerId> = brokers.iter().map(|broker| BrokerId(*broker)).collect();
            check_assignment(&brokers, NodeId(1)).map_err(|refused| refused.message)
        };
        let refused =
            |what: &str| -> Result<(), _> { Err(format!("The manual partition assignment includes {what}")) };
        assert_eq!(check(&[1]), Ok(()));
        assert_eq!(check(&[]), refused("an empty replica list."));
        assert_eq!(check(&[1, 1]), refused("the broker 1 more than once."));
        assert_eq!(check(&[7, 7]), refused("broker 7, but no such broker is registered."));
        assert_eq!(check(&[1, -1]), refused("broker -1, but no such broker is registered."));
    }

    #[test]
    fn topic_ids_can_stand_on_a_command_line() {
        let ids: Vec<String> = (0..1000).map(|_| fresh_topic_id().to_string()).collect();
        assert!(ids.iter().all(|id| !id.starts_with('-')));
    }

    #[test]
    fn a_password_is_masked() {
        assert_eq!(masked("postgres://me:secret@db:5432/x"), "postgres://me:***@db:5432/x");
        assert_eq!(masked("postgres://me:se@cr/et@db/x"), "postgres://me:***@db/x");
        for plain in ["memory://", "sqlite://yagura.db", "sqlite:///var/a@b.db", "postgres://me@db:5432/x"] {
            assert_eq!(masked(plain), plain);
        }
    }

    #[test]
    fn a_sentence_is_cut_between_characters() {
        assert_eq!(sentence("short".to_owned()).unwrap().as_str(), "short");
        let long = sentence(format!("x{}", "é".repeat(SENTENCE_BYTES_MAX))).unwrap();
        assert_eq!(long.len(), SENTENCE_BYTES_MAX - 1);
    }
}
