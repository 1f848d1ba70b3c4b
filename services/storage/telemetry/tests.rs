//! Client metrics: subscriptions and pushes.

use prost::Message;

use super::otlp::{AnyValue, Metric, Points, ResourceMetrics, ScopeMetrics};
use super::*;
use rules::documents::Subscription;

fn client(id: &str) -> Client {
    Client {
        instance: Uuid::from_u128(7),
        id: Arc::from(id),
        software: ("apache-kafka-java".to_owned(), "4.1.1".to_owned()),
        source: ("127.0.0.1".to_owned(), 1234),
    }
}

fn subscription(name: &str, configs: &[(&str, &str)]) -> (Arc<str>, Arc<Subscription>) {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (Arc::from(name), Arc::new(Subscription(configs.collect())))
}

#[test]
fn a_client_gets_the_union_of_matching_subscriptions() {
    let subscriptions = [
        subscription("a", &[("metrics", "org.apache.kafka.producer., x"), ("interval.ms", "5000")]),
        subscription(
            "b",
            &[
                ("metrics", "x"),
                ("match", "client_id=web-.*,client_software_name=apache-.*"),
                ("interval.ms", "1000"),
            ],
        ),
        subscription("c", &[("metrics", "*"), ("match", "client_source_port=1")]),
    ];
    let web = asked_of(&client("web-1"), &subscriptions);
    assert_eq!(
        (web.metrics.as_slice(), web.interval_ms),
        (["org.apache.kafka.producer.".to_owned(), "x".to_owned()].as_slice(), 1000)
    );
    let other = asked_of(&client("other"), &subscriptions);
    assert_eq!((other.metrics.len(), other.interval_ms), (2, 5000));
    assert_ne!(web.id, other.id);
    let all = asked_of(&client("web-1"), &[subscription("all", &[("metrics", "a,*")])]);
    assert_eq!((all.metrics, all.interval_ms), (vec![String::new()], 300_000));
    assert_eq!(asked_of(&client("web-1"), &[]).metrics, Vec::<String>::new());
}

fn pushed(name: &str, value: i64) -> Bytes {
    let attribute = Attribute {
        key: "node.id".to_owned(),
        value: Some(AnyValue { string: Some("1".to_owned()), int: None }),
    };
    let point = Point { as_double: None, as_int: Some(value), attributes: vec![attribute] };
    let points = Some(Points { data_points: vec![point] });
    let metric = Metric { name: name.to_owned(), gauge: None, sum: points };
    let scopes = vec![ScopeMetrics { metrics: vec![metric] }];
    MetricsData { resource_metrics: vec![ResourceMetrics { scope_metrics: scopes }] }.encode_to_vec().into()
}

fn page(telemetry: &Telemetry, now_ms: i64) -> String {
    let mut page = Page::default();
    telemetry.collect(&mut page, now_ms);
    page.into_text()
}

#[test]
fn the_last_values_are_shown_until_the_client_is_silent() {
    let telemetry = Telemetry::default();
    let push = |value, now_ms| {
        telemetry.push(client("web"), pushed("org.apache.kafka.x", value), false, 1000, now_ms)
    };
    assert_eq!(push(5, 0), Ok(()));
    assert_eq!(push(6, 100), Err(ErrorCode::ThrottlingQuotaExceeded));
    assert_eq!(push(7, 1000), Ok(()));
    let text = page(&telemetry, 1000);
    let line = "yagura_client_org_apache_kafka_x{client_id=\"web\",client_instance_id=\"00000000-0000-0000-0000-000000000007\",\
                client_software_name=\"apache-kafka-java\",node_id=\"1\"} 7";
    assert!(text.contains(line), "{text}");
    assert!(!page(&telemetry, 5000).contains("_kafka_x"));
}

#[test]
fn a_push_after_the_terminating_push_is_refused() {
    let telemetry = Telemetry::default();
    assert_eq!(telemetry.push(client("web"), pushed("x", 1), true, 1000, 0), Ok(()));
    assert_eq!(
        telemetry.push(client("web"), pushed("x", 1), false, 1000, 5000),
        Err(ErrorCode::InvalidRequest)
    );
}

#[test]
fn unreadable_metrics_are_refused() {
    let telemetry = Telemetry::default();
    let outcome =
        telemetry.push(client("web"), Bytes::from_static(b"\x0a\xff\xff\xff\xff\x0f"), false, 1000, 0);
    assert_eq!(outcome, Err(ErrorCode::InvalidRecord));
}

#[test]
fn labels_are_valid_in_prometheus_and_unique() {
    let attribute = |key: &str| Attribute {
        key: key.to_owned(),
        value: Some(AnyValue { string: Some("v".to_owned()), int: None }),
    };
    let point = |keys: &[&str]| Point {
        as_double: Some(1.0),
        as_int: None,
        attributes: keys.iter().map(|key| attribute(key)).collect(),
    };
    let shown = read(&Arc::from("x"), point(&["1x", "a.b", "a_b", "client_id"])).unwrap();
    let names: Vec<&str> = shown.labels.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["_1x", "a_b"]);
    assert!(read(&Arc::from("x"), point(&["a"; LABELS_MAX + 1])).is_none());
}

#[test]
fn clients_and_values_are_bounded() {
    let telemetry = Telemetry::default();
    for number in 0..CLIENTS_MAX as u128 + 10 {
        let client = Client { instance: Uuid::from_u128(number + 1), ..client("web") };
        telemetry.push(client, pushed("x", 1), false, 1_000_000, number as i64).unwrap();
    }
    assert_eq!(telemetry.lock().len(), CLIENTS_MAX);
    let one: MetricsData = MetricsData::decode(pushed("x", 1)).unwrap();
    let many = |count| MetricsData { resource_metrics: vec![one.resource_metrics[0].clone(); count] };
    let push = |number: u128, count| {
        let client = Client { instance: Uuid::from_u128(number), ..client("web") };
        telemetry.push(client, many(count).encode_to_vec().into(), false, 1_000_000, 9_999_999).unwrap();
    };
    push(1, SAMPLES_OF_CLIENT_MAX + 5);
    assert!(page(&telemetry, 9_999_999).contains("yagura_client_metrics_dropped_total 5"));
    (2..100).for_each(|number| push(number, SAMPLES_OF_CLIENT_MAX));
    let kept: usize = telemetry.lock().values().map(|pushed| pushed.samples.len()).sum();
    assert!((SAMPLES_MAX - SAMPLES_OF_CLIENT_MAX..=SAMPLES_MAX).contains(&kept), "{kept} values");
    telemetry.push(client("web"), pushed(&"x".repeat(500), 1), false, 1_000_000, 99_999_999).unwrap();
    assert!(page(&telemetry, 99_999_999).contains("yagura_client_metrics_dropped_total 6"));
}
