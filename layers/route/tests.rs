//! Which service a call comes to.

use bytes::Bytes;
use kernel::schema::Direction;
use kernel::schema::value::{self, Value};

use super::*;

/// Services that answer with their name.
fn services(names: &[&'static str]) -> HashMap<String, Door> {
    let service =
        |name: &'static str| Door::from_fn(move |_| Box::pin(async move { Ok(Some(Reply::new(name))) }));
    names.iter().map(|name| ((*name).to_owned(), service(name))).collect()
}

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

async fn service_of(route: &Route, call: Call) -> String {
    let reply = route.clone().call(call).await.unwrap().unwrap();
    String::from_utf8(reply.contiguous().to_vec()).unwrap()
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

#[tokio::test]
async fn topics_of_different_services_are_refused_in_so_many_words() {
    let mut route = route(vec![rule(&[], &[], &["legacy.*"], "legacy")]);
    let create = Api::CREATE_TOPICS;
    // CreateTopics 2 of "orders" and "legacy.orders": name, partitions, replicas, no assignments, no configs.
    let mut body = 2i32.to_be_bytes().to_vec();
    for name in ["orders", "legacy.orders"] {
        body.extend((name.len() as i16).to_be_bytes());
        body.extend(name.as_bytes());
        body.extend(b"\0\0\0\x01\0\x01\0\0\0\0\0\0\0\0");
    }
    body.extend(b"\0\0\x75\x30\0");
    let call = Call::for_tests_raw(create, 2, Bytes::from(body));
    let reply = route.call(call).await.unwrap().unwrap();
    let message = create.message(Direction::Response).unwrap();
    let answer = value::decode(message, 2, &reply.contiguous()).unwrap();
    let topics = answer.get("Topics").unwrap().elements();
    assert_eq!(topics.len(), 2);
    for topic in topics {
        assert_eq!(topic.get("ErrorCode"), Some(&Value::Int(42)));
        assert!(topic.get("ErrorMessage").unwrap().as_str().unwrap().contains("does not split"));
    }
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
    let file: File = toml::from_str(&crate::doc_toml::text(include_str!("mod.rs"))).unwrap();
    let rules = vec![
        rule(&[], &[], &["legacy.*"], "legacy"),
        rule(&["ops"], &["CreateTopics", "DeleteTopics"], &[], "local"),
    ];
    assert_eq!(file.route, Settings { default: "local".to_owned(), rules });
    assert!(Route::new(&file.route, services(&["local", "legacy"])).is_ok());
    assert!(toml::from_str::<Settings>("rules = []").is_err(), "a default is required");
    assert!(toml::from_str::<Settings>("default = \"a\"\nrule = []").is_err());
}
