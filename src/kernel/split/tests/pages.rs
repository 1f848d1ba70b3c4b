//! Pages of DescribeTopicPartitions: those of one service that has all topics.

use super::*;

const API: Api = Api::DESCRIBE_TOPIC_PARTITIONS;
const TOPICS: u64 = 7;

/// Topic number n has n partitions.
fn partitions(number: u64) -> u64 {
    number
}

fn number(topic: &str) -> u64 {
    topic.strip_prefix("topic-").unwrap().parse().unwrap()
}

/// A cursor in a request and in a response.
type Cursor = Option<(String, i64)>;

fn request(topics: &[u64], limit: i64, cursor: &Cursor) -> Bytes {
    let topic = |number: &u64| Value::Struct(vec![("Name", Value::String(name(*number)))]);
    let cursor = cursor.as_ref().map_or(Value::Null, |(topic, partition)| {
        Value::Struct(vec![
            ("TopicName", Value::String(topic.clone())),
            ("PartitionIndex", Value::Int(*partition)),
        ])
    });
    let fields = vec![
        ("Topics", Value::Array(topics.iter().map(topic).collect())),
        ("ResponsePartitionLimit", Value::Int(limit)),
        ("Cursor", cursor),
    ];
    encoded(API, Direction::Request, 0, &Value::Struct(fields))
}

/// What a service answers that has these topics: see `services/storage/apis/describe_topic_partitions`.
fn serve(has: impl Fn(u64) -> bool, body: &[u8]) -> Bytes {
    let asked = value::decode(API.message(Direction::Request).unwrap(), 0, body).unwrap();
    let text = |value: &Value, field: &str| value.get(field).unwrap().as_str().unwrap().to_owned();
    let int = |value: &Value, field: &str| value.get(field).unwrap().as_int().unwrap();
    let mut names: Vec<String> =
        asked.get("Topics").unwrap().elements().iter().map(|topic| text(topic, "Name")).collect();
    let cursor = asked.get("Cursor").filter(|cursor| **cursor != Value::Null);
    let from = cursor.map(|cursor| (text(cursor, "TopicName"), int(cursor, "PartitionIndex")));
    if names.is_empty() {
        names = (0..TOPICS).filter(|number| has(*number)).map(name).collect();
    } else if let Some((topic, _)) = &from {
        assert!(names.contains(topic), "a cursor of another topic would be refused");
    }
    names.sort_unstable();
    names.dedup();
    let (from, first) = from.unwrap_or_default();
    let mut left = int(&asked, "ResponsePartitionLimit");
    let (mut topics, mut next) = (Vec::new(), Value::Null);
    for name in names.into_iter().filter(|name| *name >= from) {
        let first = if name == from { first } else { 0 };
        let count = if has(number(&name)) { partitions(number(&name)) as i64 } else { 0 };
        let end = count.min(first + left);
        let cursor = Value::Struct(vec![
            ("TopicName", Value::String(name.clone())),
            ("PartitionIndex", Value::Int(end)),
        ]);
        if left == 0 {
            next = cursor;
            break;
        }
        let partition = |index| Value::Struct(vec![("PartitionIndex", Value::Int(index))]);
        left -= end - first;
        topics.push(Value::Struct(vec![
            ("Name", Value::String(name)),
            ("Partitions", Value::Array((first..end).map(partition).collect())),
        ]));
        if end < count {
            next = cursor;
            break;
        }
    }
    let response = Value::Struct(vec![("Topics", Value::Array(topics)), ("NextCursor", next)]);
    encoded(API, Direction::Response, 0, &response)
}

fn split(body: &Bytes, is_for_all: bool) -> Bytes {
    let whole = Whole { is_for_all, ..whole(0, body) };
    let division = find(API).unwrap().divide(&whole).unwrap();
    let answer = |part: &Part| {
        let owner = part.owner as u64;
        Reply::new(serve(|number| number % OWNERS as u64 == owner, &part.body))
    };
    let replies = division.parts.iter().map(answer).collect();
    division.merger.merge(replies, &owner).unwrap().body
}

fn next(response: &Value) -> Cursor {
    let cursor = response.get("NextCursor").filter(|cursor| **cursor != Value::Null)?;
    let topic = cursor.get("TopicName")?.as_str()?.to_owned();
    Some((topic, cursor.get("PartitionIndex")?.as_int()?))
}

#[test]
fn pages_are_those_of_one_service() {
    let all: Vec<u64> = (0..TOPICS).collect();
    for asked in [&[][..], &all[..], &[6, 1, 2, 2, 5], &[3, 0]] {
        for limit in 1..=25 {
            let mut cursor = None;
            for page in 0.. {
                assert!(page < 100, "{asked:?}, limit {limit}: it goes round");
                let body = request(asked, limit, &cursor);
                let expected = decoded(API, 0, &serve(|_| true, &body));
                let found = decoded(API, 0, &split(&body, asked.is_empty()));
                assert_eq!(found, expected, "{asked:?}, limit {limit}, from {cursor:?}");
                cursor = next(&found);
                if cursor.is_none() {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_cursor_that_no_topic_fits_goes_to_all_parts_to_be_refused() {
    let body = request(&[0, 1], 5, &Some((name(4), 0)));
    let division = find(API).unwrap().divide(&whole(0, &body)).unwrap();
    assert_eq!(division.parts.len(), 2);
    for part in &division.parts {
        let asked = value::decode(API.message(Direction::Request).unwrap(), 0, &part.body).unwrap();
        assert_ne!(asked.get("Cursor"), Some(&Value::Null));
    }
}
