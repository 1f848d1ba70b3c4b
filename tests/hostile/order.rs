//! Order on one connection: replies go by slot, whatever their correlation ids, refused or not asked for.

use std::thread;

use kernel::Api;
use kernel::schema::value::Value;

use crate::support::{
    Broker, Client, Heard, decoded, encoded, fields, frame, metadata_request, produce_request, served, text,
};

/// The name of the one topic that a Metadata answer is about, which tells whose answer it is.
fn topic_of(answer: &Value) -> String {
    let topics = answer.get("Topics").unwrap().elements();
    assert_eq!(topics.len(), 1, "{answer:?}");
    topics[0].get("Name").unwrap().as_str().unwrap().to_owned()
}

fn metadata_frame(correlation_id: i32, topic: &str) -> Vec<u8> {
    let body = encoded(Api::METADATA, 12, &metadata_request(&[topic]));
    frame(Api::METADATA, 12, correlation_id, &body)
}

fn hear(client: &mut Client, api: Api, version: i16, correlation_id: i32, what: &str) -> Value {
    match client.hear(what) {
        Heard::Reply(id, rest) => {
            assert_eq!(id, correlation_id, "{what}: the correlation id");
            decoded(api, version, &rest)
        }
        Heard::Closed => panic!("{what}: the broker closed the connection"),
    }
}

/// Writes from a thread of its own: what is sent may be more than the two sockets hold.
fn send_aside(client: &Client, bytes: Vec<u8>) {
    let mut writer = client.another_end();
    thread::spawn(move || writer.send(&bytes));
}

#[test]
fn replies_come_in_order_though_all_have_one_correlation_id() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    for id in [7, 0, -1, i32::MAX, i32::MIN] {
        let topic = |index: usize| format!("no-such-{index}");
        send_aside(&client, (0..300).flat_map(|index| metadata_frame(id, &topic(index))).collect());
        for index in 0..300 {
            let what = format!("request {index} with the correlation id {id}");
            let answer = hear(&mut client, Api::METADATA, 12, id, &what);
            assert_eq!(topic_of(&answer), topic(index), "{what}");
        }
    }
    broker.assert_unharmed();
}

#[test]
fn a_thousand_pipelined_requests_with_a_refused_one_among_them_are_answered_in_order() {
    const INVALID_TOPIC: i64 = 17;
    let mut broker = Broker::start();
    let mut client = broker.client();
    let topic = |index: i32| format!("no-such-{index}");
    let invalid = fields([
        ("Name", text("not/a/topic")),
        ("NumPartitions", Value::Int(1)),
        ("ReplicationFactor", Value::Int(1)),
    ]);
    let refused = fields([("Topics", Value::Array(vec![invalid])), ("TimeoutMs", Value::Int(30_000))]);
    let frame_of = |index: i32| match index {
        500 => frame(Api::CREATE_TOPICS, 7, index, &encoded(Api::CREATE_TOPICS, 7, &refused)),
        _ => metadata_frame(index, &topic(index)),
    };
    send_aside(&client, (0..1_000).flat_map(frame_of).collect());
    for index in 0..1_000 {
        let what = format!("request {index}");
        if index == 500 {
            let answer = hear(&mut client, Api::CREATE_TOPICS, 7, index, &what);
            let code = answer.get("Topics").unwrap().elements()[0].get("ErrorCode");
            assert_eq!(code, Some(&Value::Int(INVALID_TOPIC)), "{answer:?}");
        } else {
            assert_eq!(topic_of(&hear(&mut client, Api::METADATA, 12, index, &what)), topic(index), "{what}");
        }
    }
    broker.assert_unharmed();
}

#[test]
fn a_produce_with_acks_0_is_never_answered_in_any_version() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    let id = client.create_topic("quiet");
    let versions = Api::PRODUCE.versions();
    for version in versions.min..=versions.max {
        let produce = produce_request("quiet", id, 0, b"nobody answers");
        let both = [
            frame(Api::PRODUCE, version, 1, &encoded(Api::PRODUCE, version, &produce)),
            metadata_frame(2, "quiet"),
        ];
        client.send(&both.concat());
        let what = format!("Metadata behind Produce {version} with acks=0");
        assert_eq!(topic_of(&hear(&mut client, Api::METADATA, 12, 2, &what)), "quiet");
    }
    // They were all written, though: a read waits for the same connection's earlier writes.
    let partition = fields([("PartitionIndex", Value::Int(0)), ("Timestamp", Value::Int(-1))]);
    let topic = fields([("Name", text("quiet")), ("Partitions", Value::Array(vec![partition]))]);
    let latest = fields([("ReplicaId", Value::Int(-1)), ("Topics", Value::Array(vec![topic]))]);
    let answer = client.ask(Api::LIST_OFFSETS, 7, &latest);
    let partition = &answer.get("Topics").unwrap().elements()[0].get("Partitions").unwrap().elements()[0];
    let written = i64::from(versions.max - versions.min + 1);
    assert_eq!(partition.get("Offset"), Some(&Value::Int(written)), "{answer:?}");
    broker.assert_unharmed();
}

#[test]
fn an_api_versions_that_is_too_new_is_answered_in_version_0_and_may_be_asked_again() {
    const UNSUPPORTED_VERSION: i64 = 35;
    let mut broker = Broker::start();
    let request = fields([("ClientSoftwareName", text("hostile")), ("ClientSoftwareVersion", text("1.0"))]);
    let newest = Api::API_VERSIONS.versions().max;
    for version in [newest + 1, 127, i16::MAX, -1, i16::MIN] {
        let mut client = broker.client();
        client.send(&frame(Api::API_VERSIONS, version, 41, b"whatever a later version holds"));
        let what = format!("ApiVersions {version}");
        let answer = hear(&mut client, Api::API_VERSIONS, 0, 41, &what);
        assert_eq!(answer.get("ErrorCode"), Some(&Value::Int(UNSUPPORTED_VERSION)), "{what}");
        let keys = answer.get("ApiKeys").unwrap().elements();
        let own = keys.iter().find(|key| key.get("ApiKey") == Some(&Value::Int(18))).unwrap();
        assert_eq!(own.get("MaxVersion"), Some(&Value::Int(i64::from(newest))), "{what}");

        let again = client.ask(Api::API_VERSIONS, newest, &request);
        assert_eq!(again.get("ErrorCode"), Some(&Value::Int(0)), "{what}, asked again");
        let keys = again.get("ApiKeys").unwrap().elements();
        assert_eq!(keys.len(), served().apis().len(), "{what}, asked again");
        // Served from 3, advertised from 0 (KAFKA-18659).
        let produce = keys.iter().find(|key| key.get("ApiKey") == Some(&Value::Int(0))).unwrap();
        assert_eq!(produce.get("MinVersion"), Some(&Value::Int(0)), "{what}, asked again");
    }
    broker.assert_unharmed();
}

#[test]
fn an_api_versions_with_an_impossible_software_name_is_refused_and_no_more() {
    const INVALID_REQUEST: i64 = 42;
    let mut broker = Broker::start();
    let mut client = broker.client();
    for name in ["", "no spaces", "-leading", "\u{0}", "é"] {
        let request = fields([("ClientSoftwareName", text(name)), ("ClientSoftwareVersion", text("1.0"))]);
        let answer = client.ask(Api::API_VERSIONS, 4, &request);
        assert_eq!(answer.get("ErrorCode"), Some(&Value::Int(INVALID_REQUEST)), "{name:?}");
    }
    broker.assert_unharmed();
}
