//! Fetch sessions of several services on one connection.

use super::*;

/// Fetch 13 on this connection.
fn fetch(session: &Arc<Session>, id: i64, epoch: i64, topics: &[TopicId]) -> Call {
    let topic = |id: &TopicId| Value::Struct(vec![("TopicId", Value::Uuid(id.0))]);
    let topics = topics.iter().map(topic).collect();
    let fields = vec![
        ("SessionId", Value::Int(id)),
        ("SessionEpoch", Value::Int(epoch)),
        ("Topics", Value::Array(topics)),
    ];
    let mut call = request(Api::FETCH, 13, fields);
    call.session = Arc::clone(session);
    call
}

/// The session ids of [`FakeService::new`].
const LOCAL: i64 = 100;
const LEGACY: i64 = 200;

#[tokio::test]
async fn an_incremental_fetch_reaches_the_service_that_holds_its_session() {
    let route = route(vec![rule(&[], &[], &["legacy.*"], "legacy")]);
    let (session, other) = (Session::for_tests(), Session::for_tests());
    assert_eq!(
        service_of(&route, fetch(&session, LEGACY, 1, &[])).await,
        "local",
        "nobody is known to hold it"
    );
    assert_eq!(service_of(&route, fetch(&session, 0, 0, &[ORDERS])).await, "local");
    assert_eq!(service_of(&route, fetch(&session, 0, 0, &[LEGACY_ORDERS])).await, "legacy");
    for epoch in 1..3 {
        assert_eq!(service_of(&route, fetch(&session, LEGACY, epoch, &[])).await, "legacy");
        assert_eq!(service_of(&route, fetch(&session, LOCAL, epoch, &[])).await, "local");
        assert_eq!(service_of(&route, fetch(&session, LEGACY, epoch, &[LEGACY_ORDERS])).await, "legacy");
    }
    let forgetting = fetch(&session, LEGACY, 3, &[UNKNOWN]);
    assert_eq!(service_of(&route, forgetting).await, "legacy", "an id that nobody knows decides nothing");
    assert_eq!(
        service_of(&route, fetch(&session, LEGACY, -1, &[])).await,
        "legacy",
        "it is closed where it is"
    );
    assert_eq!(service_of(&route, fetch(&other, LEGACY, 1, &[])).await, "local", "another connection");
}

#[tokio::test]
async fn topics_of_another_service_do_not_get_into_a_session() {
    let route = route(vec![rule(&[], &[], &["legacy.*"], "legacy")]);
    let session = Session::for_tests();
    service_of(&route, fetch(&session, 0, 0, &[LEGACY_ORDERS])).await;
    let reply = reply_of(&route, fetch(&session, LEGACY, 1, &[ORDERS])).await;
    let message = Api::FETCH.message(Direction::Response).unwrap();
    let response = value::decode(message, 13, &reply.body).unwrap();
    let invalid_request = Value::Int(i64::from(ErrorCode::InvalidRequest.code()));
    assert_eq!(response.get("ErrorCode"), Some(&invalid_request));
    // The client then closes the session, and requests all of its topics.
    assert_eq!(service_of(&route, fetch(&session, LEGACY, 0, &[ORDERS])).await, "local");
}
