//! Frames of all sizes, valid and invalid, fast and slow.

use tokio::time::Instant;

use super::*;

/// Framing whose request memory holds one of its largest frames, and little beside it.
fn for_one_large() -> Rig {
    let settings = Settings { frame_bytes_max: kernel::units::ByteSize(80_100), ..Settings::default() };
    Rig::with(settings, 100_000)
}

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
    let rig = for_one_large();
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
async fn a_sender_that_does_not_move_is_closed_when_others_wait_for_its_memory() {
    let rig = for_one_large();
    let mut slow = rig.connect();
    let (large, soon) = (padded("echo", 80_000), Duration::from_secs(2));
    slow.send(&large[..20_000]).await;
    sleep(HOUR).await;
    assert!(!slow.served.is_finished(), "nobody waits");
    let mut next = rig.connect();
    let start = Instant::now();
    next.send(&large).await;
    assert_eq!(next.receive().await.1.len(), 80_000);
    assert!(start.elapsed() < Duration::from_secs(10) + soon, "{:?}", start.elapsed());
    assert_eq!(slow.expect_end().await, CloseReason::Stalled);
    assert_eq!(rig.requests.bytes_in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_is_not_progress() {
    let rig = for_one_large();
    let (mut slow, mut next) = (rig.connect(), rig.connect());
    let large = padded("echo", 80_000);
    slow.send(&large[..20_000]).await;
    settle().await;
    next.send(&large).await;
    for byte in &large[20_000..20_012] {
        slow.send([*byte]).await;
        sleep(Duration::from_millis(1_100)).await;
        if slow.served.is_finished() {
            break;
        }
    }
    assert_eq!(slow.expect_end().await, CloseReason::Stalled);
    assert_eq!(next.receive().await.1.len(), 80_000);
}

#[tokio::test(start_paused = true)]
async fn uploads_that_stall_hold_up_neither_small_requests_nor_each_other_for_ever() {
    let megabyte = 1 << 20;
    let settings = Settings { frame_bytes_max: kernel::units::ByteSize(10 << 20), ..Settings::default() };
    let rig = Rig::with(settings, 24 << 20);
    let large = padded("echo", 9 * megabyte);
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let mut client = rig.connect();
        client.send(&large[..9 * megabyte]).await;
        stalled.push(client);
    }
    settle().await;
    let mut small = rig.connect();
    small.send(padded("echo", megabyte / 2)).await;
    assert_eq!(timeout(Duration::from_secs(1), small.receive()).await.unwrap().1.len(), megabyte / 2);
    let mut honest = rig.connect();
    honest.send(&large).await;
    assert_eq!(timeout(Duration::from_secs(30), honest.receive()).await.unwrap().1.len(), 9 * megabyte);
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
