//! The choice of service for a call.

mod broker;
mod directory;
mod fake;
mod fetch;
mod ids;
mod split;

use bytes::Bytes;
use kernel::schema::Direction;
use kernel::schema::value::{self, Value};
use kernel::{Api, ErrorCode, Session, TopicId};
use serde::Deserialize;
use uuid::Uuid;

use super::*;
use fake::{FakeService, services};

/// Topics of `local` and `legacy`.
const ORDERS: TopicId = TopicId(Uuid::from_u128(1));
const LEGACY_ORDERS: TopicId = TopicId(Uuid::from_u128(2));
/// A topic of `local` whose name is routed to `legacy` where legacy.* is.
const LEGACY_LOST: TopicId = TopicId(Uuid::from_u128(3));
/// A topic of no service.
const UNKNOWN: TopicId = TopicId(Uuid::from_u128(4));

fn rule(listeners: &[&str], apis: &[&str], topics: &[&str], to: &str) -> Rule {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Rule { listeners: owned(listeners), apis: owned(apis), topics: owned(topics), to: to.to_owned() }
}

fn route(rules: Vec<Rule>) -> Route {
    let settings = Settings { default: "local".to_owned(), rules };
    Route::new(&settings, services(&["local", "legacy", "third"])).unwrap()
}

/// Metadata 1 of these topics, on the listener `test`.
fn metadata(topics: &[&str]) -> Call {
    let mut body = (topics.len() as i32).to_be_bytes().to_vec();
    for topic in topics {
        body.extend((topic.len() as i16).to_be_bytes());
        body.extend(topic.as_bytes());
    }
    Call::for_tests_raw(Api::METADATA, 1, Bytes::from(body))
}

