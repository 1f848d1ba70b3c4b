//! Calls of several services.

use super::broker::{Broker, at_once};
use super::*;

fn brokers() -> (Route, Broker, Broker) {
    let (local, legacy) = (Broker::new("local"), Broker::new("legacy"));
    let rules = vec![rule(&[], &[], &["legacy.*"], "legacy")];
    let settings = Settings { default: "local".to_owned(), rules };
    let route = Route::new(&settings, vec![local.named(), legacy.named()]).unwrap();
    (route, local, legacy)
}

fn response(api: Api, version: i16, reply: &Reply) -> Value {
    value::decode(api.message(Direction::Response).unwrap(), version, &reply.body).unwrap()
}

/// The topics that a response names, each with the service that answered.
fn named(response: &Value) -> Vec<(String, String)> {
    let text = |topic: &Value, field| topic.get(field).unwrap().as_str().unwrap().to_owned();
    let topics = response.get("Topics").unwrap().elements().iter();
    topics.map(|topic| (text(topic, "Name"), text(topic, "ErrorMessage"))).collect()
}

fn create(names: &[&str]) -> Call {
    let topic = |name: &&str| Value::Struct(vec![("Name", text(name))]);
    let topics = Value::Array(names.iter().map(topic).collect());
    request(Api::CREATE_TOPICS, 5, vec![("Topics", topics)])
}

#[test]
fn each_service_gets_its_topics_and_the_answers_are_in_the_order_of_the_request() {
    let (route, local, legacy) = brokers();
    let reply = at_once(&route, create(&["legacy.a", "a", "legacy.b", "b"])).unwrap();
    let expected = [("legacy.a", "legacy"), ("a", "local"), ("legacy.b", "legacy"), ("b", "local")];
    let expected = expected.map(|(topic, service)| (topic.to_owned(), service.to_owned()));
    assert_eq!(named(&response(Api::CREATE_TOPICS, 5, &reply)), expected);
    for broker in [local, legacy] {
        let asked = broker.take_asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(
            (asked[0].api, asked[0].request.get("Topics").unwrap().elements().len()),
            (Api::CREATE_TOPICS, 2)
        );
    }
}

#[test]
fn a_call_of_one_service_is_not_taken_apart() {
    let (route, local, legacy) = brokers();
    at_once(&route, create(&["legacy.a", "legacy.b"])).unwrap();
    assert_eq!((local.take_asked().len(), legacy.take_asked().len()), (0, 1));
}

#[test]
fn all_topics_are_those_of_all_services() {
    let (route, local, legacy) = brokers();
    let reply = at_once(&route, request(Api::METADATA, 12, vec![("Topics", Value::Null)])).unwrap();
    let response = response(Api::METADATA, 12, &reply);
    let topics = response.get("Topics").unwrap().elements().iter();
    let names: Vec<&str> = topics.map(|topic| topic.get("Name").unwrap().as_str().unwrap()).collect();
    // Each of them has both, but only one that clients can reach.
    assert_eq!(names, ["legacy.orders", "orders"]);
    assert_eq!(response.get("ClusterId").unwrap().as_str(), Some("local"), "the default service's");
    assert_eq!((local.take_asked().len(), legacy.take_asked().len()), (1, 1));
}

fn produce(acks: i64, ids: &[TopicId]) -> Call {
    let topic = |id: &TopicId| Value::Struct(vec![("TopicId", Value::Uuid(id.0))]);
    let topics = Value::Array(ids.iter().map(topic).collect());
    request(Api::PRODUCE, 13, vec![("Acks", Value::Int(acks)), ("TopicData", topics)])
}

#[test]
fn a_produce_says_which_service_gave_its_producer_ids() {
    let (route, local, legacy) = brokers();
    let reply = at_once(&route, produce(-1, &[LEGACY_ORDERS, ORDERS])).unwrap();
    let response = response(Api::PRODUCE, 13, &reply);
    let ids: Vec<_> =
        response.get("Responses").unwrap().elements().iter().map(|one| one.get("TopicId").cloned()).collect();
    assert_eq!(ids, [Some(Value::Uuid(LEGACY_ORDERS.0)), Some(Value::Uuid(ORDERS.0))]);
    at_once(&route, produce(-1, &[LEGACY_ORDERS])).unwrap();
    let origins =
        |broker: &Broker| broker.take_asked().into_iter().map(|asked| asked.origin).collect::<Vec<_>>();
    assert_eq!(origins(&local), [None::<Arc<str>>]);
    assert_eq!(origins(&legacy), [Some(Arc::from("local")), Some(Arc::from("local"))]);
}

#[test]
fn a_produce_that_wants_no_reply_gets_none() {
    let (route, local, legacy) = brokers();
    assert!(at_once(&route, produce(0, &[LEGACY_ORDERS, ORDERS])).is_none());
    assert_eq!((local.take_asked().len(), legacy.take_asked().len()), (1, 1));
}

#[test]
fn a_service_that_hangs_up_does_not_keep_the_others_from_their_parts() {
    let local = Broker::new("local");
    let hangs_up: fake::Handler = Arc::new(|_| Box::pin(ready(Err(Hangup::because("it is over")))));
    let legacy = FakeService { handler: Some(hangs_up), ..FakeService::new("legacy") };
    let rules = vec![rule(&[], &[], &["legacy.*"], "legacy")];
    let settings = Settings { default: "local".to_owned(), rules };
    let mut route = Route::new(&settings, vec![local.named(), legacy.named()]).unwrap();
    let outcome = futures_util::FutureExt::now_or_never(route.call(create(&["legacy.a", "a"])));
    assert_eq!(outcome.unwrap().unwrap_err(), Hangup::because("it is over"));
    assert_eq!(local.take_asked().len(), 1);
}

#[test]
fn later_calls_wait_for_all_parts() {
    let lane = kernel::ticket::Lane::new();
    let (first, second) = (lane.issue(), lane.issue());
    let mut call = create(&["legacy.a", "a"]);
    call.ticket = first;
    let mut parts = call.into_parts(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
    assert_eq!(parts[1].body.raw(), "b");
    let waits = |ticket: &kernel::Ticket| futures_util::FutureExt::now_or_never(ticket.front()).is_none();
    assert!(waits(&second));
    parts.pop();
    assert!(waits(&second), "one part is left");
    drop(parts);
    assert!(!waits(&second));
}
