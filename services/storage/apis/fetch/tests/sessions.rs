//! Fetch sessions as clients see them (KIP-227).

use super::*;
use crate::apis::common::text;

/// A client on one connection.
struct Client {
    broker: Arc<Broker>,
    connection: Arc<Session>,
}

impl Client {
    async fn new() -> Self {
        let broker = broker().await;
        orders(&broker).await;
        Self { broker, connection: Session::for_tests() }
    }

    async fn fetch(&self, version: i16, id: i32, epoch: i32, request: FetchRequest) -> FetchResponse {
        let request = request.with_session_id(id).with_session_epoch(epoch);
        testing::ask_on(&self.broker, &self.connection, Api::FETCH, version, &request).await
    }

    /// Opens a session for all partitions of `orders`: the first at its log start, the others at their ends.
    async fn open(&self) -> i32 {
        let asked = request(vec![of("orders", vec![part(0, 0), part(1, 2), part(2, 0)])]);
        let response = self.fetch(12, 0, 0, asked).await;
        assert_eq!(told(&response), [(0, 0, 4 * two_records().len()), (1, 0, 0), (2, 0, 0)]);
        assert_ne!(response.session_id, 0);
        response.session_id
    }

    async fn topic(&self) -> Arc<TopicDocument> {
        testing::stored(&self.broker, "orders").await
    }
}

fn nothing() -> FetchRequest {
    request(Vec::new())
}

fn forgetting(name: &str, partitions: &[i32]) -> FetchRequest {
    let forgotten = ForgottenTopic::default().with_topic(text::topic_name(name));
    nothing().with_forgotten_topics_data(vec![forgotten.with_partitions(partitions.to_vec())])
}

#[tokio::test]
async fn a_session_tells_only_what_is_new() {
    let client = Client::new().await;
    let id = client.open().await;
    let response = client.fetch(12, id, 1, nothing()).await;
    assert_eq!(response.session_id, id);
    assert_eq!(told(&response), [(0, 0, 4 * two_records().len())], "its position has not moved");

    let read = request(vec![of("orders", vec![part(0, 8)])]);
    let response = client.fetch(12, id, 2, read).await;
    assert_eq!((response.session_id, response.responses.len()), (id, 0));

    let topic = client.topic().await;
    append(&client.broker, topic.partition(2).unwrap(), two_records()).await;
    let response = client.fetch(12, id, 3, nothing()).await;
    assert_eq!(told(&response), [(2, 0, two_records().len())]);

    // A new log start offset is a change, too.
    let trim = Command::AdvanceLogStart { partition: topic.partition(1).unwrap(), offset: 1 };
    client.broker.store.commit_one(&Ticket::only(), trim).await.unwrap().unwrap();
    let read = request(vec![of("orders", vec![part(2, 2)])]);
    let response = client.fetch(12, id, 4, read).await;
    assert_eq!(told(&response), [(1, 0, 0)]);
    assert_eq!(parts(&response)[0].log_start_offset, 1);
    assert_eq!(client.fetch(12, id, 5, nothing()).await.responses.len(), 0);
}

#[tokio::test]
async fn epochs_are_counted() {
    let client = Client::new().await;
    let id = client.open().await;
    let at_end = || request(vec![of("orders", vec![part(0, 8)])]);
    assert_eq!(client.fetch(12, id, 1, at_end()).await.error_code, 0);
    let invalid_epoch = 71;
    for epoch in [1, 3, -2, i32::MAX] {
        let response = client.fetch(12, id, epoch, at_end()).await;
        assert_eq!((response.error_code, response.session_id), (invalid_epoch, 0));
        assert!(response.responses.is_empty());
    }
    assert_eq!(client.fetch(12, id, 2, nothing()).await.error_code, 0, "the session goes on");
}

#[tokio::test]
async fn a_session_is_known_only_where_it_was_made() {
    let client = Client::new().await;
    let id = client.open().await;
    let unknown_session = 70;
    assert_eq!(client.fetch(12, id ^ 1, 1, nothing()).await.error_code, unknown_session);
    assert_eq!(client.fetch(12, 0, 3, nothing()).await.error_code, unknown_session);
    // Kafka would find it from any connection.
    let other = Client { broker: Arc::clone(&client.broker), connection: Session::for_tests() };
    assert_eq!(other.fetch(12, id, 1, nothing()).await.error_code, unknown_session);
    assert_eq!(client.fetch(12, id, 1, nothing()).await.error_code, 0);
}

