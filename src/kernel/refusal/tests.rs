//! A refusal of any API at any version is a complete response with the error in every expected field.

use bytes::Bytes;

use super::*;
use crate::schema::tests::dice::{self, Dice, Fill};
use crate::schema::tests::for_each_scalar;
use crate::schema::walk;

const ERROR: ErrorCode = ErrorCode::ClusterAuthorizationFailed;

/// Every stable version of every API.
fn every_call() -> impl Iterator<Item = (Api, i16)> {
    Api::all().flat_map(|api| (api.versions().min..=api.versions().max).map(move |version| (api, version)))
}

fn request(api: Api, version: i16, fill: Fill, seed: u64) -> Value {
    let mut asked = dice::body(api.message(Direction::Request).unwrap(), version, fill, &mut Dice::new(seed));
    if api == Api::PRODUCE {
        asked.set("Acks", Value::Int(-1));
    }
    asked
}

fn call(api: Api, version: i16, asked: &Value) -> Call {
    let body = value::encode(api.message(Direction::Request).unwrap(), version, asked).unwrap();
    Call::for_tests_raw(api, version, Bytes::from(body))
}

/// The refusal, as a tree.
fn refused(api: Api, version: i16, asked: &Value) -> Value {
    let reply = call(api, version, asked).refuse(ERROR, "why").unwrap().unwrap();
    let (response, body) = (api.message(Direction::Response).unwrap(), reply.body);
    assert_eq!(walk::check(response, version, &body), Ok(body.len()), "{api:?} {version}");
    value::decode(response, version, &body).unwrap()
}

/// The values at a path, through arrays and their elements.
fn at(tree: &Value, path: &str) -> Vec<Value> {
    let flatten = |value: &Value| match value {
        Value::Array(elements) => elements.clone(),
        Value::Null => Vec::new(),
        other => vec![other.clone()],
    };
    path.split('.').fold(vec![tree.clone()], |found, name| {
        found.iter().filter_map(|value| value.get(name)).flat_map(flatten).collect()
    })
}

#[test]
fn every_error_code_of_every_refusal_is_the_one_given() {
    for (api, version) in every_call() {
        for (seed, fill) in [(1, Fill::Everything), (2, Fill::Anything), (3, Fill::Anything)] {
            let mut answer = refused(api, version, &request(api, version, fill, seed));
            let mut codes = 0;
            let fields = api.message(Direction::Response).unwrap().fields;
            for_each_scalar(fields, version, &mut answer, &mut |field, value| {
                let expected = match field.mark {
                    Mark::ErrorCode if field.name == TOPIC_CONFIG_ERROR => Value::Int(0),
                    Mark::ErrorCode => Value::Int(i64::from(ERROR.code())),
                    Mark::ErrorMessage => Value::String("why".to_owned()),
                    _ => return,
                };
                codes += usize::from(field.mark == Mark::ErrorCode);
                assert_eq!(*value, expected, "{} of {api:?} {version}, seed {seed}", field.name);
            });
            // Its error code came with version 3. Before that Kafka's response is empty, which clients treat
            // as a refusal.
            let has_no_place = api == Api::DESCRIBE_LOG_DIRS && version < 3;
            if fill == Fill::Everything {
                assert_eq!(codes == 0, has_no_place, "{api:?} {version} has {codes} error codes");
            }
        }
    }
}

