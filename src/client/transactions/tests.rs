use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use kafka_protocol::messages::describe_transactions_response::TopicData;
use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    DescribeTransactionsResponse, FindCoordinatorRequest, FindCoordinatorResponse, ListTransactionsResponse,
    WriteTxnMarkersResponse,
};
use kafka_protocol::protocol::Decodable;
use kernel::Api;
use kernel::call::Header;
use parking_lot::Mutex;

use super::super::error::ErrorKind;
use super::super::fake::{self, Act};
use super::*;

/// A cluster of one broker with topic `t`. All but metadata and versions is answered by `act`, which is told its address.
async fn cluster(act: impl Fn(&Header, Bytes, &str) -> Act + Send + Sync + 'static) -> Arc<Cluster> {
    let own = Arc::new(OnceLock::<String>::new());
    let address = fake::start({
        let own = Arc::clone(&own);
        move |header: &Header, body: Bytes| match (header.api, own.get()) {
            (Api::METADATA, Some(address)) => fake::metadata(header, address, 2),
            (Api::API_VERSIONS, _) | (_, None) => fake::versions(header),
            (_, Some(address)) => act(header, body, address),
        }
    })
    .await;
    own.set(address.clone()).unwrap();
    fake::cluster(&address).await
}

#[tokio::test]
async fn a_list_is_filtered_by_the_broker() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    let cluster = cluster(move |header: &Header, mut body: Bytes, _: &str| {
        noted.lock().push(ListTransactionsRequest::decode(&mut body, header.version).unwrap());
        let listed = |id| {
            Listed::default()
                .with_transactional_id(TransactionalId(text(id)))
                .with_producer_id(7.into())
                .with_transaction_state(text("Ongoing"))
        };
        let response = ListTransactionsResponse::default();
        fake::answer(&response.with_transaction_states(vec![listed("b"), listed("a")]), header.version)
    })
    .await;
    let filter = TransactionFilter {
        states: vec!["Ongoing".to_owned()],
        producer_ids: vec![7],
        longer_than_ms: Some(60_000),
        id_pattern: Some("a.*".to_owned()),
    };
    let listed = cluster.transactions(&filter).await.unwrap();
    let rows: Vec<_> =
        listed.iter().map(|listed| (&*listed.id, listed.producer_id, &*listed.state)).collect();
    assert_eq!(rows, [("a", 7, "Ongoing"), ("b", 7, "Ongoing")]);
    cluster.transactions(&TransactionFilter::default()).await.unwrap();
    let filtered = ListTransactionsRequest::default()
        .with_state_filters(vec![text("Ongoing")])
        .with_producer_id_filters(vec![7.into()])
        .with_duration_filter(60_000)
        .with_transactional_id_pattern(Some(text("a.*")));
    assert_eq!(*asked.lock(), [filtered, ListTransactionsRequest::default()]);
}

#[tokio::test]
async fn a_state_that_the_broker_does_not_know_is_an_error() {
    let cluster = cluster(|header: &Header, _: Bytes, _: &str| {
        let response = ListTransactionsResponse::default().with_unknown_state_filters(vec![text("Gone")]);
        fake::answer(&response, header.version)
    })
    .await;
    let error = cluster.transactions(&TransactionFilter::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misused);
    assert!(error.to_string().contains("no state \"Gone\""), "{error}");
}

#[test]
fn an_old_broker_is_not_asked_for_what_it_cannot_filter() {
    let by_duration = TransactionFilter { longer_than_ms: Some(1), ..TransactionFilter::default() };
    let by_pattern = TransactionFilter { id_pattern: Some("a".to_owned()), ..TransactionFilter::default() };
    let refusal = |filter: &TransactionFilter, version| {
        list_request(filter, version, "a:1").map_err(|error| error.to_string())
    };
    assert!(refusal(&by_duration, 0).unwrap_err().contains("by duration"));
    assert!(refusal(&by_pattern, 1).unwrap_err().contains("up to version 1, and this needs 2"));
    assert!(refusal(&by_duration, 1).is_ok() && refusal(&by_pattern, 2).is_ok());
    let neither = refusal(&TransactionFilter::default(), 0).unwrap();
    assert_eq!(neither, ListTransactionsRequest::default(), "version 0 can say no more");
}

/// Answers DescribeTransactions with one state, and itself as the coordinator of transactional ids.
async fn described(state: TransactionState) -> Result<Option<TransactionDescription>, Error> {
    let cluster = cluster(move |header: &Header, mut body: Bytes, address: &str| {
        if header.api != Api::FIND_COORDINATOR {
            let states = vec![state.clone()];
            let response = DescribeTransactionsResponse::default().with_transaction_states(states);
            return fake::answer(&response, header.version);
        }
        let asked = FindCoordinatorRequest::decode(&mut body, header.version).unwrap();
        assert_eq!((asked.key_type, asked.key.as_str()), (COORDINATES_TRANSACTIONS, "id"));
        let (host, port) = address.split_once(':').unwrap();
        let response =
            FindCoordinatorResponse::default().with_host(text(host)).with_port(port.parse().unwrap());
        fake::answer(&response, header.version)
    })
    .await;
    cluster.describe_transaction("id").await
}

