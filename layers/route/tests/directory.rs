//! The topics of all services in one directory.

use kernel::ports::TopicFacts;

use super::*;

fn names(found: Result<Vec<TopicFacts>, String>) -> Vec<String> {
    let mut names: Vec<String> = found.unwrap().iter().map(|topic| topic.name.to_string()).collect();
    names.sort_unstable();
    names
}

fn wanted(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

#[tokio::test]
async fn topics_are_found_where_the_rules_lead_to() {
    let route = route(vec![rule(&[], &[], &["legacy.*"], "legacy"), rule(&["ops"], &[], &[], "third")]);
    let directory = route.directory();
    let found = directory.by_name(wanted(&["orders", "legacy.orders", "legacy.lost", "none"])).await;
    // The other service has a topic legacy.lost, which no client can reach.
    assert_eq!(names(found), ["legacy.orders", "orders"]);
    let found = directory.by_id(vec![UNKNOWN, LEGACY_LOST, LEGACY_ORDERS, ORDERS, ORDERS]).await;
    assert_eq!(names(found), ["legacy.orders", "orders"]);
    assert_eq!(names(directory.all().await), ["legacy.orders", "orders"]);
    assert_eq!(names(directory.by_name(Vec::new()).await), [""; 0]);
}

#[tokio::test]
async fn a_partition_ends_where_the_service_of_its_topic_says() {
    let route = route(vec![rule(&[], &[], &["legacy.*"], "legacy")]);
    let at = |topic, partition| kernel::TopicPartition { topic, partition };
    let asked = vec![at(LEGACY_ORDERS, 0), at(UNKNOWN, 0), at(ORDERS, 3)];
    assert_eq!(route.directory().ends(asked).await, Ok(vec![Some(10), None, Some(13)]));
}

#[tokio::test]
async fn a_service_is_asked_once_and_only_for_its_own_names() {
    let (local, legacy) = (FakeService::new("local"), FakeService::new("legacy"));
    let topics = [Arc::clone(&local.topics), Arc::clone(&legacy.topics)];
    let rules = vec![rule(&[], &[], &["legacy.*"], "legacy")];
    let settings = Settings { default: "local".to_owned(), rules };
    let route = Route::new(&settings, vec![local.named(), legacy.named()]).unwrap();
    let directory = route.directory();
    let asked = || topics.each_ref().map(|topics| *topics.asked.lock());
    directory.by_name(wanted(&["orders", "users", "lines"])).await.unwrap();
    assert_eq!(asked(), [1, 0]);
    directory.by_name(wanted(&["orders", "legacy.orders", "legacy.users"])).await.unwrap();
    assert_eq!(asked(), [2, 1]);
    drop(route);
    assert!(directory.all().await.is_err(), "it does not keep the services alive");
}

#[tokio::test]
async fn a_service_that_is_down_is_an_error_where_it_could_know_more() {
    let topics = |name| FakeService::new(name).topics.topics.clone();
    let down = fake::FakeTopics { topics: topics("legacy"), is_down: true, ..fake::FakeTopics::default() };
    let legacy = FakeService { topics: Arc::new(down), ..FakeService::new("legacy") };
    let rules = vec![rule(&[], &[], &["legacy.*"], "legacy")];
    let settings = Settings { default: "local".to_owned(), rules };
    let services = vec![FakeService::new("local").named(), legacy.named()];
    let route = Route::new(&settings, services).unwrap();
    let directory = route.directory();
    assert_eq!(names(directory.by_name(wanted(&["orders"])).await), ["orders"]);
    assert_eq!(names(directory.by_id(vec![ORDERS]).await), ["orders"]);
    assert_eq!(directory.by_name(wanted(&["orders", "legacy.orders"])).await, Err("it is down".to_owned()));
    assert_eq!(directory.by_id(vec![ORDERS, UNKNOWN]).await, Err("it is down".to_owned()));
    assert!(directory.all().await.is_err());
}
