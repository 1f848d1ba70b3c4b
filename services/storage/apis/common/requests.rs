//! Checks shared by several requests, and the handling of duplicates in a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use kafka_protocol::messages::BrokerId;
use kernel::{ErrorCode, NodeId};
use rules::commands::Refused;

use super::answer::ApiError;
use crate::nodes::Nodes;
use crate::store::TopicRef;

/// A refusal with INVALID_REQUEST.
pub(crate) fn invalid_request(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::InvalidRequest, message)
}

/// Kafka's controller drops a request whose timeout has expired; old clients send 0 for "don't wait".
pub(crate) fn check_timeout(timeout_ms: i32) -> Result<(), ApiError> {
    if timeout_ms > 0 {
        return Ok(());
    }
    let message = format!("timeout_ms is {timeout_ms}: the request has no time to be done in");
    Err(ApiError::Refused(ErrorCode::RequestTimedOut, message))
}

/// Splits a request's items into those that occur once and those that are repeated, each listed once. Both
/// keep the request's order.
pub(crate) fn split_repeated<'a, T, K>(items: &'a [T], key: impl Fn(&'a T) -> K) -> (Vec<&'a T>, Vec<&'a T>)
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
            // Another occurrence of a repeated item.
            None => {}
        }
    }
    (once, repeated)
}

/// Checks a manual replica assignment as Kafka's controller does.
pub(crate) fn check_assignment(brokers: &[BrokerId], nodes: &Nodes) -> Result<(), Refused> {
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
        if !nodes.has(NodeId(broker)) {
            return invalid(format!("broker {broker}, but no such broker is registered."));
        }
        if previous == Some(broker) {
            return invalid(format!("the broker {broker} more than once."));
        }
        previous = Some(broker);
    }
    Ok(())
}

/// Removes duplicate keys. The last entry of a key counts, as in Kafka, which reads them into a map.
pub(crate) fn keep_last<K: Hash + Eq + Clone, V>(said: Vec<(K, V)>) -> Vec<(K, V)> {
    let mut kept: Vec<(K, V)> = Vec::with_capacity(said.len());
    let mut places: HashMap<K, usize> = HashMap::with_capacity(said.len());
    for (key, value) in said {
        match places.entry(key.clone()) {
            Entry::Occupied(place) => kept[*place.get()].1 = value,
            Entry::Vacant(free) => {
                free.insert(kept.len());
                kept.push((key, value));
            }
        }
    }
    kept
}

/// Groups partition rows by topic for a reply: each topic once, in order of first occurrence.
pub(crate) fn by_topic<T>(rows: impl IntoIterator<Item = (TopicRef, T)>) -> Vec<(TopicRef, Vec<T>)> {
    let mut topics: Vec<(TopicRef, Vec<T>)> = Vec::new();
    let mut places: HashMap<TopicRef, usize> = HashMap::new();
    for (topic, row) in rows {
        let place = *places.entry(topic).or_insert_with_key(|topic| {
            topics.push((topic.clone(), Vec::new()));
            topics.len() - 1
        });
        topics[place].1.push(row);
    }
    topics
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

    // The messages are those of Kafka 4.1.1 with one broker.
    #[test]
    fn assignments_are_checked_as_kafka_checks_them() {
        let time = std::sync::Arc::new(kernel::clock::ManualClock::at(0));
        let nodes = Nodes::new("c".into(), Some(NodeId(1)), None, time);
        let check = |brokers: &[i32]| {
            let brokers: Vec<BrokerId> = brokers.iter().map(|broker| BrokerId(*broker)).collect();
            check_assignment(&brokers, &nodes).map_err(|refused| refused.message)
        };
        let refused =
            |what: &str| -> Result<(), _> { Err(format!("The manual partition assignment includes {what}")) };
        assert_eq!(check(&[1]), Ok(()));
        assert_eq!(check(&[]), refused("an empty replica list."));
        assert_eq!(check(&[1, 1]), refused("the broker 1 more than once."));
        assert_eq!(check(&[7, 7]), refused("broker 7, but no such broker is registered."));
        assert_eq!(check(&[1, -1]), refused("broker -1, but no such broker is registered."));
    }
}
