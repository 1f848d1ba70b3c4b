//! Frames that are none: impossible keys and lengths, other protocols, senders that dawdle.

use std::thread;
use std::time::{Duration, Instant};

use kernel::Api;
use kernel::schema::value::Value;

use crate::support::{
    Broker, Client, Heard, PATIENCE, decoded, encoded, fields, frame, produce_request, served, text,
};

/// An ApiVersions request with everything in it that its flexible header and body can have.
fn api_versions(correlation_id: i32) -> Vec<u8> {
    let request = fields([("ClientSoftwareName", text("hostile")), ("ClientSoftwareVersion", text("1.0"))]);
    frame(Api::API_VERSIONS, 4, correlation_id, &encoded(Api::API_VERSIONS, 4, &request))
}

fn hear_api_versions(client: &mut Client, correlation_id: i32, what: &str) {
    match client.hear(what) {
        Heard::Reply(id, rest) => {
            assert_eq!(id, correlation_id, "{what}");
            let answer = decoded(Api::API_VERSIONS, 4, &rest);
            assert_eq!(answer.get("ErrorCode"), Some(&Value::Int(0)), "{what}");
        }
        Heard::Closed => panic!("{what}: the broker closed the connection"),
    }
}

#[test]
fn an_api_that_is_not_served_closes_the_connection_after_what_was_asked_before() {
    let mut broker = Broker::start();
    for key in [84, 4, 93, 10_000, i16::MAX, -1, i16::MIN] {
        for version in [0, 1, i16::MAX, -1] {
            let what = format!("key {key}, version {version}");
            let mut client = broker.client();
            client.send(&[api_versions(7), frame(Api(key), version, 8, &[0; 20])].concat());
            hear_api_versions(&mut client, 7, &what);
            client.hear_closed(&what);
        }
    }
    broker.assert_unharmed();
}

#[test]
fn a_version_that_is_not_served_closes_the_connection() {
    let mut broker = Broker::start();
    for served in served().apis().iter().filter(|served| served.api != Api::API_VERSIONS) {
        for version in [served.served_min - 1, served.max + 1, i16::MAX, i16::MIN] {
            let mut client = broker.client();
            client.send(&frame(served.api, version, 1, &[0; 20]));
            client.hear_closed(&format!("{} {version}", served.api));
        }
    }
    broker.assert_unharmed();
}

#[test]
fn an_impossible_length_closes_the_connection() {
    let mut broker = Broker::start();
    let frame_bytes_max = 100 << 20;
    for length in [-1, 0, 1, 3, 7, frame_bytes_max + 1, i32::MAX, i32::MIN] {
        let mut client = broker.client();
        client.send(&[&length.to_be_bytes()[..], &[0; 16]].concat());
        client.hear_closed(&format!("length {length}"));
    }
    broker.assert_unharmed();
}

#[test]
fn a_length_that_is_never_filled_takes_no_memory() {
    let mut broker = Broker::start();
    let before = broker.rss_bytes();
    let mut clients: Vec<_> = (0..100).map(|_| broker.client()).collect();
    for client in &mut clients {
        // The largest that is allowed; a hundred of them are 10 GB.
        client.send(&[&(100i32 << 20).to_be_bytes()[..], &[0; 16]].concat());
    }
    let received = |broker: &Broker| broker.metric("yagura_received_bytes_total");
    broker.wait_until(|broker| received(broker) >= 2_000.0, |broker| format!("{} bytes", received(broker)));
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "a hundred lengths took {grown} bytes");
    broker.assert_unharmed();
}

#[test]
fn a_request_that_ends_within_its_header_or_body_closes_the_connection() {
    let mut broker = Broker::start();
    let whole = api_versions(1);
    // From the shortest possible header on: within the client id, before the tagged fields, within the body.
    for end in 12..whole.len() {
        let length = (end - 4) as i32;
        let mut client = broker.client();
        client.send(&[&length.to_be_bytes()[..], &whole[4..end]].concat());
        client.hear_closed(&format!("a frame of {length} bytes"));
    }
    broker.assert_unharmed();
}