/// What a response repeats: API, first and last version, path in the response, path in the request.
const MIRRORS: &[(&str, i16, i16, &str, &str)] = &[
    ("Produce", 3, 12, "Responses.Name", "TopicData.Name"),
    ("Produce", 13, 13, "Responses.TopicId", "TopicData.TopicId"),
    ("Produce", 3, 13, "Responses.PartitionResponses.Index", "TopicData.PartitionData.Index"),
    ("Fetch", 4, 12, "Responses.Topic", "Topics.Topic"),
    ("Fetch", 4, 12, "Responses.Partitions.PartitionIndex", "Topics.Partitions.Partition"),
    ("Fetch", 7, 18, "SessionId", "SessionId"),
    ("ListOffsets", 1, 10, "Topics.Name", "Topics.Name"),
    ("ListOffsets", 1, 10, "Topics.Partitions.PartitionIndex", "Topics.Partitions.PartitionIndex"),
    ("Metadata", 0, 13, "Topics.Name", "Topics.Name"),
    ("Metadata", 10, 13, "Topics.TopicId", "Topics.TopicId"),
    ("OffsetCommit", 2, 9, "Topics.Name", "Topics.Name"),
    ("OffsetCommit", 2, 9, "Topics.Partitions.PartitionIndex", "Topics.Partitions.PartitionIndex"),
    ("OffsetFetch", 1, 1, "Topics.Name", "Topics.Name"),
    ("OffsetFetch", 1, 1, "Topics.Partitions.PartitionIndex", "Topics.PartitionIndexes"),
    ("OffsetFetch", 8, 9, "Groups.GroupId", "Groups.GroupId"),
    ("FindCoordinator", 4, 6, "Coordinators.Key", "CoordinatorKeys"),
    ("DescribeGroups", 0, 6, "Groups.GroupId", "Groups"),
    ("CreateTopics", 2, 7, "Topics.Name", "Topics.Name"),
    ("DeleteTopics", 1, 5, "Responses.Name", "TopicNames"),
    ("DeleteTopics", 6, 6, "Responses.Name", "Topics.Name"),
    ("DeleteTopics", 6, 6, "Responses.TopicId", "Topics.TopicId"),
    ("DeleteRecords", 0, 2, "Topics.Name", "Topics.Name"),
    ("DeleteRecords", 0, 2, "Topics.Partitions.PartitionIndex", "Topics.Partitions.PartitionIndex"),
    ("OffsetForLeaderEpoch", 2, 4, "Topics.Topic", "Topics.Topic"),
    ("OffsetForLeaderEpoch", 2, 4, "Topics.Partitions.Partition", "Topics.Partitions.Partition"),
    ("AddPartitionsToTxn", 0, 3, "ResultsByTopicV3AndBelow.Name", "V3AndBelowTopics.Name"),
    (
        "AddPartitionsToTxn",
        0,
        3,
        "ResultsByTopicV3AndBelow.ResultsByPartition.PartitionIndex",
        "V3AndBelowTopics.Partitions",
    ),
    ("WriteTxnMarkers", 1, 1, "Markers.ProducerId", "Markers.ProducerId"),
    ("WriteTxnMarkers", 1, 1, "Markers.Topics.Name", "Markers.Topics.Name"),
    ("WriteTxnMarkers", 1, 1, "Markers.Topics.Partitions.PartitionIndex", "Markers.Topics.PartitionIndexes"),
    ("TxnOffsetCommit", 0, 5, "Topics.Name", "Topics.Name"),
    ("TxnOffsetCommit", 0, 5, "Topics.Partitions.PartitionIndex", "Topics.Partitions.PartitionIndex"),
    ("DescribeConfigs", 1, 4, "Results.ResourceType", "Resources.ResourceType"),
    ("DescribeConfigs", 1, 4, "Results.ResourceName", "Resources.ResourceName"),
    ("AlterConfigs", 0, 2, "Responses.ResourceType", "Resources.ResourceType"),
    ("AlterConfigs", 0, 2, "Responses.ResourceName", "Resources.ResourceName"),
    ("AlterReplicaLogDirs", 1, 2, "Results.TopicName", "Dirs.Topics.Name"),
    ("AlterReplicaLogDirs", 1, 2, "Results.Partitions.PartitionIndex", "Dirs.Topics.Partitions"),
    ("CreatePartitions", 0, 3, "Results.Name", "Topics.Name"),
    ("DeleteGroups", 0, 2, "Results.GroupId", "GroupsNames"),
    ("ElectLeaders", 0, 2, "ReplicaElectionResults.Topic", "TopicPartitions.Topic"),
    (
        "ElectLeaders",
        0,
        2,
        "ReplicaElectionResults.PartitionResult.PartitionId",
        "TopicPartitions.Partitions",
    ),
    ("IncrementalAlterConfigs", 0, 1, "Responses.ResourceType", "Resources.ResourceType"),
    ("IncrementalAlterConfigs", 0, 1, "Responses.ResourceName", "Resources.ResourceName"),
    ("AlterPartitionReassignments", 0, 1, "Responses.Name", "Topics.Name"),
    (
        "AlterPartitionReassignments",
        0,
        1,
        "Responses.Partitions.PartitionIndex",
        "Topics.Partitions.PartitionIndex",
    ),
    ("AlterClientQuotas", 0, 1, "Entries.Entity.EntityType", "Entries.Entity.EntityType"),
    ("AlterClientQuotas", 0, 1, "Entries.Entity.EntityName", "Entries.Entity.EntityName"),
    ("DescribeProducers", 0, 0, "Topics.Name", "Topics.Name"),
    ("DescribeProducers", 0, 0, "Topics.Partitions.PartitionIndex", "Topics.PartitionIndexes"),
    ("DescribeTransactions", 0, 0, "TransactionStates.TransactionalId", "TransactionalIds"),
    ("ConsumerGroupDescribe", 0, 1, "Groups.GroupId", "GroupIds"),
    ("DescribeTopicPartitions", 0, 0, "Topics.Name", "Topics.Name"),
    ("ShareGroupDescribe", 1, 1, "Groups.GroupId", "GroupIds"),
    ("ReadShareGroupState", 0, 0, "Results.TopicId", "Topics.TopicId"),
    ("ReadShareGroupState", 0, 0, "Results.Partitions.Partition", "Topics.Partitions.Partition"),
    ("DescribeShareGroupOffsets", 0, 0, "Groups.GroupId", "Groups.GroupId"),
];