/// A call on the listener `test`, of the defaults of its version and these fields.
fn request(api: Api, version: i16, fields: Vec<(&'static str, Value)>) -> Call {
    let message = api.message(Direction::Request).unwrap();
    let body = value::encode(message, version, &Value::Struct(fields)).unwrap();
    Call::for_tests_raw(api, version, Bytes::from(body))
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

async fn reply_of(route: &Route, call: Call) -> Reply {
    route.clone().call(call).await.unwrap().unwrap()
}

/// The name that the service of the call put at the end of its reply.
async fn service_of(route: &Route, call: Call) -> String {
    let reply = reply_of(route, call).await;
    let name = reply.records.iter().flat_map(|records| &records.ready).next().unwrap_or(&reply.body);
    String::from_utf8(name.to_vec()).unwrap()
}

#[tokio::test]
async fn the_first_rule_that_matches_wins_and_else_the_default() {
    let route = route(vec![
        rule(&["ops"], &[], &[], "third"),
        rule(&[], &["metadata"], &["legacy.secret"], "third"),
        rule(&[], &[], &["legacy.*"], "legacy"),
        rule(&["test"], &["Heartbeat"], &[], "legacy"),
    ]);
    assert_eq!(service_of(&route, metadata(&["orders"])).await, "local");
    assert_eq!(service_of(&route, metadata(&["legacy.orders", "legacy.users"])).await, "legacy");
    assert_eq!(service_of(&route, metadata(&["legacy.secret"])).await, "third");
    assert_eq!(service_of(&route, metadata(&[])).await, "local");
    let heartbeat = Api::by_name("Heartbeat").unwrap();
    let body = Bytes::from_static(b"\0\x01g\0\0\0\x01\0\x01m");
    assert_eq!(service_of(&route, Call::for_tests_raw(heartbeat, 1, body)).await, "legacy");
}

#[tokio::test]
async fn a_rule_without_topics_takes_what_earlier_rules_with_topics_leave() {
    let route = route(vec![
        rule(&[], &[], &["legacy.*"], "legacy"),
        rule(&["test"], &[], &[], "third"),
        rule(&[], &[], &["orders"], "legacy"),
    ]);
    assert_eq!(service_of(&route, metadata(&["legacy.orders"])).await, "legacy");
    assert_eq!(service_of(&route, metadata(&["orders"])).await, "third");
    assert_eq!(service_of(&route, metadata(&[])).await, "third");
}

/// The versions of the requests that name resources by type and name: a topic is of type 2, a broker of 4.
const CONFIGS: [(Api, i16); 3] =
    [(Api::DESCRIBE_CONFIGS, 4), (Api::ALTER_CONFIGS, 2), (Api::INCREMENTAL_ALTER_CONFIGS, 1)];

fn configs((api, version): (Api, i16), resources: &[(i64, &str)]) -> Call {
    let resource = |(kind, name): &(i64, &str)| {
        Value::Struct(vec![("ResourceType", Value::Int(*kind)), ("ResourceName", text(name))])
    };
    let resources = Value::Array(resources.iter().map(resource).collect());
    request(api, version, vec![("Resources", resources)])
}

#[tokio::test]
async fn configs_of_a_topic_go_where_the_topic_does() {
    let route = route(vec![rule(&[], &[], &["legacy.*"], "legacy")]);
    for api in CONFIGS {
        assert_eq!(service_of(&route, configs(api, &[(2, "legacy.orders")])).await, "legacy");
        assert_eq!(service_of(&route, configs(api, &[(4, "1"), (2, "orders")])).await, "local");
        assert_eq!(service_of(&route, configs(api, &[(2, "orders")])).await, "local");
        assert_eq!(service_of(&route, configs(api, &[(4, "legacy.orders")])).await, "local");
        assert_eq!(service_of(&route, configs(api, &[(32, "legacy.orders")])).await, "local");
    }
}

/// A group is of type 32, client metrics of 16.
#[tokio::test]
async fn configs_of_a_group_go_to_its_members_and_client_metrics_to_those_who_ask_for_them() {
    let elsewhere = || {
        vec![
            rule(&[], &["ConsumerGroupHeartbeat", "JoinGroup"], &[], "legacy"),
            rule(&[], &["GetTelemetrySubscriptions"], &[], "third"),
        ]
    };
    let list = |version: i16, types: &[i64]| {
        let types = Value::Array(types.iter().map(|kind| Value::Int(*kind)).collect());
        let fields = if version == 0 { Vec::new() } else { vec![("ResourceTypes", types)] };
        request(Api::LIST_CONFIG_RESOURCES, version, fields)
    };
    let mut with_topics = elsewhere();
    with_topics.push(rule(&[], &[], &["third.*"], "third"));
    for rules in [elsewhere(), with_topics] {
        let route = route(rules);
        for api in CONFIGS {
            assert_eq!(service_of(&route, configs(api, &[(32, "workers"), (32, "others")])).await, "legacy");
            assert_eq!(service_of(&route, configs(api, &[(16, "all")])).await, "third");
            assert_eq!(service_of(&route, configs(api, &[(4, "1"), (2, "orders")])).await, "local");
        }
        assert_eq!(service_of(&route, list(1, &[32])).await, "legacy");
        assert_eq!(service_of(&route, list(1, &[16])).await, "third");
        assert_eq!(service_of(&route, list(1, &[4, 8])).await, "local");
        assert_eq!(service_of(&route, list(0, &[])).await, "third", "version 0 lists client metrics");
    }
    // A rule for the calls themselves takes the topics' configs along, but not the groups.
    let route = route(vec![rule(&[], &["DescribeConfigs"], &[], "legacy")]);
    assert_eq!(service_of(&route, configs(CONFIGS[0], &[(2, "orders")])).await, "legacy");
    assert_eq!(service_of(&route, configs(CONFIGS[0], &[(32, "workers")])).await, "local");
    assert_eq!(service_of(&route, configs(CONFIGS[2], &[(32, "workers")])).await, "local");
}

#[test]
fn config_calls_are_served_at_the_versions_of_the_services_of_groups_too() {
    use kernel::ServedApi;

    let serving = |name, max| {
        let range = ServedApi { api: Api::DESCRIBE_CONFIGS, min: 1, max, served_min: 1 };
        FakeService { served: Served::new([range]), ..FakeService::new(name) }.named()
    };
    let rules = vec![rule(&[], &["ConsumerGroupHeartbeat"], &[], "legacy")];
    let settings = Settings { default: "local".to_owned(), rules };
    let route = Route::new(&settings, vec![serving("local", 4), serving("legacy", 3)]).unwrap();
    assert_eq!(route.served().find(Api::DESCRIBE_CONFIGS).map(|served| served.max), Some(3));
}

#[tokio::test]
async fn what_cannot_be_split_is_refused_in_so_many_words() {
    let route = route(vec![rule(&[], &[], &["legacy.*"], "legacy")]);
    let topic =
        |name: &str| Value::Struct(vec![("Topic", text(name)), ("Partitions", Value::Array(Vec::new()))]);
    let elect = |names: &[&str]| {
        let topics = names.iter().map(|name| topic(name)).collect();
        request(Api::ELECT_LEADERS, 2, vec![("TopicPartitions", Value::Array(topics))])
    };
    assert_eq!(service_of(&route, elect(&["legacy.orders"])).await, "legacy");
    let reply = reply_of(&route, elect(&["orders", "legacy.orders"])).await;
    let message = Api::ELECT_LEADERS.message(Direction::Response).unwrap();
    let answer = value::decode(message, 2, &reply.body).unwrap();
    let error = Value::Int(i64::from(ErrorCode::InvalidRequest.code()));
    assert_eq!(answer.get("ErrorCode"), Some(&error));
    // The other APIs that cannot be split have a field for the sentence.
    let reassign = |name| Value::Struct(vec![("Name", text(name)), ("Partitions", Value::Array(Vec::new()))]);
    let both = Value::Array(vec![reassign("orders"), reassign("legacy.orders")]);
    let call = request(Api::ALTER_PARTITION_REASSIGNMENTS, 0, vec![("Topics", both)]);
    let reply = reply_of(&route, call).await;
    let message = Api::ALTER_PARTITION_REASSIGNMENTS.message(Direction::Response).unwrap();
    let answer = value::decode(message, 0, &reply.body).unwrap();
    assert!(answer.get("ErrorMessage").unwrap().as_str().unwrap().contains("does not split"));
}

#[tokio::test]
async fn rules_with_topics_do_not_apply_to_groups_and_transactions() {
    let route = route(vec![
        rule(&[], &[], &["legacy.*"], "legacy"),
        rule(&[], &["OffsetDelete"], &["orders"], "legacy"),
        rule(&[], &["TxnOffsetCommit"], &[], "third"),
    ]);
    let topics = || {
        let topic = |name: &str| Value::Struct(vec![("Name", text(name))]);
        vec![("Topics", Value::Array(vec![topic("legacy.orders"), topic("orders")]))]
    };
    assert_eq!(service_of(&route, request(Api::OFFSET_COMMIT, 8, topics())).await, "local");
    assert_eq!(service_of(&route, request(Api::OFFSET_DELETE, 0, topics())).await, "local");
    assert_eq!(service_of(&route, request(Api(28), 3, topics())).await, "third", "its rule has no topics");
    let subscribed = Value::Array(vec![text("legacy.orders")]);
    let heartbeat = request(Api::CONSUMER_GROUP_HEARTBEAT, 0, vec![("SubscribedTopicNames", subscribed)]);
    assert_eq!(service_of(&route, heartbeat).await, "local");
    let added = topics().into_iter().map(|(_, topics)| ("V3AndBelowTopics", topics)).collect();
    assert_eq!(service_of(&route, request(Api(24), 3, added)).await, "local");
}

#[test]
fn what_is_served_is_what_every_service_serves_that_a_call_can_come_to() {
    use kernel::ServedApi;
    use kernel::served::Feature;

    let range = |api: Api, min, max| ServedApi { api, min, max, served_min: min };
    let serving = |name, apis: Vec<ServedApi>| {
        let mut served = Served::new(apis);
        served.features = vec![Feature { name, min: 1, max: 1, finalized: 1 }];
        FakeService { served, ..FakeService::new(name) }.named()
    };
    let local = serving(
        "local",
        vec![range(Api::FETCH, 4, 18), range(Api::OFFSET_COMMIT, 2, 9), range(Api::HEARTBEAT, 0, 4)],
    );
    let legacy = serving(
        "legacy",
        vec![
            range(Api::FETCH, 6, 12),
            range(Api::OFFSET_COMMIT, 2, 7),
            range(Api::HEARTBEAT, 0, 3),
            range(Api::DELETE_RECORDS, 0, 2),
            range(Api::DESCRIBE_ACLS, 0, 3),
        ],
    );
    let rules = vec![rule(&[], &[], &["legacy.*"], "legacy")];
    let settings = Settings { default: "local".to_owned(), rules };
    let served = Route::new(&settings, vec![local.clone(), legacy.clone()]).unwrap().served();
    assert_eq!(served.find(Api::FETCH), Some(&range(Api::FETCH, 6, 12)));
    assert_eq!(served.find(Api::DELETE_RECORDS), Some(&range(Api::DELETE_RECORDS, 0, 2)));
    // The rule applies neither to groups nor to calls without topics.
    assert_eq!(served.find(Api::OFFSET_COMMIT), Some(&range(Api::OFFSET_COMMIT, 2, 9)));
    assert_eq!(served.find(Api::HEARTBEAT), Some(&range(Api::HEARTBEAT, 0, 4)));
    assert_eq!(served.find(Api::DESCRIBE_ACLS), None);
    assert_eq!(served.features.iter().map(|feature| feature.name).collect::<Vec<_>>(), ["local"]);

    let rules = vec![rule(&["test"], &["Heartbeat", "DescribeAcls"], &[], "legacy")];
    let settings = Settings { default: "local".to_owned(), rules };
    let served = Route::new(&settings, vec![legacy, local]).unwrap().served();
    assert_eq!(served.find(Api::HEARTBEAT), Some(&range(Api::HEARTBEAT, 0, 3)));
    assert_eq!(served.find(Api::DESCRIBE_ACLS), Some(&range(Api::DESCRIBE_ACLS, 0, 3)));
    assert_eq!(served.find(Api::FETCH), Some(&range(Api::FETCH, 4, 18)));
}

#[tokio::test]
async fn bodies_are_looked_into_only_for_rules_with_topics() {
    let garbage = || Call::for_tests_raw(Api::METADATA, 1, Bytes::from_static(b"\x7f\xff\xff\xff"));
    let by_listener = route(vec![rule(&["test"], &[], &[], "legacy"), rule(&[], &[], &["x"], "third")]);
    assert_eq!(service_of(&by_listener, garbage()).await, "legacy");
    let mut by_topic = route(vec![rule(&[], &["Metadata"], &["x"], "third")]);
    assert!(by_topic.call(garbage()).await.is_err());
    let mut page = Page::default();
    by_listener.collect(&mut page);
    let page = page.into_text();
    assert!(page.contains("yagura_service_seconds_count{service=\"legacy\",api=\"Metadata\"} 1\n"), "{page}");
}

#[test]
fn what_is_wrong_with_the_settings_is_said_at_once() {
    let rules = vec![
        rule(&[], &[], &[], "legacy"),
        rule(&[], &["Prodcue"], &[], "legacy"),
        rule(&[], &[], &["x"], "lgeacy"),
    ];
    let settings = Settings { default: "locl".to_owned(), rules };
    let faults = Route::new(&settings, services(&["legacy", "local"])).unwrap_err();
    let expected = [
        "there is no service \"locl\"; there are: legacy, local",
        "a rule to \"legacy\" would match every call: give it listeners, apis or topics, or make its service the default",
        "a rule to \"legacy\" names \"Prodcue\", which is no API of Kafka 4.1 (such as Produce)",
        "there is no service \"lgeacy\"; there are: legacy, local",
    ];
    assert_eq!(faults.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_documented_settings_are_read() {
    #[derive(Deserialize)]
    struct File {
        route: Settings,
    }
    let file: File = toml::from_str(&crate::doc_toml::text(include_str!("../mod.rs"))).unwrap();
    let rules = vec![
        rule(&[], &[], &["legacy.*"], "legacy"),
        rule(&["ops"], &["CreateTopics", "DeleteTopics"], &[], "local"),
    ];
    assert_eq!(file.route, Settings { default: "local".to_owned(), rules });
    assert!(Route::new(&file.route, services(&["local", "legacy"])).is_ok());
    assert!(toml::from_str::<Settings>("rules = []").is_err(), "a default is required");
    assert!(toml::from_str::<Settings>("default = \"a\"\nrule = []").is_err());
}
