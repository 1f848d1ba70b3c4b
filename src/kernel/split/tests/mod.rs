//! The merge of what was split is what one service answers, for every API and version.

mod all;
mod fetch;
mod pages;

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::budget::Budget;
use crate::reply::Reply;
use crate::schema::Direction;
use crate::schema::tests::dice::{self, Dice, Fill};
use crate::schema::value::{self, Value};
use crate::schema::walk::{self, Found};

/// The arrays of an API's request and response, and the names in their elements.
struct Shape {
    api: Api,
    items: &'static str,
    name: &'static str,
    answers: &'static str,
    told: &'static str,
}

const fn shape(
    api: Api,
    (items, name): (&'static str, &'static str),
    (answers, told): (&'static str, &'static str),
) -> Shape {
    Shape { api, items, name, answers, told }
}

static SHAPES: [Shape; 12] = [
    shape(Api::PRODUCE, ("TopicData", "Name"), ("Responses", "Name")),
    shape(Api::LIST_OFFSETS, ("Topics", "Name"), ("Topics", "Name")),
    shape(Api::METADATA, ("Topics", "Name"), ("Topics", "Name")),
    shape(Api::CREATE_TOPICS, ("Topics", "Name"), ("Topics", "Name")),
    shape(Api::DELETE_TOPICS, ("Topics", "Name"), ("Responses", "Name")),
    shape(Api::DELETE_RECORDS, ("Topics", "Name"), ("Topics", "Name")),
    shape(Api::OFFSET_FOR_LEADER_EPOCH, ("Topics", "Topic"), ("Topics", "Topic")),
    shape(Api::DESCRIBE_CONFIGS, ("Resources", "ResourceName"), ("Results", "ResourceName")),
    shape(Api::ALTER_CONFIGS, ("Resources", "ResourceName"), ("Responses", "ResourceName")),
    shape(Api::CREATE_PARTITIONS, ("Topics", "Name"), ("Results", "Name")),
    shape(Api::INCREMENTAL_ALTER_CONFIGS, ("Resources", "ResourceName"), ("Responses", "ResourceName")),
    shape(Api::DESCRIBE_PRODUCERS, ("Topics", "Name"), ("Topics", "Name")),
];

const OWNERS: usize = 3;

fn name(number: u64) -> String {
    format!("topic-{number}")
}

fn id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

/// Topic 0, 3, 6 ... are the first owner's, and so is what is no topic.
fn owner(key: &ItemKey) -> usize {
    let number = match key {
        ItemKey::Topic(name) => name.as_str().strip_prefix("topic-").unwrap().parse().unwrap(),
        ItemKey::TopicId(id) => id.0.as_u128() as usize - 1,
        ItemKey::Resource(..) | ItemKey::Nothing => 0,
    };
    number % OWNERS
}

impl Shape {
    /// Gives an element the names of a topic.
    fn set(&self, element: &mut Value, field: &str, number: u64) {
        element.set(field, Value::String(name(number)));
        element.set("TopicId", Value::Uuid(id(number)));
        element.set("ResourceType", Value::Int(2));
    }

    fn request(&self, version: i16, topics: &[u64], dice: &mut Dice) -> Value {
        let message = self.api.message(Direction::Request).unwrap();
        let mut request = dice::body(message, version, Fill::Everything, dice);
        if self.api == Api::DELETE_TOPICS && version < 6 {
            let names = topics.iter().map(|number| Value::String(name(*number)));
            request.set("TopicNames", Value::Array(names.collect()));
            return request;
        }
        let element = request.get(self.items).unwrap().elements()[0].clone();
        let named = |number: &u64| {
            let mut element = element.clone();
            self.set(&mut element, self.name, *number);
            element
        };
        request.set(self.items, Value::Array(topics.iter().map(named).collect()));
        request
    }