#[test]
fn a_refusal_repeats_what_was_asked() {
    for &(name, first, last, answer_path, question_path) in MIRRORS {
        let api = Api::by_name(name).unwrap();
        for version in first..=last {
            let asked = request(api, version, Fill::Everything, 4);
            let answer = refused(api, version, &asked);
            let questions = at(&asked, question_path);
            assert!(!questions.is_empty(), "{name} {version}: nothing at {question_path}");
            assert_eq!(at(&answer, answer_path), questions, "{name} {version}: {answer_path}");
        }
    }
}

#[test]
fn a_refusal_of_users_and_of_rules_has_an_entry_for_each() {
    let users = Api::by_name("AlterUserScramCredentials").unwrap();
    let asked = request(users, 0, Fill::Everything, 5);
    let named = [at(&asked, "Deletions.Name"), at(&asked, "Upsertions.Name")].concat();
    assert_eq!(named.len(), 4);
    assert_eq!(at(&refused(users, 0, &asked), "Results.User"), named);

    for (name, answers, questions) in
        [("CreateAcls", "Results", "Creations"), ("DeleteAcls", "FilterResults", "Filters")]
    {
        let api = Api::by_name(name).unwrap();
        for version in 1..=3 {
            let asked = request(api, version, Fill::Everything, 5);
            let answer = refused(api, version, &asked);
            assert_eq!(at(&answer, answers).len(), at(&asked, questions).len(), "{name} {version}");
            assert_eq!(at(&answer, answers).len(), 2, "{name} {version}");
        }
    }
}

/// Arrays that stay empty, because an error code above covers them.
const EMPTY: &[(&str, i16, i16, &str)] = &[
    ("Fetch", 13, 18, "Responses"),
    ("OffsetFetch", 2, 7, "Topics"),
    ("OffsetFetch", 8, 9, "Groups.Topics"),
    ("LeaveGroup", 3, 5, "Members"),
    ("AddPartitionsToTxn", 4, 5, "ResultsByTransaction"),
    ("DescribeLogDirs", 1, 4, "Results"),
    ("OffsetDelete", 0, 0, "Topics"),
    ("Vote", 0, 2, "Topics"),
    ("DescribeQuorum", 0, 2, "Topics"),
    ("AlterPartition", 2, 3, "Topics"),
    ("AssignReplicasToDirs", 0, 0, "Directories"),
    ("ShareFetch", 1, 1, "Responses"),
    ("ShareAcknowledge", 1, 1, "Responses"),
    ("DescribeShareGroupOffsets", 0, 0, "Groups.Topics"),
    ("DeleteShareGroupOffsets", 0, 0, "Responses"),
];

#[test]
fn an_error_code_speaks_for_all_below_it() {
    for &(name, first, last, path) in EMPTY {
        let api = Api::by_name(name).unwrap();
        for version in first..=last {
            let answer = refused(api, version, &request(api, version, Fill::Everything, 6));
            let found = at(&answer, path);
            assert!(found.is_empty(), "{name} {version}: {path} is {found:?}");
        }
    }
}

#[test]
fn what_is_not_known_is_minus_one_and_no_records_are_an_empty_set() {
    let expect = |name: &str, version: i16, path: &str, expected: Value| {
        let api = Api::by_name(name).unwrap();
        let found = at(&refused(api, version, &request(api, version, Fill::Everything, 7)), path);
        assert!(!found.is_empty(), "{name} {version}: {path}");
        assert!(found.iter().all(|value| *value == expected), "{name} {version}: {path} is {found:?}");
    };
    expect("Produce", 9, "Responses.PartitionResponses.BaseOffset", Value::Int(-1));
    expect("Produce", 9, "Responses.PartitionResponses.LogAppendTimeMs", Value::Int(-1));
    expect("Fetch", 12, "Responses.Partitions.HighWatermark", Value::Int(-1));
    expect("Fetch", 12, "Responses.Partitions.Records", Value::Bytes(Vec::new()));
    expect("ListOffsets", 5, "Topics.Partitions.Offset", Value::Int(-1));
    expect("ListOffsets", 5, "Topics.Partitions.Timestamp", Value::Int(-1));
    expect("OffsetFetch", 1, "Topics.Partitions.CommittedOffset", Value::Int(-1));
    expect("FindCoordinator", 2, "NodeId", Value::Int(-1));
    expect("FindCoordinator", 4, "Coordinators.Port", Value::Int(-1));
    expect("DeleteRecords", 2, "Topics.Partitions.LowWatermark", Value::Int(-1));
    expect("InitProducerId", 4, "ProducerId", Value::Int(-1));
    expect("InitProducerId", 4, "ProducerEpoch", Value::Int(-1));
    expect("OffsetForLeaderEpoch", 4, "Topics.Partitions.LeaderEpoch", Value::Int(-1));
    // Member and broker ids from the request are not part of the response's top level.
    expect("JoinGroup", 7, "MemberId", Value::String(String::new()));
    expect("DescribeCluster", 1, "EndpointType", Value::Int(1));
}

