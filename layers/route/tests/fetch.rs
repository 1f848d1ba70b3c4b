//! Fetch of several services: waiting, sessions, and parts that are kept.

use super::broker::{Asked, Broker};
use super::*;

const VERSION: i16 = 13;
const WAIT_MS: i64 = 500;

/// A client's connection to a route over two brokers, with its fetch session.
struct Client {
    route: Route,
    local: Broker,
    legacy: Broker,
    session: Arc<Session>,
    id: i64,
    epoch: i64,
    isolation: i64,
}

/// What a fetch brought: records by topic id.
type News = Vec<(Uuid, Vec<u8>)>;

impl Client {
    fn new() -> Self {
        let (local, legacy) = (Broker::new("local"), Broker::new("legacy"));
        let rules = vec![rule(&[], &[], &["legacy.*"], "legacy")];
        let settings = Settings { default: "local".to_owned(), rules };
        let route = Route::new(&settings, vec![local.named(), legacy.named()]).unwrap();
        Self { route, local, legacy, session: Session::for_tests(), id: 0, epoch: 0, isolation: 0 }
    }

    fn call(&self, topics: &[TopicId], forgotten: &[TopicId], min_bytes: i64) -> Call {
        let topic = |id: &TopicId| {
            let partition = Value::Struct(vec![("PartitionMaxBytes", Value::Int(1 << 20))]);
            Value::Struct(vec![("TopicId", Value::Uuid(id.0)), ("Partitions", Value::Array(vec![partition]))])
        };
        let forget = |id: &TopicId| {
            let partitions = Value::Array(vec![Value::Int(0)]);
            Value::Struct(vec![("TopicId", Value::Uuid(id.0)), ("Partitions", partitions)])
        };
        let fields = vec![
            ("MaxWaitMs", Value::Int(WAIT_MS)),
            ("MinBytes", Value::Int(min_bytes)),
            ("MaxBytes", Value::Int(1 << 20)),
            ("IsolationLevel", Value::Int(self.isolation)),
            ("SessionId", Value::Int(self.id)),
            ("SessionEpoch", Value::Int(self.epoch)),
            ("Topics", Value::Array(topics.iter().map(topic).collect())),
            ("ForgottenTopicsData", Value::Array(forgotten.iter().map(forget).collect())),
        ];
        let mut call = request(Api::FETCH, VERSION, fields);
        call.session = Arc::clone(&self.session);
        call
    }

    async fn ask(&mut self, topics: &[TopicId], forgotten: &[TopicId], min_bytes: i64) -> Result<News, i64> {
        let reply = reply_of(&self.route, self.call(topics, forgotten, min_bytes)).await;
        let message = Api::FETCH.message(Direction::Response).unwrap();
        let response = value::decode(message, VERSION, &sent(reply)).unwrap();
        let int = |field| response.get(field).unwrap().as_int().unwrap();
        if int("ErrorCode") != 0 {
            return Err(int("ErrorCode"));
        }
        if self.epoch >= 0 {
            self.id = int("SessionId");
            self.epoch += 1;
        }
        let row = |topic: &Value| {
            let id = match topic.get("TopicId") {
                Some(Value::Uuid(id)) => *id,
                other => panic!("{other:?}"),
            };
            let partitions = topic.get("Partitions").unwrap().elements().iter();
            let records = partitions.flat_map(|partition| match partition.get("Records") {
                Some(Value::Bytes(records)) => records.clone(),
                _ => Vec::new(),
            });
            (id, records.collect::<Vec<u8>>())
        };
        Ok(response.get("Responses").unwrap().elements().iter().map(row).collect())
    }

    async fn fetch(&mut self, topics: &[TopicId]) -> Result<News, i64> {
        self.ask(topics, &[], 1).await
    }

    /// A session with a topic of each service, whose services have been asked at once and then to wait.
    async fn opened() -> Self {
        let mut client = Self::new();
        let news = client.fetch(&[LEGACY_ORDERS, ORDERS]).await.unwrap();
        assert_eq!(
            news,
            [(LEGACY_ORDERS.0, Vec::new()), (ORDERS.0, Vec::new())],
            "all, in the request's order"
        );
        assert_ne!(client.id, 0);
        for broker in [&client.local, &client.legacy] {
            let epochs: Vec<_> = broker.take_asked().iter().map(epoch).collect();
            assert_eq!(epochs, [0, 1], "everything at once, and then what changes");
        }
        client
    }
}

/// The body as it is sent, with the records in their places.
fn sent(mut reply: Reply) -> Vec<u8> {
    let header = kernel::Header { api: Api::FETCH, version: VERSION, correlation_id: 1, client_id: None };
    let (parts, _) = kernel::parts::of(&header, &mut reply).unwrap();
    let bytes = parts.into_iter().flat_map(|part| match part {
        kernel::parts::Part::Bytes(bytes) => bytes,
        kernel::parts::Part::Later(later) => panic!("{later:?}"),
    });
    bytes.collect()
}