    /// What one service answers: for each item what depends on its topic alone.
    fn answer(&self, version: i16, request: &[u8]) -> Bytes {
        let asked = value::decode(self.api.message(Direction::Request).unwrap(), version, request).unwrap();
        let by_name = asked.get("TopicNames").map(Value::elements).unwrap_or_default();
        let by_struct = asked.get(self.items).map(Value::elements).unwrap_or_default();
        let numbers = by_name.iter().chain(by_struct).map(|item| self.number(item));
        let message = self.api.message(Direction::Response).unwrap();
        let answers: Vec<Value> = numbers
            .map(|number| {
                let body = dice::body(message, version, Fill::Everything, &mut Dice::new(number));
                let mut answer = body.get(self.answers).unwrap().elements()[0].clone();
                self.set(&mut answer, self.told, number);
                answer
            })
            .collect();
        let mut response = value::default_struct(message.fields, version);
        response.set(self.answers, Value::Array(answers));
        Bytes::from(value::encode(message, version, &response).unwrap())
    }

    fn number(&self, item: &Value) -> u64 {
        if let Some(Value::Uuid(id)) = item.get("TopicId") {
            return id.as_u128() as u64 - 1;
        }
        let name = item.as_str().or_else(|| item.get(self.name)?.as_str()).unwrap();
        name.strip_prefix("topic-").unwrap().parse().unwrap()
    }
}

fn whole(version: i16, body: &Bytes) -> Whole<'_> {
    Whole { version, body, is_for_all: false, owner: &owner, owners: &[0, 1, 2] }
}

fn encoded(api: Api, direction: Direction, version: i16, tree: &Value) -> Bytes {
    Bytes::from(value::encode(api.message(direction).unwrap(), version, tree).unwrap())
}

fn decoded(api: Api, version: i16, body: &[u8]) -> Value {
    value::decode(api.message(Direction::Response).unwrap(), version, body).unwrap()
}

#[test]
fn the_merge_of_the_parts_is_the_answer_to_the_whole() {
    let mut dice = Dice::new(17);
    for shape in &SHAPES {
        let versions = shape.api.versions();
        for version in versions.min..=versions.max {
            let topics: Vec<u64> = (0..dice.below(8) + 1).map(|_| dice.below(7)).collect();
            let tree = shape.request(version, &topics, &mut dice);
            let request = encoded(shape.api, Direction::Request, version, &tree);
            let division = find(shape.api).unwrap().divide(&whole(version, &request)).unwrap();
            let mut owners: Vec<usize> = topics.iter().map(|number| *number as usize % OWNERS).collect();
            owners.sort_unstable();
            owners.dedup();
            let mut found: Vec<usize> = division.parts.iter().map(|part| part.owner).collect();
            found.sort_unstable();
            assert_eq!(found, owners, "{} {version}", shape.api);
            let answer = |part: &Part| Reply::new(shape.answer(version, &part.body));
            let replies = division.parts.iter().map(answer).collect();
            let merged = division.merger.merge(replies, &owner).unwrap();
            let expected = shape.answer(version, &request);
            let (merged, expected) =
                (decoded(shape.api, version, &merged.body), decoded(shape.api, version, &expected));
            assert_eq!(merged, expected, "{} {version}: {topics:?}", shape.api);
        }
    }
}

#[test]
fn a_part_has_what_stands_beside_the_items() {
    for shape in &SHAPES {
        let versions = shape.api.versions();
        for version in versions.min..=versions.max {
            let tree = shape.request(version, &[0, 1], &mut Dice::new(1));
            let request = encoded(shape.api, Direction::Request, version, &tree);
            let division = find(shape.api).unwrap().divide(&whole(version, &request)).unwrap();
            for (part, number) in division.parts.iter().zip([0, 1]) {
                let alone = shape.request(version, &[number], &mut Dice::new(1));
                let alone = encoded(shape.api, Direction::Request, version, &alone);
                assert_eq!(part.body, alone, "{} {version}", shape.api);
            }
        }
    }
}

