//! Transactions: list and describe transactional ids, the producers of a partition, and an operator's abort (KIP-664).

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::ProducerState;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest, InitProducerIdRequest,
    ListTransactionsRequest, TopicName, TransactionalId, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;
use kernel::ErrorCode;

use super::cluster::Cluster;
use super::connection::Connection;
use super::error::{About, Error};
use super::groups::TopicIndex;
use super::retry::Retry;

/// Kafka's coordinator type of transactional ids.
const COORDINATES_TRANSACTIONS: i8 = 1;
/// ListTransactions filters by duration from this version on (KIP-994).
const DURATION_FROM: i16 = 1;
/// ListTransactions filters by a pattern of ids from this version on (KIP-1152).
const PATTERN_FROM: i16 = 2;

/// Which transactional ids are listed: those that pass all filters. A filter that is left empty passes all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransactionFilter {
    /// Kafka's names of states.
    pub states: Vec<String>,
    /// Producer ids.
    pub producer_ids: Vec<i64>,
    /// Those that run for longer than this, in ms.
    pub longer_than_ms: Option<i64>,
    /// A regular expression that the whole id matches.
    pub id_pattern: Option<String>,
}

/// A transactional id in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTransaction {
    /// The transactional id.
    pub id: String,
    /// Its producer id.
    pub producer_id: i64,
    /// Kafka's name of its state.
    pub state: String,
    /// The address of its coordinator.
    pub coordinator: String,
}

/// A transactional id and its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    /// The transactional id.
    pub id: String,
    /// Its producer id.
    pub producer_id: i64,
    /// The epoch of its producer.
    pub producer_epoch: i16,
    /// Kafka's name of its state.
    pub state: String,
    /// Transaction timeout.
    pub timeout_ms: i32,
    /// When its open transaction began, in ms since the epoch.
    pub started_ms: Option<i64>,
    /// The partitions in its open transaction.
    pub partitions: Vec<TopicIndex>,
    /// The address of its coordinator.
    pub coordinator: String,
}

impl TransactionDescription {
    /// Whether a transaction is open, or is being ended.
    pub fn is_open(&self) -> bool {
        is_open(&self.state)
    }
}

fn is_open(state: &str) -> bool {
    state == "Ongoing" || state.starts_with("Prepare")
}

/// A producer that has written to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its producer id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// When it last wrote, in ms since the epoch.
    pub last_timestamp: i64,
    /// The epoch of the coordinator that has written its last marker; `None` if it has none.
    pub coordinator_epoch: Option<i32>,
    /// Where its open transaction begins; `None` if it has none open here.
    pub start_offset: Option<i64>,
}

impl Cluster {
    /// Transactional ids of all brokers, in order.
    pub async fn transactions(&self, filter: &TransactionFilter) -> Result<Vec<ListedTransaction>, Error> {
        self.topics().await?; // So that all brokers are known.
        let mut found = BTreeMap::new();
        for node in self.nodes() {
            let mut retry = Retry::within(self.timeout());
            let listed = loop {
                match self.transactions_of(node, filter).await {
                    Ok(listed) => break listed,
                    Err(error) => retry.pause(error).await?,
                }
            };
            found.extend(listed.into_iter().map(|listed| (listed.id.clone(), listed)));
        }
        Ok(found.into_values().collect())
    }

    async fn transactions_of(
        &self,
        node: i32,
        filter: &TransactionFilter,
    ) -> Result<Vec<ListedTransaction>, Error> {
        let connection = self.broker(node).await?;
        let version = connection.version::<ListTransactionsRequest>()?;
        let address = connection.address();
        let request = list_request(filter, version, address)?;
        let response = connection.call(version, &request).await?;
        Error::check(response.error_code, About { address, ..About::default() })?;
        if let Some(state) = response.unknown_state_filters.first() {
            return Err(Error::misused(format!(
                "{address} knows no state {:?} of transactions; there are Empty, Ongoing, CompleteCommit, CompleteAbort and others",
                state.as_str()
            )));
        }
        let listed = response.transaction_states.into_iter().map(|listed| ListedTransaction {
            id: listed.transactional_id.to_string(),
            producer_id: listed.producer_id.0,
            state: listed.transaction_state.to_string(),
            coordinator: address.to_owned(),
        });
        Ok(listed.collect())
    }

