//! Frames of all sizes, valid and invalid, fast and slow.

use tokio::time::Instant;

use super::*;

/// A request whose body is padded to `bytes`.
fn padded(line: &str, bytes: usize) -> Vec<u8> {
    request(&format!("{line}{}", " ".repeat(bytes.saturating_sub(line.len()))))
}

#[tokio::test(start_paused = true)]
async fn a_request_may_come_one_byte_at_a_time() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for line in ["echo a", "echo b"] {
        for byte in request(line) {
            client.send([byte]).await;
            settle().await;
        }
        client.expect(line).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_impossible_length_closes_after_the_replies_before_it() {
    for length in [-1, 0, 3, 7, i32::MIN, i32::MAX, (1 << 20) + 1] {
        let rig = Rig::new();
        let mut client = rig.connect();
        client.send([request("sleep 100"), length.to_be_bytes().to_vec(), request("echo")].concat()).await;
        client.expect("sleep 100").await;
        assert!(matches!(client.expect_end().await, CloseReason::Refused(_)), "length {length}");
        assert_eq!((rig.script.started(), rig.traffic.frames_refused()), (1, 1), "length {length}");
        assert_eq!((rig.requests.bytes_in_use(), rig.traffic.connections_open()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_frame_is_served() {
    let rig = Rig::with(
        Settings { frame_bytes_max: kernel::units::ByteSize(50_000), ..Settings::default() },
        1 << 20,
    );
    let mut client = rig.connect();
    let header_bytes = request("").len() - 4;
    client.send(padded("echo", 50_000 - header_bytes)).await;
    assert_eq!(client.receive().await.1.len(), 50_000 - header_bytes);
    client.send(padded("echo", 50_001 - header_bytes)).await;
    assert!(matches!(client.expect_end().await, CloseReason::Refused(_)));
}

#[tokio::test(start_paused = true)]
async fn a_large_frame_holds_request_memory_while_its_call_is_under_way() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let large = padded("gate", 500_000);
    client.send([request("echo"), large.clone(), request("echo")].concat()).await;
    client.expect("echo").await;
    settle().await;
    assert_eq!(rig.requests.bytes_in_use(), large.len() - 4);
    rig.script.gate.add_permits(1);
    let (_, body) = client.receive().await;
    assert!(large.ends_with(&body) && body.len() == 500_000);
    client.expect("echo").await;
    assert_eq!(rig.requests.bytes_in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sender_is_not_blamed_for_waiting_for_request_memory() {
    let rig = Rig::with(Settings::default(), 100_000);
    let (mut first, mut second) = (rig.connect(), rig.connect());
    first.send(padded("gate 1", 80_000)).await;
    settle().await;
    second.send(padded("gate 2", 80_000)).await;
    sleep(HOUR).await;
    assert_eq!(rig.script.started(), 1);
    rig.script.gate.add_permits(2);
    assert!(first.receive().await.1.starts_with(b"gate 1"));
    assert!(second.receive().await.1.starts_with(b"gate 2"));
    assert_eq!(rig.requests.bytes_in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_sender_is_closed_after_frame_timeout() {
    for (sent, whole) in [(5, 100), (20_000, 100_000)] {
        let rig = Rig::new();
        let mut client = rig.connect();
        // Time before the first byte does not count.
        sleep(HOUR).await;
        let start = Instant::now();
        client.send(&padded("echo", whole)[..sent]).await;
        assert_eq!(client.expect_end().await, CloseReason::Slow);
        let waited = start.elapsed();
        assert!((30..32).contains(&waited.as_secs()), "{sent} of {whole} bytes: {waited:?}");
        assert_eq!((rig.script.started(), rig.requests.bytes_in_use()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_prolong_the_time() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let start = Instant::now();
    for byte in request("echo").into_iter().take(4) {
        client.send([byte]).await;
        sleep(Duration::from_secs(9)).await;
    }
    assert_eq!(client.expect_end().await, CloseReason::Slow);
    assert!(start.elapsed() < Duration::from_secs(38));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for _ in 0..3 {
        sleep(HOUR).await;
        client.send(request("echo")).await;
        client.expect("echo").await;
    }
    assert_eq!(rig.traffic.connections_open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_random_stream_is_answered_or_closed() {
    // A linear congruential generator: the same bytes in each run.
    let mut state = 1u64;
    for round in 0..200 {
        let rig = Rig::new();
        let mut client = rig.connect();
        let mut bytes = padded("echo", 50 * round);
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] ^= (state >> 24) as u8;
        }
        client.send(bytes).await;
        client.pipe.shutdown().await.unwrap();
        let mut answer = Vec::new();
        timeout(HOUR, client.pipe.read_to_end(&mut answer)).await.unwrap().unwrap();
        let end = timeout(HOUR, client.served).await.unwrap().unwrap();
        assert!(!matches!(end, CloseReason::Panicked(_)), "round {round}: {end}");
        assert_eq!(rig.requests.bytes_in_use(), 0, "round {round}: {end}");
    }
}
