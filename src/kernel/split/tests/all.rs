//! Calls for all topics.

use super::*;

/// Whether some value of a request says that it is for all topics.
fn says_all(api: Api, version: i16, fields: Vec<(&'static str, Value)>) -> bool {
    let body = encoded(api, Direction::Request, version, &Value::Struct(fields));
    let splitter = find(api).unwrap();
    let mut is_for_all = false;
    let visit = |found: Found<'_>| is_for_all |= (splitter.is_for_all)(version, &found);
    walk::walk(api.message(Direction::Request).unwrap(), version, &body, visit).unwrap();
    is_for_all
}

#[test]
fn which_requests_are_for_all_topics() {
    let none = || vec![("Topics", Value::Array(Vec::new()))];
    let null = || vec![("Topics", Value::Null)];
    for version in 0..=13 {
        assert_eq!(says_all(Api::METADATA, version, none()), version == 0, "version {version}");
        if version > 0 {
            assert!(says_all(Api::METADATA, version, null()), "version {version}");
        }
    }
    for version in 1..=4 {
        assert!(says_all(Api::DESCRIBE_LOG_DIRS, version, null()));
        assert!(!says_all(Api::DESCRIBE_LOG_DIRS, version, none()));
    }
    assert!(says_all(Api::DESCRIBE_TOPIC_PARTITIONS, 0, none()));
    assert!(!says_all(Api::LIST_CONFIG_RESOURCES, 0, Vec::new()));
    let cases: [(&[i64], bool); 4] = [(&[], true), (&[2], true), (&[16, 2], true), (&[16, 4], false)];
    for (types, expected) in cases {
        let types = Value::Array(types.iter().map(|kind| Value::Int(*kind)).collect());
        assert_eq!(says_all(Api::LIST_CONFIG_RESOURCES, 1, vec![("ResourceTypes", types)]), expected);
    }
}

/// Every owner lists topics of its own, and one that belongs to another by its name.
#[test]
fn all_topics_are_those_that_their_owners_have() {
    for version in 1..=13 {
        let request = encoded(
            Api::METADATA,
            Direction::Request,
            version,
            &Value::Struct(vec![("Topics", Value::Null)]),
        );
        let whole = Whole { is_for_all: true, ..whole(version, &request) };
        let division = find(Api::METADATA).unwrap().divide(&whole).unwrap();
        let topics = [[0, 3, 1], [1, 4, 2], [2, 5, 0]];
        let replies = division.parts.iter().map(|part| {
            assert_eq!(part.body, request);
            let topic = |number: &u64| Value::Struct(vec![("Name", Value::String(name(*number)))]);
            let topics = Value::Array(topics[part.owner].iter().map(topic).collect());
            let response = Value::Struct(vec![("Topics", topics)]);
            Reply::new(encoded(Api::METADATA, Direction::Response, version, &response))
        });
        let replies = replies.collect();
        let merged = division.merger.merge(replies, &owner).unwrap();
        let merged = decoded(Api::METADATA, version, &merged.body);
        let names: Vec<&str> = merged
            .get("Topics")
            .unwrap()
            .elements()
            .iter()
            .map(|topic| topic.get("Name").unwrap().as_str().unwrap())
            .collect();
        assert_eq!(names, ["topic-0", "topic-1", "topic-2", "topic-3", "topic-4", "topic-5"]);
    }
}

#[test]
fn every_log_directory_is_listed_with_its_own_topics() {
    let version = 4;
    let api = Api::DESCRIBE_LOG_DIRS;
    let request = encoded(api, Direction::Request, version, &Value::Struct(vec![("Topics", Value::Null)]));
    let whole = Whole { is_for_all: true, ..whole(version, &request) };
    let division = find(api).unwrap().divide(&whole).unwrap();
    let replies = division.parts.iter().map(|part| {
        let topic = |number| Value::Struct(vec![("Name", Value::String(name(number)))]);
        let directory = Value::Struct(vec![
            ("LogDir", Value::String(format!("store {}", part.owner))),
            ("Topics", Value::Array(vec![topic(part.owner as u64), topic(0)])),
        ]);
        let response = Value::Struct(vec![("Results", Value::Array(vec![directory]))]);
        Reply::new(encoded(api, Direction::Response, version, &response))
    });
    let replies = replies.collect();
    let merged = division.merger.merge(replies, &owner).unwrap();
    let merged = decoded(api, version, &merged.body);
    let directories: Vec<(String, usize)> = merged
        .get("Results")
        .unwrap()
        .elements()
        .iter()
        .map(|one| {
            let name = one.get("LogDir").unwrap().as_str().unwrap().to_owned();
            (name, one.get("Topics").unwrap().elements().len())
        })
        .collect();
    let expected = [("store 0", 2), ("store 1", 1), ("store 2", 1)];
    assert_eq!(directories, expected.map(|(name, topics)| (name.to_owned(), topics)));
}

#[test]
fn types_of_resources_go_to_their_owners() {
    let api = Api::LIST_CONFIG_RESOURCES;
    let types = Value::Array(vec![Value::Int(32), Value::Int(4), Value::Int(8)]);
    let request = encoded(api, Direction::Request, 1, &Value::Struct(vec![("ResourceTypes", types)]));
    let of_types = |key: &ItemKey| usize::from(matches!(key, ItemKey::Resource(32, _)));
    let whole = Whole { owner: &of_types, ..whole(1, &request) };
    let division = find(api).unwrap().divide(&whole).unwrap();
    let replies = division.parts.iter().map(|part| {
        let named = format!("of {}", part.owner);
        let resource =
            Value::Struct(vec![("ResourceType", Value::Int(32)), ("ResourceName", Value::String(named))]);
        let response = Value::Struct(vec![("ConfigResources", Value::Array(vec![resource]))]);
        Reply::new(encoded(api, Direction::Response, 1, &response))
    });
    let replies: Vec<Reply> = replies.collect();
    let asked: Vec<(usize, usize)> = division
        .parts
        .iter()
        .map(|part| {
            let request = value::decode(api.message(Direction::Request).unwrap(), 1, &part.body).unwrap();
            (part.owner, request.get("ResourceTypes").unwrap().elements().len())
        })
        .collect();
    assert_eq!(asked, [(1, 1), (0, 2)]);
    let merged = division.merger.merge(replies, &of_types).unwrap();
    let merged = decoded(api, 1, &merged.body);
    assert_eq!(merged.get("ConfigResources").unwrap().elements().len(), 2);
}

#[test]
fn config_resources_other_than_topics_are_the_default_owners() {
    let api = Api::LIST_CONFIG_RESOURCES;
    let request = encoded(api, Direction::Request, 1, &Value::Struct(Vec::new()));
    let whole = Whole { is_for_all: true, ..whole(1, &request) };
    let division = find(api).unwrap().divide(&whole).unwrap();
    let replies = division.parts.iter().map(|part| {
        let resource = |kind, name: String| {
            Value::Struct(vec![("ResourceType", Value::Int(kind)), ("ResourceName", Value::String(name))])
        };
        let resources = vec![resource(4, "1".to_owned()), resource(2, name(part.owner as u64))];
        let response = Value::Struct(vec![("ConfigResources", Value::Array(resources))]);
        Reply::new(encoded(api, Direction::Response, 1, &response))
    });
    let replies = replies.collect();
    let merged = division.merger.merge(replies, &owner).unwrap();
    let merged = decoded(api, 1, &merged.body);
    let resources: Vec<&str> = merged
        .get("ConfigResources")
        .unwrap()
        .elements()
        .iter()
        .map(|one| one.get("ResourceName").unwrap().as_str().unwrap())
        .collect();
    assert_eq!(resources, ["topic-0", "topic-1", "topic-2", "1"]);
}