#[test]
fn requests_that_come_one_byte_at_a_time_are_answered() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    for byte in [api_versions(1), api_versions(2)].concat() {
        client.send(&[byte]);
        thread::sleep(Duration::from_millis(1));
    }
    hear_api_versions(&mut client, 1, "the first request");
    hear_api_versions(&mut client, 2, "the second request");
    broker.assert_unharmed();
}

#[test]
fn another_protocol_on_the_port_is_closed_at_once() {
    let mut broker = Broker::start();
    let client_hello = [&[0x16, 3, 1, 0, 0xc8, 1, 0, 0, 0xc4, 3, 3][..], &[0x5a; 189]].concat();
    let strangers: [&[u8]; 5] = [
        &client_hello,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /topics/a HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ];
    for stranger in strangers {
        let mut client = broker.client();
        client.send(stranger);
        client.hear_closed(&String::from_utf8_lossy(stranger));
    }
    broker.assert_unharmed();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_frame_harms_nobody() {
    let mut broker = Broker::start();
    let whole = api_versions(1);
    for end in 1..whole.len() {
        let mut client = broker.client();
        client.send(&whole[..end]);
        client.finish();
        client.hear_closed(&format!("{end} of {} bytes", whole.len()));
    }
    // One that has said all it wants is still answered.
    let mut client = broker.client();
    client.send(&whole);
    client.finish();
    hear_api_versions(&mut client, 1, "a client that has finished");
    client.hear_closed("a client that has finished");
    broker.assert_unharmed();
}

const HURRIED: &str = r#"
[node]
request_memory = "8MiB"

[listeners.main]
bind = "127.0.0.1:0"
stack = ["framing", "metrics", "local"]

[layers.framing]
stall_timeout = "500ms"

[services.local]
kind = "storage"
url = "memory://"

[admin]
bind = "127.0.0.1:0"
"#;

/// The answer to a large Produce, and how many connections it was sent on in vain: on a machine that is busy with others an
/// honest client, too, may stand still for longer than the broker waits, and then comes again.
fn answer_to_honest(broker: &Broker, request: &Value) -> (Value, f64) {
    let (deadline, mut lost) = (Instant::now() + PATIENCE, 0.0);
    let sent = frame(Api::PRODUCE, 9, 1, &encoded(Api::PRODUCE, 9, request));
    loop {
        let mut client = broker.client();
        client.send(&sent);
        match client.hear("a large Produce") {
            Heard::Reply(1, rest) => return (decoded(Api::PRODUCE, 9, &rest), lost),
            Heard::Reply(id, _) => panic!("the correlation id is {id}"),
            Heard::Closed => lost += 1.0,
        }
        assert!(Instant::now() < deadline, "it was closed {lost} times in {PATIENCE:?}");
    }
}

#[test]
fn half_frames_that_hold_request_memory_do_not_hold_up_others_for_long() {
    let mut broker = Broker::with_config("hurried", HURRIED);
    let id = broker.client().create_topic("large");
    let half = [&(1i32 << 20).to_be_bytes()[..], &[0; 200 << 10]].concat();
    let mut dawdlers: Vec<_> = (0..40).map(|_| broker.client()).collect();
    for dawdler in &mut dawdlers {
        dawdler.send(&half);
    }
    // A small request does not wait for them. A large one waits for its memory behind them, and gets it.
    assert_eq!(broker.client().metadata(&["large"]).get("Topics").unwrap().elements().len(), 1);
    let request = produce_request("large", id, -1, &[7; 900_000]);
    let (answer, lost) = answer_to_honest(&broker, &request);
    let partition =
        &answer.get("Responses").unwrap().elements()[0].get("PartitionResponses").unwrap().elements()[0];
    assert_eq!(partition.get("ErrorCode"), Some(&Value::Int(0)), "{answer:?}");
    // A connection that ends gives its memory back before it is counted.
    let closed = |broker: &Broker| broker.metric("yagura_connections_ended_total{reason=\"stalled\"}");
    let show = |broker: &Broker| format!("{} were closed, {lost} of them honest", closed(broker));
    broker.wait_until(|broker| closed(broker) > lost, show);
    drop(dawdlers);
    let held = |broker: &Broker| broker.metric("yagura_request_memory_used_bytes");
    broker.wait_until(|broker| held(broker) == 0.0, |broker| format!("{} bytes are held", held(broker)));
    broker.assert_unharmed();
}