#[tokio::test]
async fn the_greatest_throttle_the_first_error_and_all_leases_are_those_of_the_whole() {
    let version = 13;
    let pool = Budget::new(100, 10);
    let shape = SHAPES.iter().find(|shape| shape.api == Api::METADATA).unwrap();
    let request = shape.request(version, &[1, 0], &mut Dice::new(1));
    let request = encoded(Api::METADATA, Direction::Request, version, &request);
    let division = find(Api::METADATA).unwrap().divide(&whole(version, &request)).unwrap();
    let mut replies = Vec::new();
    for (part, (throttle, error)) in division.parts.iter().zip([(5, 0), (3, 29)]) {
        let mut response = decoded(Api::METADATA, version, &shape.answer(version, &part.body));
        response.set("ThrottleTimeMs", Value::Int(throttle));
        response.set("ErrorCode", Value::Int(error));
        response.set("ControllerId", Value::Int(part.owner as i64));
        let body = encoded(Api::METADATA, Direction::Response, version, &response);
        replies.push(Reply { lease: pool.take(10).await, close: error != 0, ..Reply::new(body) });
    }
    let merged = division.merger.merge(replies, &owner).unwrap();
    assert!(merged.close);
    assert_eq!(pool.bytes_in_use(), 20);
    let response = decoded(Api::METADATA, version, &merged.body);
    let field = |name| response.get(name).unwrap().as_int().unwrap();
    assert_eq!((field("ThrottleTimeMs"), field("ErrorCode")), (5, 29));
    assert_eq!(field("ControllerId"), 0, "the default owner's, although its part is the second");
    drop(merged);
    assert_eq!(pool.bytes_in_use(), 0);
}

/// Services that group partitions answer a topic that is named twice once.
#[test]
fn a_topic_that_is_answered_once_stands_where_it_was_named_first() {
    let shape = SHAPES.iter().find(|shape| shape.api == Api::LIST_OFFSETS).unwrap();
    let request = shape.request(5, &[3, 1, 3, 0], &mut Dice::new(1));
    let request = encoded(shape.api, Direction::Request, 5, &request);
    let division = find(shape.api).unwrap().divide(&whole(5, &request)).unwrap();
    let replies = division.parts.iter().map(|part| {
        let mut response = decoded(shape.api, 5, &shape.answer(5, &part.body));
        let mut topics = response.get("Topics").unwrap().elements().to_vec();
        topics.dedup_by_key(|topic| shape.number(topic));
        response.set("Topics", Value::Array(topics));
        Reply::new(encoded(shape.api, Direction::Response, 5, &response))
    });
    let replies = replies.collect();
    let merged = division.merger.merge(replies, &owner).unwrap();
    let merged = decoded(shape.api, 5, &merged.body);
    let numbers: Vec<u64> =
        merged.get("Topics").unwrap().elements().iter().map(|topic| shape.number(topic)).collect();
    assert_eq!(numbers, [3, 1, 0]);
}

#[test]
fn a_broker_among_the_resources_is_the_default_owners() {
    let shape = SHAPES.iter().find(|shape| shape.api == Api::DESCRIBE_CONFIGS).unwrap();
    let mut request = shape.request(4, &[1, 1], &mut Dice::new(1));
    let mut resources = request.get("Resources").unwrap().elements().to_vec();
    resources[1].set("ResourceType", Value::Int(4));
    request.set("Resources", Value::Array(resources));
    let request = encoded(shape.api, Direction::Request, 4, &request);
    let division = find(shape.api).unwrap().divide(&whole(4, &request)).unwrap();
    assert_eq!(division.parts.iter().map(|part| part.owner).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn a_reply_that_is_no_response_is_an_error() {
    let shape = &SHAPES[1];
    let request = shape.request(5, &[0, 1], &mut Dice::new(1));
    let request = encoded(shape.api, Direction::Request, 5, &request);
    let division = find(shape.api).unwrap().divide(&whole(5, &request)).unwrap();
    let replies = vec![Reply::new(shape.answer(5, &division.parts[0].body)), Reply::new(&b"?"[..])];
    assert!(division.merger.merge(replies, &owner).is_err());
    let division = find(shape.api).unwrap().divide(&whole(5, &request)).unwrap();
    assert!(division.merger.merge(Vec::new(), &owner).is_err());
}

#[test]
fn no_api_is_split_twice_and_fetch_apart() {
    for (index, splitter) in SPLITTERS.iter().enumerate() {
        assert!(SPLITTERS[..index].iter().all(|other| other.api != splitter.api), "{}", splitter.api);
    }
    assert!(find(Api::FETCH).is_none() && find(Api::HEARTBEAT).is_none());
}