#[tokio::test]
async fn errors_are_told_again_until_they_are_forgotten() {
    let client = Client::new().await;
    let id = client.open().await;
    let topics = vec![of("orders", vec![part(0, 8), part(9, 0)]), of("nope", vec![part(0, 0)])];
    let errors = [(9, 3, 0), (0, 3, 0)];
    assert_eq!(told(&client.fetch(12, id, 1, request(topics)).await), errors);
    assert_eq!(told(&client.fetch(12, id, 2, nothing()).await), errors);
    assert_eq!(told(&client.fetch(12, id, 3, forgetting("nope", &[0])).await), errors[..1]);
    topic(&client.broker, "nope", 1, &[]).await;
    let asked = request(vec![of("nope", vec![part(0, 0)])]);
    assert_eq!(told(&client.fetch(12, id, 4, asked).await), [(0, 0, 0), (9, 3, 0)]);
}

#[tokio::test]
async fn a_session_sticks_to_names_or_ids() {
    let client = Client::new().await;
    let id = client.open().await;
    let topic_id_error = 106;
    assert_eq!(client.fetch(13, id, 1, nothing()).await.error_code, topic_id_error);
    assert_eq!(client.fetch(12, id, 1, nothing()).await.error_code, 0);

    let topic = client.topic().await;
    let by_id = FetchTopic::default().with_topic_id(topic.id.0).with_partitions(vec![part(1, 0)]);
    let unknown = FetchTopic::default().with_topic_id(Uuid::from_u128(7)).with_partitions(vec![part(0, 0)]);
    let response = client.fetch(13, 0, 0, request(vec![by_id, unknown])).await;
    let both = [(1, 0, two_records().len()), (0, 100, 0)];
    assert_eq!(told(&response), both);
    let id = response.session_id;
    assert_eq!(told(&client.fetch(13, id, 1, nothing()).await), both);
    assert_eq!(client.fetch(12, id, 2, nothing()).await.error_code, topic_id_error);
    let forgotten = ForgottenTopic::default().with_topic_id(topic.id.0).with_partitions(vec![1]);
    let asked = nothing().with_forgotten_topics_data(vec![forgotten]);
    assert_eq!(told(&client.fetch(13, id, 2, asked).await), both[1..]);
}

#[tokio::test]
async fn sessions_end() {
    let client = Client::new().await;
    let full = || request(vec![of("orders", vec![part(1, 0)])]);
    let unknown_session = 70;

    let id = client.open().await;
    let response = client.fetch(12, id, -1, full()).await;
    assert_eq!((response.session_id, told(&response)), (0, vec![(1, 0, two_records().len())]));
    assert_eq!(client.fetch(12, id, 1, nothing()).await.error_code, unknown_session);

    let id = client.open().await;
    let response = client.fetch(12, id, 0, full()).await;
    assert_ne!(response.session_id, id, "a full request begins a new one");
    assert_eq!(client.fetch(12, id, 1, nothing()).await.error_code, unknown_session);

    let response = client.fetch(12, response.session_id, 1, forgetting("orders", &[1])).await;
    assert_eq!((response.error_code, response.session_id, response.responses.len()), (0, 0, 0));
}

#[tokio::test]
async fn a_client_without_sessions_gets_none() {
    let client = Client::new().await;
    let full = || request(vec![of("orders", vec![part(1, 0)])]);
    assert_eq!(client.fetch(12, 0, -1, full()).await.session_id, 0);
    assert_eq!(client.fetch(4, 0, -1, full()).await.session_id, 0);
    assert_ne!(client.fetch(7, 0, 0, full()).await.session_id, 0);
}

#[tokio::test]
async fn partitions_behind_a_limit_take_turns() {
    let client = Client::new().await;
    append(&client.broker, client.topic().await.partition(2).unwrap(), two_records()).await;
    let one = two_records().len();
    let limited = |request: FetchRequest| request.with_max_bytes(i32::try_from(one).unwrap());
    let all = request(vec![of("orders", vec![part(0, 0), part(1, 0), part(2, 0)])]);
    let response = client.fetch(12, 0, 0, limited(all)).await;
    assert_eq!(told(&response), [(0, 0, one), (1, 0, 0), (2, 0, 0)]);
    let id = response.session_id;
    for (epoch, partition) in (1..).zip([0, 1, 2, 0, 1]) {
        let response = client.fetch(12, id, epoch, limited(nothing())).await;
        assert_eq!(told(&response), [(partition, 0, one)]);
    }
}

