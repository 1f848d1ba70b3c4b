//! Which APIs and versions are served, refused and answered.

use std::sync::atomic::AtomicI16;

use super::*;

#[tokio::test(start_paused = true)]
async fn api_versions_of_an_unknown_version_is_told_the_known_ones() {
    for version in [5, 99, i16::MAX, -1, i16::MIN] {
        let rig = Rig::new();
        let mut client = rig.connect();
        // The header of a future version may be anything.
        let mut frame = request_of(Api::API_VERSIONS, 0, 0x0102_0304, b"");
        frame[6..8].copy_from_slice(&version.to_be_bytes());
        frame[12..].fill(0xff);
        client.send(frame).await;
        let (correlation_id, body) = client.receive().await;
        assert_eq!(correlation_id, 0x0102_0304);
        // Error 35, one entry: ApiVersions from 0 to 4.
        assert_eq!(body, [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
        client.send(request("echo")).await;
        client.expect("echo").await;
        assert_eq!(rig.script.started(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_api_or_version_closes_after_the_replies_before_it() {
    let unknown = [84, 10_000, i16::MAX, -1, Api::FETCH.0].map(|key| (Api(key), 0));
    let unserved = [(Api::METADATA, 14), (Api::METADATA, -1), (Api::PRODUCE, 2), (Api::PRODUCE, i16::MAX)];
    for (api, version) in unknown.into_iter().chain(unserved) {
        let rig = Rig::new();
        let mut client = rig.connect();
        let refused = request_of(api, version, 1, b"body");
        client.send([request("sleep 100"), refused, request("echo")].concat()).await;
        client.expect("sleep 100").await;
        let end = client.expect_end().await;
        assert!(
            matches!(&end, CloseReason::Refused(why) if why.contains("client \"test\"")),
            "{api} {version}: {end}"
        );
        assert_eq!((rig.script.started(), rig.traffic.frames_refused()), (1, 1), "{api} {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_cut_short_closes() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let mut frame = request("echo");
    // The client id's length exceeds the frame.
    frame[12..14].copy_from_slice(&1000i16.to_be_bytes());
    client.send(frame).await;
    assert!(matches!(client.expect_end().await, CloseReason::Refused(_)));
    assert_eq!(rig.script.started(), 0);
}

/// ApiVersions 3 with these names.
fn introduction(name: &str, version: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for text in [name, version] {
        body.push(text.len() as u8 + 1);
        body.extend(text.as_bytes());
    }
    body.push(0);
    request_of(Api::API_VERSIONS, 3, 1, &body)
}

#[tokio::test(start_paused = true)]
async fn the_clients_software_is_kept_in_the_session() {
    let rig = Rig::over(Door::from_fn(|call| {
        let said = call.session.software().map(|software| format!("{} {}", software.name, software.version));
        Box::pin(async move { Ok(Some(Reply::new(said.unwrap_or_default()))) })
    }));
    let mut client = rig.connect();
    client.send(request("who am I?")).await;
    client.expect("").await;
    client.send(introduction("apache-kafka-java", "4.1.1")).await;
    let (_, body) = client.receive().await;
    assert_eq!(body[..2], [0, 0], "the stack itself answers ApiVersions, without an error");
    client.send(request("who am I?")).await;
    client.expect("apache-kafka-java 4.1.1").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_served_what_it_was_last_told() {
    let newest = Arc::new(AtomicI16::new(1));
    let rig = Rig::offering({
        let newest = Arc::clone(&newest);
        move || served(newest.load(Ordering::SeqCst))
    });
    let metadata = |version| request_of(Api::METADATA, version, 7, b"echo");
    let (mut client, mut early) = (rig.connect(), rig.connect());
    for connected in [&mut client, &mut early] {
        connected.send(metadata(1)).await;
        connected.expect("echo").await;
    }
    newest.store(2, Ordering::SeqCst);
    early.send(metadata(2)).await;
    let end = early.expect_end().await;
    assert!(matches!(&end, CloseReason::Refused(why) if why.contains("versions 0 to 1 are served")), "{end}");
    client.send(introduction("a-client", "1")).await;
    client.receive().await;
    client.send(metadata(2)).await;
    client.expect("echo").await;
    // What was served is no longer served, to a client that has been told so.
    newest.store(0, Ordering::SeqCst);
    client.send(metadata(2)).await;
    client.expect("echo").await;
    client.send(introduction("a-client", "1")).await;
    client.receive().await;
    client.send(metadata(2)).await;
    let end = client.expect_end().await;
    assert!(matches!(&end, CloseReason::Refused(why) if why.contains("versions 0 to 0 are served")), "{end}");
}

#[tokio::test(start_paused = true)]
async fn impossible_software_is_refused_and_a_broken_introduction_closes() {
    let rig = Rig::new();
    let mut client = rig.connect();
    for (name, version) in [("", "1"), ("a b", "1"), ("a", "1.")] {
        client.send(introduction(name, version)).await;
        let (_, body) = client.receive().await;
        assert_eq!(body[..2], 42i16.to_be_bytes(), "INVALID_REQUEST for {name:?} {version:?}");
    }
    assert_eq!(rig.script.started(), 0);
    // A name that is longer than the body.
    client.send(request_of(Api::API_VERSIONS, 3, 1, &[100, b'a'])).await;
    assert!(matches!(client.expect_end().await, CloseReason::HungUp(_)));
}
