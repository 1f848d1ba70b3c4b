//! Calls that name their topics by id.

use super::*;

/// A route that sends legacy.* to `legacy`, and its services' topics.
fn legacy_route(is_down: impl Fn(&str) -> bool) -> (Route, Vec<Arc<fake::FakeTopics>>) {
    let mut named = Vec::new();
    let mut all_topics = Vec::new();
    for name in ["local", "legacy", "third"] {
        let mut service = FakeService::new(name);
        let topics = service.topics.topics.clone();
        let is_down = is_down(name);
        service.topics = Arc::new(fake::FakeTopics { topics, is_down, ..fake::FakeTopics::default() });
        all_topics.push(Arc::clone(&service.topics));
        named.push(service.named());
    }
    let rules = vec![rule(&[], &[], &["legacy.*"], "legacy")];
    let settings = Settings { default: "local".to_owned(), rules };
    (Route::new(&settings, named).unwrap(), all_topics)
}

fn produce(ids: &[TopicId]) -> Call {
    let topic = |id: &TopicId| Value::Struct(vec![("TopicId", Value::Uuid(id.0))]);
    let topics = ids.iter().map(topic).collect();
    request(Api::PRODUCE, 13, vec![("Acks", Value::Int(-1)), ("TopicData", Value::Array(topics))])
}

fn fetch(ids: &[TopicId]) -> Call {
    let topic = |id: &TopicId| {
        let partitions = Value::Array(vec![Value::Struct(Vec::new())]);
        Value::Struct(vec![("TopicId", Value::Uuid(id.0)), ("Partitions", partitions)])
    };
    let topics = ids.iter().map(topic).collect();
    request(Api::FETCH, 13, vec![("Topics", Value::Array(topics))])
}

/// The error code at the top of a response to Fetch.
fn fetch_error(reply: &Reply) -> i64 {
    let message = Api::FETCH.message(Direction::Response).unwrap();
    let response = value::decode(message, 13, &reply.body).unwrap();
    response.get("ErrorCode").unwrap().as_int().unwrap()
}

/// A rule for another listener or API that comes first does not hide the topic from this one.
#[tokio::test]
async fn rules_of_other_listeners_do_not_matter() {
    let route = route(vec![
        rule(&["ops"], &[], &["legacy.*"], "third"),
        rule(&[], &["Metadata"], &["legacy.*"], "third"),
        rule(&[], &[], &["legacy.*"], "legacy"),
    ]);
    assert_eq!(service_of(&route, produce(&[LEGACY_ORDERS])).await, "legacy");
    assert_eq!(service_of(&route, fetch(&[LEGACY_ORDERS])).await, "legacy");
    let found = route.directory().by_name(vec![Arc::from("legacy.orders")]).await.unwrap();
    assert_eq!(found.iter().map(|topic| topic.id).collect::<Vec<_>>(), [LEGACY_ORDERS]);
}

#[tokio::test]
async fn the_name_of_the_id_decides() {
    let (route, _) = legacy_route(|_| false);
    let calls: [fn(&[TopicId]) -> Call; 2] = [produce, fetch];
    for call in calls {
        assert_eq!(service_of(&route, call(&[LEGACY_ORDERS])).await, "legacy");
        assert_eq!(service_of(&route, call(&[ORDERS, ORDERS])).await, "local");
        assert_eq!(service_of(&route, call(&[UNKNOWN])).await, "local", "as if it named none");
        assert_eq!(service_of(&route, call(&[UNKNOWN, LEGACY_ORDERS, UNKNOWN])).await, "legacy");
        assert_eq!(service_of(&route, call(&[TopicId::ZERO, LEGACY_ORDERS])).await, "legacy");
    }
    // Metadata names some topics and has ids of others.
    let topic =
        |name: Value, id: TopicId| Value::Struct(vec![("TopicId", Value::Uuid(id.0)), ("Name", name)]);
    let both = vec![topic(text("legacy.users"), TopicId::ZERO), topic(Value::Null, LEGACY_ORDERS)];
    let metadata = request(Api::METADATA, 12, vec![("Topics", Value::Array(both))]);
    assert_eq!(service_of(&route, metadata).await, "legacy");
    let mut page = Page::default();
    route.collect(&mut page);
    let page = page.into_text();
    let counted = "yagura_service_seconds_count{service=\"legacy\",api=\"Produce\"} 3\n";
    assert!(page.contains(counted), "{page}");
}

#[tokio::test]
async fn nothing_is_looked_up_without_ids_or_rules_with_topics() {
    let (by_topic, topics) = legacy_route(|_| false);
    let asked = || topics.iter().map(|topics| *topics.asked.lock()).sum::<usize>();
    assert_eq!(service_of(&by_topic, metadata(&["legacy.orders"])).await, "legacy");
    assert_eq!(service_of(&by_topic, fetch(&[TopicId::ZERO])).await, "local");
    assert_eq!(asked(), 0);
    service_of(&by_topic, fetch(&[ORDERS, LEGACY_LOST, UNKNOWN])).await;
    assert_eq!(asked(), 3, "each service once, for all ids together");
    let by_listener = route(vec![rule(&["test"], &[], &[], "legacy")]);
    assert_eq!(service_of(&by_listener, fetch(&[ORDERS])).await, "legacy");
}

#[tokio::test]
async fn a_service_that_does_not_answer_holds_up_only_who_needs_it() {
    let (route, _) = legacy_route(|name| name == "legacy");
    assert_eq!(service_of(&route, fetch(&[ORDERS])).await, "local");
    let reply = reply_of(&route, fetch(&[ORDERS, LEGACY_ORDERS])).await;
    assert_eq!(fetch_error(&reply), i64::from(ErrorCode::LeaderNotAvailable.code()));
}
