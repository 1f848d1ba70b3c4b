//! How connections end, without effect on other connections.

use kernel::layer::{Framer, RegisterLayer};
use kernel::settings::{NodeLimits, SettingFault};
use kernel::units::ByteSize;

use super::super::ForeignProtocol;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_may_close_between_requests_but_not_within() {
    let rig = Rig::new();
    assert_eq!(closing_after(&rig, b"").await, CloseReason::Closed);
    assert_eq!(closing_after(&rig, &request("echo")[..2]).await, CloseReason::CutShort);
    assert_eq!(closing_after(&rig, &request("echo")[..9]).await, CloseReason::CutShort);
    assert_eq!(closing_after(&rig, &request(&"echo ".repeat(10_000))[..40_000]).await, CloseReason::CutShort);
    assert_eq!((rig.traffic.connections_open(), rig.requests.bytes_in_use()), (0, 0));
}

async fn closing_after(rig: &Rig, bytes: &[u8]) -> CloseReason {
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
    assert_eq!(client.expect_end().await, CloseReason::Closed);
}

/// Too many calls are in flight, or the next one has to wait for those before it.
#[tokio::test(start_paused = true)]
async fn a_client_that_goes_is_noticed_while_its_next_request_may_not_be_read() {
    for (max_in_flight, next) in [(1, "echo".to_owned()), (16, format!("echo{}", " ".repeat(5_000)))] {
        let rig = Rig::with(Settings { max_in_flight, ..Settings::default() }, 1 << 20);
        let mut client = rig.connect();
        client.send([request("park"), request(&next)].concat()).await;
        settle().await;
        assert_eq!((rig.script.started(), rig.script.ended.lock().len()), (1, 0));
        drop(client.pipe);
        timeout(HOUR, client.served).await.unwrap().unwrap();
        assert_eq!(rig.script.ended.lock()[0], "park");
        assert_eq!(rig.requests.bytes_in_use(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_is_noticed_while_its_next_request_waits_for_memory() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(request("park")).await;
    settle().await;
    let mut leases = Vec::new();
    for bytes in [1 << 10, 1] {
        while let Some(lease) = rig.requests.try_take(bytes) {
            leases.push(lease);
        }
    }
    client.send(request(&format!("echo{}", " ".repeat(1_000)))).await;
    settle().await;
    assert_eq!((rig.script.started(), rig.script.ended.lock().len()), (1, 0));
    drop(client.pipe);
    settle().await;
    assert_eq!(*rig.script.ended.lock(), ["park"]);
    drop(leases);
    timeout(HOUR, client.served).await.unwrap().unwrap();
    assert_eq!(rig.requests.bytes_in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hangup_comes_after_the_replies_before_it() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(["sleep 100", "hangup", "gate"].map(request).concat()).await;
    client.expect("sleep 100").await;
    let end = client.expect_end().await;
    assert_eq!(end, CloseReason::HungUp("Metadata 1: as the script says".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_last_reply_is_sent_and_then_the_connection_closes() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(["close", "gate"].map(request).concat()).await;
    client.expect("close").await;
    assert_eq!(client.expect_end().await, CloseReason::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_panic_closes_its_connection_and_no_other() {
    let rig = Rig::new();
    let mut bystander = rig.connect();
    for (count, line) in [(1, "panic"), (2, "panic before the future")] {
        let mut client = rig.connect();
        client.send(["sleep 100", line, "echo"].map(request).concat()).await;
        client.expect("sleep 100").await;
        assert!(matches!(client.expect_end().await, CloseReason::Panicked(_)));
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
    assert_eq!(client.expect_end().await, CloseReason::Drained);
    assert_eq!(idle.expect_end().await, CloseReason::Drained);
    assert_eq!(rig.connect().expect_end().await, CloseReason::Drained);
    assert_eq!(rig.script.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_is_noticed_while_its_broker_drains() {
    let rig = Rig::new();
    let mut client = rig.connect();
    client.send(request("park")).await;
    settle().await;
    rig.signal.start();
    settle().await;
    assert_eq!(rig.script.ended.lock().len(), 0);
    drop(client.pipe);
    timeout(HOUR, client.served).await.unwrap().unwrap();
    assert_eq!(*rig.script.ended.lock(), ["park"]);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_protocol_is_known_by_its_first_bytes() {
    let rig = Rig::new();
    for (bytes, protocol) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], ForeignProtocol::Tls),
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], ForeignProtocol::Http),
        (&b"POST /"[..], ForeignProtocol::Http),
    ] {
        let mut client = rig.connect();
        client.send(bytes).await;
        assert_eq!(client.expect_end().await, CloseReason::ForeignProtocol(protocol));
    }
    // Later in a connection the same bytes are treated as a length.
    let mut client = rig.connect();
    client.send([request("echo"), b"GET / HTTP/1.1\r\n".to_vec()].concat()).await;
    client.expect("echo").await;
    assert!(matches!(client.expect_end().await, CloseReason::Refused(_)));
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

#[test]
fn a_frame_that_the_request_memory_cannot_hold_is_a_fault_if_it_was_asked_for() {
    let node = NodeLimits { request_memory: ByteSize(1 << 20), reply_memory: ByteSize(1 << 30) };
    let settings = |bytes| Settings { frame_bytes_max: ByteSize(bytes), ..Settings::default() };
    assert!(Framing::check(&settings(7 << 17), &node).is_empty());
    assert_eq!(Framing::check(&settings((7 << 17) + 1), &node).len(), 1);
    let faults = Framing::check(&settings(2 << 20), &node);
    let message = "2MiB is more than seven eighths of node.request_memory (1MiB), so a frame of that size could never be \
                   read; lower the one or raise the other";
    let fault =
        SettingFault { setting: "frame_bytes_max", message: message.to_owned(), concerns_default: false };
    assert_eq!(faults, [fault]);
}

#[tokio::test(start_paused = true)]
async fn the_reason_is_told_in_words() {
    let framing: Arc<dyn Framer> = Rig::new().framing;
    let (pipe, server) = tokio::io::duplex(100);
    drop(pipe);
    let (_signal, drain) = drain();
    let address = SocketAddr::from(([127, 0, 0, 1], 9092));
    let advertised = HostPort { host: "localhost".to_owned(), port: 9092 };
    let session = Session::new(1, address, address, Arc::from("test"), advertised, drain);
    let connection = Connection { stream: Box::new(server), session, guards: Vec::new() };
    assert_eq!(framing.serve(connection).await, "the client closed it");
}