    /// A transactional id and its transaction; `None` if there is no such id.
    pub async fn describe_transaction(&self, id: &str) -> Result<Option<TransactionDescription>, Error> {
        let mut retry = Retry::within(self.timeout());
        loop {
            match self.describe_transaction_once(id).await {
                Ok(described) => return Ok(described),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    async fn describe_transaction_once(&self, id: &str) -> Result<Option<TransactionDescription>, Error> {
        let connection = self.coordinator_once(COORDINATES_TRANSACTIONS, id).await?;
        let ids = vec![TransactionalId(text(id))];
        let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
        let response = connection.ask(&request).await?;
        let address = connection.address();
        let Some(state) = response.transaction_states.into_iter().next() else {
            return Err(Error::malformed(address, format!("an answer without transactional id {id:?}")));
        };
        if state.error_code == ErrorCode::TransactionalIdNotFound.code() {
            return Ok(None);
        }
        Error::check(state.error_code, About { address, ..About::default() })?;
        Ok(Some(read_transaction(id, &state, address)))
    }

    /// Aborts the open transaction of a transactional id, as a new producer with it does: whoever has it is fenced.
    pub async fn terminate_transaction(&self, found: &TransactionDescription) -> Result<(), Error> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(&found.id))))
            .with_transaction_timeout_ms(found.timeout_ms);
        let mut retry = Retry::within(self.timeout());
        loop {
            match self.init_transaction_once(&found.id, &request).await {
                Ok(()) => return Ok(()),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    async fn init_transaction_once(&self, id: &str, request: &InitProducerIdRequest) -> Result<(), Error> {
        let connection = self.coordinator_once(COORDINATES_TRANSACTIONS, id).await?;
        let response = connection.ask(request).await?;
        Error::check(response.error_code, About { address: connection.address(), ..About::default() })
    }

    /// The producers of each of some partitions of a topic, in the order of the partitions.
    pub async fn producers(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<Vec<ActiveProducer>>, Error> {
        let mut retry = Retry::within(self.timeout());
        loop {
            match self.producers_once(topic, partitions).await {
                Ok(producers) => return Ok(producers),
                Err(error) => retry.pause(error).await?,
            }
            self.forget(topic);
        }
    }

    async fn producers_once(
        &self,
        name: &str,
        partitions: &[i32],
    ) -> Result<Vec<Vec<ActiveProducer>>, Error> {
        let topic = self.topic(name).await?;
        let mut found = vec![Vec::new(); partitions.len()];
        for (connection, places) in self.by_leader(&topic, partitions).await? {
            let indexes = places.iter().map(|place| partitions[*place]).collect();
            let asked =
                TopicRequest::default().with_name(TopicName(text(name))).with_partition_indexes(indexes);
            let request = DescribeProducersRequest::default().with_topics(vec![asked]);
            let response = connection.ask(&request).await?;
            for place in places {
                found[place] = read_producers(&response, connection.address(), name, partitions[place])?;
            }
        }
        Ok(found)
    }

    /// Aborts what a producer has open in a partition, by a marker that nobody but an operator writes: the coordinator of its
    /// transactional id is not told. It is requested once.
    pub async fn abort_in_partition(
        &self,
        (name, partition): &TopicIndex,
        producer: &ActiveProducer,
    ) -> Result<(), Error> {
        let topic = self.topic(name).await?;
        let connection = self.leader(&topic, *partition).await?;
        let address = connection.address();
        let epoch = i16::try_from(producer.producer_epoch).map_err(|_| {
            Error::malformed(address, format!("a producer epoch of {}", producer.producer_epoch))
        })?;
        let asked = WritableTxnMarkerTopic::default()
            .with_name(TopicName(text(name)))
            .with_partition_indexes(vec![*partition]);
        // As `kafka-transactions` does: a producer without a marker accepts any coordinator epoch.
        let marker = WritableTxnMarker::default()
            .with_producer_id(producer.producer_id.into())
            .with_producer_epoch(epoch)
            .with_transaction_result(false)
            .with_coordinator_epoch(producer.coordinator_epoch.unwrap_or(0))
            .with_topics(vec![asked]);
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        let response = connection.ask(&request).await?;
        let topics = response.markers.iter().flat_map(|marker| &marker.topics);
        let mut answered = topics.flat_map(|topic| &topic.partitions);
        match answered.find(|answer| answer.partition_index == *partition) {
            Some(answer) => Error::check(answer.error_code, about(&connection, name, *partition)),
            None => Err(Error::malformed(address, format!("an answer without partition {partition}"))),
        }
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn about<'a>(connection: &'a Connection, topic: &'a str, partition: i32) -> About<'a> {
    let address = connection.address();
    About { address, topic: Some(topic), partition: Some(partition), message: None }
}

/// The request in a version, which may lack a filter that is asked for.
fn list_request(
    filter: &TransactionFilter,
    version: i16,
    address: &str,
) -> Result<ListTransactionsRequest, Error> {
    let lacks = |what: &str, from: i16, release: &str| {
        Error::unsupported(format!(
            "{address} cannot list transactions by {what}: it offers ListTransactions up to version {version}, and this needs {from}, as Kafka has it from {release} on; leave that filter out"
        ))
    };
    if filter.longer_than_ms.is_some() && version < DURATION_FROM {
        return Err(lacks("duration", DURATION_FROM, "3.8"));
    }
    if filter.id_pattern.is_some() && version < PATTERN_FROM {
        return Err(lacks("a pattern of ids", PATTERN_FROM, "4.1"));
    }
    let producers = filter.producer_ids.iter().map(|id| (*id).into());
    Ok(ListTransactionsRequest::default()
        .with_state_filters(filter.states.iter().map(|state| text(state)).collect())
        .with_producer_id_filters(producers.collect())
        .with_duration_filter(filter.longer_than_ms.unwrap_or(-1))
        .with_transactional_id_pattern(filter.id_pattern.as_deref().map(text)))
}

fn read_transaction(id: &str, state: &TransactionState, address: &str) -> TransactionDescription {
    let topics = state.topics.iter();
    let mut partitions: Vec<TopicIndex> = topics
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic.to_string(), *partition)))
        .collect();
    partitions.sort();
    TransactionDescription {
        id: id.to_owned(),
        producer_id: state.producer_id.0,
        producer_epoch: state.producer_epoch,
        state: state.transaction_state.to_string(),
        timeout_ms: state.transaction_timeout_ms,
        // Brokers also tell when one began that has ended.
        started_ms: is_open(&state.transaction_state).then_some(state.transaction_start_time_ms),
        partitions,
        coordinator: address.to_owned(),
    }
}

fn read_producers(
    response: &DescribeProducersResponse,
    address: &str,
    topic: &str,
    partition: i32,
) -> Result<Vec<ActiveProducer>, Error> {
    let mut answered = response.topics.iter().flat_map(|topic| &topic.partitions);
    let Some(answer) = answered.find(|answer| answer.partition_index == partition) else {
        let missing = format!("no producers of partition {partition} of topic {topic:?}");
        return Err(Error::malformed(address, missing));
    };
    let message = answer.error_message.as_deref();
    Error::check(
        answer.error_code,
        About { address, topic: Some(topic), partition: Some(partition), message },
    )?;
    Ok(answer.active_producers.iter().map(read_producer).collect())
}

fn read_producer(producer: &ProducerState) -> ActiveProducer {
    ActiveProducer {
        producer_id: producer.producer_id.0,
        producer_epoch: producer.producer_epoch,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: (producer.coordinator_epoch >= 0).then_some(producer.coordinator_epoch),
        start_offset: (producer.current_txn_start_offset >= 0).then_some(producer.current_txn_start_offset),
    }
}

#[cfg(test)]
mod tests;
