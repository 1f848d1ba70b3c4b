//! Replies are sent in the order of the requests, and calls in flight are limited.

use bytes::Bytes;
use kernel::ErrorCode;
use kernel::schema::Direction;
use kernel::schema::value::{self, Value};
use tokio::time::Instant;

use super::*;

#[tokio::test(start_paused = true)]
async fn replies_leave_in_the_order_of_the_requests_though_their_correlation_ids_are_equal() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let lines = ["sleep 300", "sleep 100", "sleep 200", "echo"];
    client.send(lines.map(request).concat()).await;
    for line in lines {
        let (correlation_id, body) = client.receive().await;
        assert_eq!((correlation_id, &body[..]), (7, line.as_bytes()));
    }
    assert_eq!(*rig.script.ended.lock(), ["echo", "sleep 100", "sleep 200", "sleep 300"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_requests_with_a_refused_one_in_their_middle() {
    let rig = Rig::over(Door::from_fn(|call| {
        Box::pin(async move {
            match call.ticket.number() {
                500 => call.refuse(ErrorCode::InvalidTopicException, "not this one"),
                _ => Ok(Some(Reply::new(call.body.raw().clone()))),
            }
        })
    }));
    let mut client = rig.connect();
    // Metadata 1 of the topic "t".
    let body = b"\0\0\0\x01\0\x01t";
    let requests: Vec<u8> = (0..1000).flat_map(|i| request_of(Api::METADATA, 1, i % 3, body)).collect();
    client.send(requests).await;
    for index in 0..1000 {
        let (correlation_id, reply) = client.receive().await;
        assert_eq!(correlation_id, index % 3);
        match index {
            500 => {
                let metadata = Api::METADATA.message(Direction::Response).unwrap();
                let refusal = value::decode(metadata, 1, &reply).unwrap();
                let topic = &refusal.get("Topics").unwrap().elements()[0];
                assert_eq!(topic.get("ErrorCode"), Some(&Value::Int(17)));
            }
            _ => assert_eq!(reply, body),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_reply_leaves_no_gap() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(["none", "echo a", "none", "none", "echo b", "none"].map(request).concat()).await;
    client.expect("echo a").await;
    client.expect("echo b").await;
    settle().await;
    assert_eq!(rig.script.started(), 6);
    client.pipe.shutdown().await.unwrap();
    assert_eq!(client.expect_end().await, CloseReason::Closed);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_in_flight_are_under_way() {
    let rig = Rig::with(Settings { max_in_flight: 4, ..Settings::default() }, 1 << 20);
    let mut client = rig.connect();
    client.send(["gate"; 10].map(request).concat()).await;
    settle().await;
    assert_eq!(rig.script.started(), 4);
    rig.script.gate.add_permits(1);
    client.expect("gate").await;
    settle().await;
    assert_eq!(rig.script.started(), 5);
    rig.script.gate.add_permits(9);
    for _ in 0..9 {
        client.expect("gate").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_replies_is_not_read_either_and_not_blamed_for_it() {
    let rig = Rig::with(Settings { max_in_flight: 4, ..Settings::default() }, 1 << 20);
    let Client { pipe, served } = rig.connect_through(64);
    let (mut replies, mut requests) = tokio::io::split(pipe);
    let sender = tokio::spawn(async move { requests.write_all(&["echo"; 50].map(request).concat()).await });
    sleep(HOUR).await;
    // A reply takes 12 bytes: 5 are in the pipe, 4 are in flight.
    assert!((4..=9).contains(&rig.script.started()), "{} were started", rig.script.started());
    let mut received = vec![0; 50 * 12];
    timeout(HOUR, replies.read_exact(&mut received)).await.unwrap().unwrap();
    assert_eq!(rig.script.started(), 50);
    sender.await.unwrap().unwrap();
    assert!(!served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_muted_connection_is_answered_and_then_not_read_for_that_long() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let start = Instant::now();
    client.send(request("mute 5000")).await;
    client.expect("mute 5000").await;
    assert!(start.elapsed() < Duration::from_secs(1));
    client.send(request("echo")).await;
    client.expect("echo").await;
    assert!(start.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_mute_does_not_count_against_a_sender_in_the_middle_of_its_frame() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let second = request("echo");
    client.send([&request("mute 3600000")[..], &second[..5]].concat()).await;
    client.expect("mute 3600000").await;
    sleep(HOUR).await;
    client.send(&second[5..]).await;
    client.expect("echo").await;
}

#[tokio::test(start_paused = true)]
async fn a_reply_keeps_its_memory_until_it_has_been_sent() {
    let pool = Budget::for_replies(10_000);
    let drawn_on = pool.clone();
    let rig = Rig::over(Door::from_fn(move |_| {
        let pool = drawn_on.clone();
        Box::pin(async move {
            let lease = pool.take(10_000).await;
            Ok(Some(Reply { body: Bytes::from(vec![1u8; 10_000]), lease, ..Reply::default() }))
        })
    }));
    let mut client = rig.connect_through(100);
    client.send(request("echo")).await;
    settle().await;
    assert_eq!(pool.bytes_in_use(), 10_000);
    assert_eq!(client.receive().await.1.len(), 10_000);
    settle().await;
    assert_eq!(pool.bytes_in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_would_wait_for_others_holds_no_memory_while_it_does() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let large = request(&format!("echo{}", " ".repeat(50_000)));
    client.send([request("gate"), large.clone()].concat()).await;
    settle().await;
    let small = request("gate").len() - 4;
    assert_eq!((rig.script.started(), rig.requests.bytes_in_use()), (1, small));
    let mut producer = rig.connect();
    let produced = request_of(Api::PRODUCE, 9, 7, format!("echo{}", " ".repeat(50_000)).as_bytes());
    producer.send([request("gate"), produced].concat()).await;
    settle().await;
    assert_eq!(rig.script.started(), 3, "producers are pipelined");
    rig.script.gate.add_permits(2);
    client.expect("gate").await;
    assert_eq!(client.receive().await.1.len(), 50_004);
    assert_eq!(rig.requests.bytes_in_use(), 0);
}
