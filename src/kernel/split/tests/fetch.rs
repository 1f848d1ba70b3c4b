//! Requests and responses of Fetch, taken apart and put together again.

use super::super::fetch::{FetchAnswer, FetchRequest, TopicKey, write_request};
use super::*;
use crate::call::Header;

fn versions() -> std::ops::RangeInclusive<i16> {
    let versions = Api::FETCH.versions();
    versions.min..=versions.max
}

#[test]
fn a_request_is_written_as_it_was_read() {
    let message = Api::FETCH.message(Direction::Request).unwrap();
    for version in versions() {
        let mut tree = dice::body(message, version, Fill::Everything, &mut Dice::new(3));
        // What parts have no use for is left out.
        tree.set("ClusterId", Value::Null);
        let body = encoded(Api::FETCH, Direction::Request, version, &tree);
        let request = FetchRequest::read(&body, version).unwrap();
        assert_eq!(request.is_by_id, version >= 13);
        assert_eq!(request.wanted.len(), 4);
        assert_eq!(request.forgotten.len(), if version >= 7 { 4 } else { 0 });
        let wanted = request.wanted.iter().map(|(place, position)| (place, position));
        let again =
            write_request(version, &request.terms, request.session, wanted, &request.forgotten).unwrap();
        let read = |body: &[u8]| value::decode(message, version, body).unwrap();
        assert_eq!(read(&again), read(&body), "version {version}");
    }
}

/// The body as it is sent, with the records in their places.
fn sent(version: i16, mut reply: Reply) -> Vec<u8> {
    let header = Header { api: Api::FETCH, version, correlation_id: 1, client_id: None };
    let (parts, _) = crate::parts::of(&header, &mut reply).unwrap();
    let bytes = parts.into_iter().flat_map(|part| match part {
        crate::parts::Part::Bytes(bytes) => bytes,
        crate::parts::Part::Later(later) => panic!("{later:?}"),
    });
    bytes.collect()
}

fn response(version: i16, seed: u64) -> Value {
    let message = Api::FETCH.message(Direction::Response).unwrap();
    dice::body(message, version, Fill::Everything, &mut Dice::new(seed))
}

#[test]
fn an_answer_is_written_as_it_was_read() {
    for version in versions() {
        let tree = response(version, 5);
        let body = encoded(Api::FETCH, Direction::Response, version, &tree);
        let answer = FetchAnswer::read(version, Reply::new(body.clone())).unwrap();
        assert_eq!(answer.partitions.len(), 4);
        assert!(answer.bytes() > 0);
        let again = sent(version, answer.write(version).unwrap());
        assert_eq!(decoded(Api::FETCH, version, &again), decoded(Api::FETCH, version, &body));
    }
}

#[test]
fn answers_are_joined_and_adjacent_partitions_of_a_topic_are_together() {
    for version in versions() {
        let read = |seed| {
            let mut tree = response(version, seed);
            tree.set("ErrorCode", Value::Int(0));
            let mut topics = tree.get("Responses").unwrap().elements().to_vec();
            topics.truncate(1);
            topics[0].set("Topic", Value::String("t".to_owned()));
            topics[0].set("TopicId", Value::Uuid(id(1)));
            tree.set("Responses", Value::Array(topics));
            let body = encoded(Api::FETCH, Direction::Response, version, &tree);
            FetchAnswer::read(version, Reply::new(body)).unwrap()
        };
        let (mut merged, other) = (read(1), read(2));
        let bytes = merged.bytes() + other.bytes();
        let topic = merged.partitions[0].place.topic.clone();
        assert_eq!(matches!(topic, TopicKey::Id(_)), version >= 13);
        merged.join(other);
        assert_eq!((merged.partitions.len(), merged.bytes()), (4, bytes));
        if version >= 7 {
            merged.session_id = 9;
        }
        let written = decoded(Api::FETCH, version, &sent(version, merged.write(version).unwrap()));
        let topics = written.get("Responses").unwrap().elements();
        assert_eq!(topics.len(), 1);
        assert_eq!(topics[0].get("Partitions").unwrap().elements().len(), 4);
    }
}

#[test]
fn errors_are_urgent_but_not_those_of_what_nobody_knows() {
    for (code, expected) in [(0, false), (3, false), (100, false), (1, true), (56, true)] {
        let partition =
            Value::Struct(vec![("ErrorCode", Value::Int(code)), ("Records", Value::Bytes(Vec::new()))]);
        let topic = Value::Struct(vec![("Partitions", Value::Array(vec![partition]))]);
        let tree = Value::Struct(vec![("Responses", Value::Array(vec![topic]))]);
        let body = encoded(Api::FETCH, Direction::Response, 12, &tree);
        assert_eq!(FetchAnswer::read(12, Reply::new(body)).unwrap().is_urgent(), expected, "error {code}");
    }
    assert!(FetchAnswer::failed(crate::ErrorCode::FetchSessionIdNotFound).is_urgent());
}
