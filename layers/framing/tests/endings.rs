//! How connections end, and that nobody else notices.

use super::super::Stranger;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_may_close_between_requests_but_not_within() {
    let rig = Rig::new();
    assert_eq!(closing_after(&rig, b"").await, End::Closed);
    assert_eq!(closing_after(&rig, &request("echo")[..2]).await, End::CutShort);
    assert_eq!(closing_after(&rig, &request("echo")[..9]).await, End::CutShort);
    assert_eq!(closing_after(&rig, &request(&"echo ".repeat(10_000))[..40_000]).await, End::CutShort);
    assert_eq!((rig.traffic.connections_open(), rig.requests.bytes_in_use()), (0, 0));
}

async fn closing_after(rig: &Rig, bytes: &[u8]) -> End {
    let mut client = rig.connect();
    client.send(bytes).await;
    drop(client.pipe);
    timeout(HOUR, client.served).await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_the_client_stopped_sending_is_done_and_answered() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send([request("sleep 500"), request("echo")].concat()).await;
    client.pipe.shutdown().await.unwrap();
    client.expect("sleep 500").await;
    client.expect("echo").await;
    assert_eq!(client.expect_end().await, End::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_hangup_comes_after_the_replies_before_it() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(["sleep 100", "hangup", "gate"].map(request).concat()).await;
    client.expect("sleep 100").await;
    let end = client.expect_end().await;
    assert_eq!(end, End::HungUp("Metadata 1: as the script says".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_last_reply_is_sent_and_then_the_connection_closes() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(["close", "gate"].map(request).concat()).await;
    client.expect("close").await;
    assert_eq!(client.expect_end().await, End::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_panic_closes_its_connection_and_no_other() {
    let rig = Rig::new();
    let mut bystander = rig.connect();
    for (count, line) in [(1, "panic"), (2, "panic before the future")] {
        let mut client = rig.connect();
        client.send(["sleep 100", line, "echo"].map(request).concat()).await;
        client.expect("sleep 100").await;
        assert!(matches!(client.expect_end().await, End::Panicked(_)));
        assert_eq!(rig.traffic.panics(), count);
        bystander.send(request("echo")).await;
        bystander.expect("echo").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_under_way_and_reads_no_more() {
    let rig = Rig::new();
    let (mut client, idle) = (rig.connect(), rig.connect());
    client.send([request("sleep 500"), request("echo"), request("echo")[..5].to_vec()].concat()).await;
    settle().await;
    rig.signal.start();
    settle().await;
    client.send(&request("echo")[5..]).await;
    client.expect("sleep 500").await;
    client.expect("echo").await;
    assert_eq!(client.expect_end().await, End::Drained);
    assert_eq!(idle.expect_end().await, End::Drained);
    assert_eq!(rig.connect().expect_end().await, End::Drained);
    assert_eq!(rig.script.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_known_by_its_first_bytes() {
    let rig = Rig::new();
    for (bytes, stranger) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], Stranger::Tls),
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], Stranger::Http),
        (&b"POST /"[..], Stranger::Http),
    ] {
        let mut client = rig.connect();
        client.send(bytes).await;
        assert_eq!(client.expect_end().await, End::Stranger(stranger));
    }
    // Later in a connection the same bytes are a length like any other.
    let mut client = rig.connect();
    client.send([request("echo"), b"GET / HTTP/1.1\r\n".to_vec()].concat()).await;
    client.expect("echo").await;
    assert!(matches!(client.expect_end().await, End::Refused(_)));
}

#[tokio::test(start_paused = true)]
async fn what_is_read_and_written_is_counted() {
    use kernel::metrics::{Collect, Page};

    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(request("echo")).await;
    client.expect("echo").await;
    settle().await;
    let mut page = Page::default();
    rig.traffic.collect(&mut page);
    let page = page.into_text();
    let received = format!("yagura_received_bytes_total {}\n", request("echo").len());
    for line in [
        received.as_str(),
        "yagura_sent_bytes_total 12\n",
        "yagura_connections_open 1\n",
        "yagura_panics_total 0\n",
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
}

#[test]
fn the_documented_settings_are_the_defaults() {
    let documented: Settings = crate::doc_toml::layer(include_str!("../mod.rs"), "framing");
    assert_eq!(documented, Settings::default());
    assert!(toml::from_str::<Settings>("max_inflight = 1").is_err(), "a name that is not there is an error");
}