#[test]
fn a_name_that_was_null_stays_null_where_it_may() {
    let delete = Api::DELETE_TOPICS;
    let mut asked = request(delete, 6, Fill::Everything, 8);
    if let Some(Value::Array(topics)) = asked.get_mut("Topics") {
        topics.iter_mut().for_each(|topic| assert!(topic.set("Name", Value::Null)));
    }
    let answer = refused(delete, 6, &asked);
    let names: Vec<_> =
        answer.get("Responses").unwrap().elements().iter().map(|topic| topic.get("Name")).collect();
    assert_eq!(names, [Some(&Value::Null), Some(&Value::Null)]);
    assert_eq!(at(&answer, "Responses.TopicId"), at(&asked, "Topics.TopicId"));

    // Null topics mean "all topics", which no response repeats.
    let mut asked = request(Api::METADATA, 12, Fill::Everything, 8);
    asked.set("Topics", Value::Null);
    assert!(at(&refused(Api::METADATA, 12, &asked), "Topics").is_empty());
}

#[test]
fn a_produce_that_wants_no_answer_is_refused_by_closing() {
    for version in Api::PRODUCE.versions().min..=Api::PRODUCE.versions().max {
        let mut asked = request(Api::PRODUCE, version, Fill::Everything, 9);
        asked.set("Acks", Value::Int(0));
        let hangup = call(Api::PRODUCE, version, &asked).refuse(ERROR, "why").unwrap_err();
        assert!(hangup.0.contains("acks=0"), "{hangup}");
        asked.set("Acks", Value::Int(1));
        assert!(call(Api::PRODUCE, version, &asked).refuse(ERROR, "why").unwrap().is_some());
    }
}

#[test]
fn what_cannot_be_answered_is_refused_by_closing() {
    for key in [-1, 93, 10_000, i16::MAX] {
        let hangup = Call::for_tests_raw(Api(key), 0, Bytes::new()).refuse(ERROR, "why").unwrap_err();
        assert!(hangup.0.contains("why"), "{hangup}");
    }
    let unreadable = Call::for_tests_raw(Api::METADATA, 12, Bytes::from_static(&[0xff; 3]));
    let hangup = unreadable.refuse(ERROR, "why").unwrap_err();
    assert!(hangup.0.contains("why") && hangup.0.contains("malformed"), "{hangup}");
}

/// Whether a message, or a struct anywhere in it, has a field of this name.
fn has_field(fields: &'static [Field], name: &str) -> bool {
    fields.iter().any(|field| match field.kind {
        _ if field.name == name => true,
        Kind::Array(Kind::Struct(inner)) => has_field(inner, name),
        Kind::Struct(inner) => has_field(inner, name),
        _ => false,
    })
}

fn side(api: &str, direction: Direction) -> &'static [Field] {
    Api::by_name(api).unwrap().message(direction).unwrap().fields
}

#[test]
fn the_tables_name_fields_that_exist() {
    for (api, answer, question) in REPEATS {
        assert!(has_field(side(api, Direction::Response), answer), "{api}: {answer}");
        for name in question.split('.') {
            assert!(has_field(side(api, Direction::Request), name), "{api}: {question}");
        }
    }
    for (api, name) in NONE.iter().chain(COPIED_FIELDS) {
        assert!(has_field(side(api, Direction::Response), name), "{api}: {name}");
    }
    for (api, _) in REPEAT_BESIDE_CODE {
        assert!(Api::by_name(api).is_some(), "{api}");
    }
    let topic = has_field(side("CreateTopics", Direction::Response), TOPIC_CONFIG_ERROR);
    assert!(topic, "{TOPIC_CONFIG_ERROR}");
}