fn epoch(asked: &Asked) -> i64 {
    asked.request.get("SessionEpoch").unwrap().as_int().unwrap()
}

fn topics(asked: &Asked) -> usize {
    asked.request.get("Topics").unwrap().elements().len()
}

fn news(id: TopicId, records: &[u8]) -> News {
    vec![(id.0, records.to_vec())]
}

#[tokio::test(start_paused = true)]
async fn a_full_fetch_has_all_partitions_and_waits_once() {
    let began = tokio::time::Instant::now();
    Client::opened().await;
    assert_eq!(began.elapsed().as_millis() as i64, WAIT_MS);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_waits_is_kept_for_the_next_fetch() {
    let mut client = Client::opened().await;
    client.legacy.append(LEGACY_ORDERS, b"one");
    assert_eq!(client.fetch(&[]).await, Ok(news(LEGACY_ORDERS, b"one")));
    assert_eq!((client.local.take_asked().len(), client.legacy.take_asked().len()), (1, 1));
    // The position in the one is new; the other is not asked again.
    client.legacy.append(LEGACY_ORDERS, b"two");
    assert_eq!(client.fetch(&[LEGACY_ORDERS]).await, Ok(news(LEGACY_ORDERS, b"two")));
    assert_eq!((client.local.take_asked().len(), client.legacy.take_asked().len()), (0, 1));
    // What came to the kept part between two fetches is there at once.
    client.local.append(ORDERS, b"three");
    let began = tokio::time::Instant::now();
    assert_eq!(client.fetch(&[LEGACY_ORDERS]).await, Ok(news(ORDERS, b"three")));
    assert_eq!(began.elapsed().as_millis(), 0);
    assert_eq!(client.local.take_asked().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kept_part_that_changes_is_dropped_and_asked_for_everything() {
    let mut client = Client::opened().await;
    client.legacy.append(LEGACY_ORDERS, b"one");
    client.fetch(&[]).await.unwrap();
    let kept = client.local.take_asked();
    assert!(!*kept[0].is_dropped.lock());
    client.legacy.append(LEGACY_ORDERS, b"two");
    client.fetch(&[ORDERS, LEGACY_ORDERS]).await.unwrap();
    assert!(*kept[0].is_dropped.lock());
    let asked = client.local.take_asked();
    let id = asked[0].request.get("SessionId").unwrap().as_int().unwrap();
    assert_eq!((asked.len(), epoch(&asked[0]), topics(&asked[0])), (1, 0, 1), "a new session");
    assert_ne!(id, 0, "which closes the old one");
}

#[tokio::test(start_paused = true)]
async fn a_kept_part_of_another_isolation_level_is_dropped() {
    let mut client = Client::opened().await;
    client.legacy.append(LEGACY_ORDERS, b"one");
    client.fetch(&[]).await.unwrap();
    let kept = client.local.take_asked();
    client.isolation = 1;
    client.legacy.append(LEGACY_ORDERS, b"two");
    client.fetch(&[LEGACY_ORDERS]).await.unwrap();
    assert!(*kept[0].is_dropped.lock());
    let asked = client.local.take_asked();
    let level = asked[0].request.get("IsolationLevel").unwrap().as_int();
    assert_eq!((asked.len(), level, topics(&asked[0])), (1, Some(1), 1), "for everything, as the new reader");
}

#[tokio::test(start_paused = true)]
async fn a_kept_part_whose_time_is_over_is_asked_for_the_rest_of_it() {
    let mut client = Client::opened().await;
    client.legacy.append(LEGACY_ORDERS, b"one");
    client.fetch(&[]).await.unwrap();
    client.local.take_asked();
    tokio::time::advance(std::time::Duration::from_millis(WAIT_MS as u64 * 2)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(client.fetch(&[LEGACY_ORDERS]).await, Ok(Vec::new()));
    assert_eq!(began.elapsed().as_millis() as i64, WAIT_MS);
    let asked = client.local.take_asked();
    assert_eq!((asked.len(), topics(&asked[0])), (1, 0), "in the session that goes on");
    assert!(epoch(&asked[0]) > 1);
}

#[tokio::test(start_paused = true)]
async fn parts_have_enough_together() {
    let mut client = Client::opened().await;
    client.legacy.append(LEGACY_ORDERS, b"12345");
    client.local.append(ORDERS, b"12345");
    let began = tokio::time::Instant::now();
    let news = client.ask(&[], &[], 10).await.unwrap();
    assert_eq!((news.len(), began.elapsed().as_millis()), (2, 0));
    client.legacy.append(LEGACY_ORDERS, b"12345");
    let news = client.ask(&[LEGACY_ORDERS], &[], 10).await.unwrap();
    assert_eq!(
        (news.len(), began.elapsed().as_millis() as i64),
        (1, WAIT_MS),
        "what there is when time is over"
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_lost_its_session_is_asked_for_everything() {
    let mut client = Client::opened().await;
    client.legacy.state.lock().sessions.clear();
    client.legacy.append(LEGACY_ORDERS, b"one");
    assert_eq!(client.fetch(&[]).await, Ok(news(LEGACY_ORDERS, b"one")));
    let epochs: Vec<_> = client.legacy.take_asked().iter().map(epoch).collect();
    assert_eq!(epochs, [1 + 1, 0]);
    client.legacy.append(LEGACY_ORDERS, b"two");
    assert_eq!(client.fetch(&[LEGACY_ORDERS]).await, Ok(news(LEGACY_ORDERS, b"two")));
}

#[tokio::test(start_paused = true)]
async fn session_ids_and_epochs_are_checked_as_kafka_checks_them() {
    let mut client = Client::opened().await;
    client.epoch += 1;
    assert_eq!(client.fetch(&[]).await, Err(71), "INVALID_FETCH_SESSION_EPOCH");
    client.epoch -= 1;
    client.local.append(ORDERS, b"one");
    assert!(client.fetch(&[]).await.is_ok(), "it goes on at its epoch");
    let (id, epoch) = (client.id, client.epoch);
    client.id += 1;
    assert_eq!(client.fetch(&[]).await, Err(70), "FETCH_SESSION_ID_NOT_FOUND");
    (client.id, client.epoch) = (id, -1);
    assert_eq!(client.fetch(&[]).await, Ok(Vec::new()), "closed");
    client.epoch = epoch;
    assert_eq!(client.fetch(&[]).await, Err(70));
    assert!(client.local.state.lock().sessions.is_empty() && client.legacy.state.lock().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_may_grow_into_another_service_and_out_of_it() {
    let mut client = Client::new();
    client.fetch(&[ORDERS]).await.unwrap();
    assert_eq!(client.legacy.take_asked().len(), 0);
    client.legacy.append(LEGACY_ORDERS, b"one");
    assert_eq!(client.fetch(&[LEGACY_ORDERS]).await, Ok(news(LEGACY_ORDERS, b"one")));
    client.local.append(ORDERS, b"two");
    assert_eq!(client.ask(&[], &[LEGACY_ORDERS], 1).await, Ok(news(ORDERS, b"two")));
    assert!(client.legacy.state.lock().sessions.is_empty(), "its session is closed");
    assert_eq!(client.ask(&[], &[ORDERS], 1).await, Ok(Vec::new()));
    assert_eq!(client.id, 0, "a session of nothing is over");
}

#[tokio::test(start_paused = true)]
async fn a_new_session_closes_the_one_that_it_names() {
    let mut client = Client::opened().await;
    client.epoch = 0;
    client.local.append(ORDERS, b"one");
    assert_eq!(client.fetch(&[ORDERS]).await, Ok(news(ORDERS, b"one")));
    assert_eq!(client.local.state.lock().sessions.len(), 1);
    assert!(client.legacy.state.lock().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_session_the_parts_wait_as_well() {
    let mut client = Client::new();
    client.epoch = -1;
    let began = tokio::time::Instant::now();
    let all = client.fetch(&[ORDERS, LEGACY_ORDERS]).await.unwrap();
    assert_eq!((all.len(), began.elapsed().as_millis() as i64), (2, WAIT_MS));
    client.legacy.append(LEGACY_ORDERS, b"one");
    let all = client.fetch(&[ORDERS, LEGACY_ORDERS]).await.unwrap();
    assert_eq!(all, [(ORDERS.0, Vec::new()), (LEGACY_ORDERS.0, b"one".to_vec())]);
    assert_eq!(began.elapsed().as_millis() as i64, WAIT_MS);
    assert_eq!(client.fetch(&[UNKNOWN, ORDERS]).await.map(|all| all.len()), Ok(2));
    assert!(client.local.state.lock().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_holds_a_connection_that_has_ended() {
    let mut client = Client::opened().await;
    client.legacy.append(LEGACY_ORDERS, b"one");
    client.fetch(&[]).await.unwrap();
    let kept = client.local.take_asked();
    let session = Arc::downgrade(&client.session);
    client.session = Session::for_tests();
    assert!(session.upgrade().is_none(), "the kept call holds its connection in a circle");
    assert!(*kept[0].is_dropped.lock());
}