#[tokio::test]
async fn a_description_comes_from_the_coordinator() {
    let topic = |name, partitions: &[i32]| {
        TopicData::default().with_topic(TopicName(text(name))).with_partitions(partitions.to_vec())
    };
    let open = TransactionState::default()
        .with_transactional_id(TransactionalId(text("id")))
        .with_transaction_state(text("Ongoing"))
        .with_transaction_timeout_ms(60_000)
        .with_transaction_start_time_ms(5)
        .with_producer_id(7.into())
        .with_producer_epoch(3)
        .with_topics(vec![topic("t", &[1, 0]), topic("a", &[2])]);
    let found = described(open.clone()).await.unwrap().unwrap();
    let places = [("a", 2), ("t", 0), ("t", 1)].map(|(topic, partition)| (topic.to_owned(), partition));
    assert_eq!(found.partitions, places);
    assert_eq!((found.producer_id, found.producer_epoch, found.timeout_ms), (7, 3, 60_000));
    assert_eq!((&*found.state, found.started_ms), ("Ongoing", Some(5)));
    let ended = described(open.clone().with_transaction_state(text("CompleteAbort"))).await.unwrap().unwrap();
    assert_eq!(ended.started_ms, None);
    let unknown = open.with_error_code(ErrorCode::TransactionalIdNotFound.code());
    assert_eq!(described(unknown).await, Ok(None));
}

#[tokio::test]
async fn producers_are_those_of_each_partition() {
    let cluster = cluster(|header: &Header, _: Bytes, _: &str| {
        let producer = |id: i64, start: i64, coordinator_epoch| {
            ProducerState::default()
                .with_producer_id(id.into())
                .with_producer_epoch(1)
                .with_last_timestamp(9)
                .with_coordinator_epoch(coordinator_epoch)
                .with_current_txn_start_offset(start)
        };
        let partition = |index, producers| {
            PartitionResponse::default().with_partition_index(index).with_active_producers(producers)
        };
        let partitions =
            vec![partition(0, vec![]), partition(1, vec![producer(7, 17, -1), producer(8, -1, 2)])];
        let topic = TopicResponse::default().with_name(TopicName(text("t"))).with_partitions(partitions);
        fake::answer(&DescribeProducersResponse::default().with_topics(vec![topic]), header.version)
    })
    .await;
    let producer = |producer_id, start_offset, coordinator_epoch| ActiveProducer {
        producer_id,
        producer_epoch: 1,
        last_timestamp: 9,
        coordinator_epoch,
        start_offset,
    };
    let found = cluster.producers("t", &[1, 0]).await.unwrap();
    assert_eq!(found, [vec![producer(7, Some(17), None), producer(8, None, Some(2))], vec![]]);
}

#[tokio::test]
async fn an_abort_is_a_marker_in_one_partition() {
    let cluster = cluster(|header: &Header, mut body: Bytes, _: &str| {
        let asked = WriteTxnMarkersRequest::decode(&mut body, header.version).unwrap().markers.remove(0);
        assert_eq!((asked.producer_id.0, asked.producer_epoch, asked.transaction_result), (7, 1, false));
        let code = if asked.coordinator_epoch == 0 { 0 } else { ErrorCode::InvalidTxnState.code() };
        let index = asked.topics[0].partition_indexes[0];
        let partition = WritableTxnMarkerPartitionResult::default().with_partition_index(index);
        let topic = WritableTxnMarkerTopicResult::default().with_name(asked.topics[0].name.clone());
        let marker = WritableTxnMarkerResult::default()
            .with_producer_id(asked.producer_id)
            .with_topics(vec![topic.with_partitions(vec![partition.with_error_code(code)])]);
        fake::answer(&WriteTxnMarkersResponse::default().with_markers(vec![marker]), header.version)
    })
    .await;
    let place = ("t".to_owned(), 1);
    let mut producer = ActiveProducer {
        producer_id: 7,
        producer_epoch: 1,
        last_timestamp: 9,
        coordinator_epoch: None,
        start_offset: Some(17),
    };
    assert_eq!(cluster.abort_in_partition(&place, &producer).await, Ok(()));
    producer.coordinator_epoch = Some(4);
    let error = cluster.abort_in_partition(&place, &producer).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidTxnState));
    assert!(error.to_string().contains("partition 1 of topic \"t\""), "{error}");
    producer.producer_epoch = i32::MAX;
    let error = cluster.abort_in_partition(&place, &producer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}