#[tokio::test]
async fn a_connection_keeps_a_few_sessions() {
    let client = Client::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client.open().await);
    }
    let mut codes = Vec::new();
    for id in ids {
        codes.push(client.fetch(12, id, 1, nothing()).await.error_code);
    }
    assert_eq!(codes, [70, 0, 0, 0, 0], "the one that was not used for longest is gone");
}

#[tokio::test]
async fn a_session_knows_a_deleted_topic_by_its_name() {
    let client = Client::new().await;
    let id = client.topic().await.id;
    let asked = |id: kernel::TopicId| request(vec![of("", vec![part(0, 8)]).with_topic_id(id.0)]);
    let nobody = kernel::TopicId(uuid::Uuid::from_u128(7));
    let both = request([asked(id).topics, asked(nobody).topics].concat());
    let session_id = client.fetch(13, 0, 0, both).await.session_id;
    client
        .broker
        .store
        .commit_one(&kernel::Ticket::only(), Command::DeleteTopic { id })
        .await
        .unwrap()
        .unwrap();
    let response = client.fetch(13, session_id, 1, nothing()).await;
    let errors: Vec<_> =
        response.responses.iter().map(|topic| (topic.topic_id, topic.partitions[0].error_code)).collect();
    let (gone, unknown) = (ErrorCode::UnknownTopicOrPartition.code(), ErrorCode::UnknownTopicId.code());
    assert_eq!(errors.len(), 2);
    assert!(errors.contains(&(id.0, gone)) && errors.contains(&(nobody.0, unknown)), "{errors:?}");
}

/// A session whose partitions all rest: the client is at the end of each.
async fn resting(client: &Client) -> i32 {
    let id = client.open().await;
    let at_end = request(vec![of("orders", vec![part(0, 8)])]);
    assert_eq!(client.fetch(12, id, 1, at_end).await.responses.len(), 0);
    id
}

#[tokio::test]
async fn a_parked_fetch_of_partitions_at_rest_is_woken_by_an_append_to_one() {
    let client = Client::new().await;
    let id = resting(&client).await;
    let at = client.topic().await.partition(1).unwrap();
    let broker = Arc::clone(&client.broker);
    let parked = tokio::spawn(async move {
        client.fetch(12, id, 2, nothing().with_max_wait_ms(60_000).with_min_bytes(1)).await
    });
    tokio::task::yield_now().await;
    assert!(!parked.is_finished());
    append(&broker, at, two_records()).await;
    assert_eq!(told(&parked.await.unwrap()), [(1, 0, two_records().len())]);
}

#[tokio::test]
async fn a_partition_at_rest_is_told_when_it_was_deleted_and_read_when_it_is_made_again() {
    let client = Client::new().await;
    let id = resting(&client).await;
    let delete = Command::DeleteTopic { id: client.topic().await.id };
    client.broker.store.commit_one(&Ticket::only(), delete).await.unwrap().unwrap();
    let unknown = [(0, 3, 0), (1, 3, 0), (2, 3, 0)];
    let mut gone = told(&client.fetch(12, id, 2, nothing()).await);
    gone.sort_unstable();
    assert_eq!(gone, unknown);
    let again = topic(&client.broker, "orders", 3, &[]).await;
    append(&client.broker, again.partition(2).unwrap(), two_records()).await;
    let asked = request(vec![of("orders", vec![part(0, 0), part(1, 0), part(2, 0)])]);
    let mut found = told(&client.fetch(12, id, 3, asked).await);
    found.sort_unstable();
    assert_eq!(found, [(0, 0, 0), (1, 0, 0), (2, 0, two_records().len())]);
    let at_end = request(vec![of("orders", vec![part(2, 2)])]);
    assert_eq!(client.fetch(12, id, 4, at_end).await.responses.len(), 0);
    append(&client.broker, again.partition(0).unwrap(), two_records()).await;
    assert_eq!(told(&client.fetch(12, id, 5, nothing()).await), [(0, 0, two_records().len())]);
}

#[tokio::test]
async fn a_client_that_goes_back_reads_again() {
    let client = Client::new().await;
    let id = resting(&client).await;
    let back = request(vec![of("orders", vec![part(0, 6)])]);
    assert_eq!(told(&client.fetch(12, id, 2, back).await), [(0, 0, two_records().len())]);
    assert_eq!(told(&client.fetch(12, id, 3, nothing()).await), [(0, 0, two_records().len())]);
}
