//! Produce requests: built, sent, and completed when their responses arrive.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use kernel::ErrorCode;
use tokio::time::Instant;

use super::super::cluster::{Cluster, Leaders};
use super::super::connection::Connection;
use super::super::error::{About, Error};
use super::super::retry::Retry;
use super::lane::Batch;
use super::{Acks, BACKOFF, Delivery, Producer, Refresh};

/// The producer id and epoch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// A completed operation.
pub(super) enum ProduceEvent {
    /// A request got its response (`None`: it was written, with acks=0), or failed.
    Answered {
        node: i32,
        address: String,
        batches: Vec<(usize, Batch)>,
        answer: Result<Option<ProduceResponse>, Error>,
    },
    /// The metadata were refreshed.
    Refreshed(Result<Leaders, Error>),
    /// A lane got its new producer id.
    Identified { lane: usize, identity: Result<Identity, Error> },
}

/// Requests a new producer id.
pub(super) async fn new_identity(cluster: &Cluster) -> Result<Identity, Error> {
    // The timeout applies to transactions, which are not used; Java's producer sends the maximum as well.
    let request =
        InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
    let mut retry = Retry::within(cluster.timeout());
    loop {
        let error = match ask_identity(cluster, &request).await {
            Ok(identity) => return Ok(identity),
            Err(error) => error,
        };
        retry.pause(error).await?;
    }
}

async fn ask_identity(cluster: &Cluster, request: &InitProducerIdRequest) -> Result<Identity, Error> {
    let connection = cluster.any().await?;
    let response = connection.ask(request).await?;
    Error::check(response.error_code, About { address: connection.address(), ..About::default() })?;
    Ok(Identity { id: response.producer_id.0, epoch: response.producer_epoch })
}

impl Producer {
    /// Sends all that is due, within each broker's in-flight limit.
    pub(super) fn dispatch(&mut self) {
        let now = Instant::now();
        self.renew_identities(now);
        let nodes: Vec<i32> = self.nodes.keys().copied().collect();
        for node in nodes {
            while let Some(batches) = self.gather(node, now) {
                self.launch(node, batches);
            }
        }
        self.full_batches = 0;
        let is_cut_off = |leader: i32| self.nodes.get(&leader).is_none_or(|node| node.connection.is_closed());
        if self.lanes.iter().any(|lane| lane.has_content() && is_cut_off(lane.leader)) {
            self.want_metadata();
        }
        self.start_refresh();
    }

    fn want_metadata(&mut self) {
        if self.refresh == Refresh::NotNeeded {
            self.refresh = Refresh::Needed;
        }
    }

    fn start_refresh(&mut self) {
        if self.refresh != Refresh::Needed {
            return;
        }
        self.refresh = Refresh::UnderWay;
        let (cluster, topic) = (Arc::clone(&self.cluster), Arc::clone(&self.topic));
        let may_create = self.settings.may_create_topic;
        self.work.push(Box::pin(async move {
            tokio::time::sleep(BACKOFF).await;
            ProduceEvent::Refreshed(cluster.leaders(&topic, may_create).await)
        }));
    }

    fn renew_identities(&mut self, now: Instant) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            if lane.awaits_identity(now) {
                // Until it arrives; a failure shortens the backoff.
                lane.rest(now + self.settings.delivery_timeout);
                let cluster = Arc::clone(&self.cluster);
                self.work.push(Box::pin(async move {
                    ProduceEvent::Identified { lane: index, identity: new_identity(&cluster).await }
                }));
            }
        }
    }

    /// Batches for one request to a node: at most one per partition; the first partition rotates.
    fn gather(&mut self, node: i32, now: Instant) -> Option<Vec<(usize, Batch)>> {
        let state = self.nodes.get(&node)?;
        if state.in_flight >= self.settings.in_flight_max || state.connection.is_closed() {
            return None;
        }
        let mut batches = Vec::new();
        let mut bytes = 0;
        self.first_lane += 1;
        for step in 0..self.lanes.len() {
            let index = (self.first_lane + step) % self.lanes.len();
            let lane = &mut self.lanes[index];
            if lane.leader != node || bytes >= self.settings.request_bytes_max {
                continue;
            }
            if let Some(batch) = lane.take_due(now, &self.settings, self.is_flushing) {
                bytes += batch.bytes;
                batches.push((index, batch));
            }
        }
        (!batches.is_empty()).then_some(batches)
    }

    fn launch(&mut self, node: i32, batches: Vec<(usize, Batch)>) {
        let Some(connection) = self.nodes.get(&node).map(|node| Arc::clone(&node.connection)) else { return };
        let (batches, request) = self.encode(batches);
        if batches.is_empty() {
            return;
        }
        for (index, batch) in &batches {
            self.lanes[*index].sent(batch.order);
        }
        if let Some(state) = self.nodes.get_mut(&node) {
            state.in_flight += 1;
        }
        // Queued here and not in the future below: the order in which futures run is not guaranteed.
        let answer = self.post(&connection, &request);
        let timeout = self.settings.delivery_timeout;
        self.work.push(Box::pin(async move {
            let address = connection.address().to_owned();
            let answer = match answer {
                Ok(answer) => match tokio::time::timeout(timeout, answer).await {
                    Ok(answer) => answer,
                    Err(_) => Err(Error::timed_out(&address, "Produce", timeout)),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = &answer {
                // It is unknown what the broker has accepted of this request and of those after it.
                connection.close(error.clone());
            }
            ProduceEvent::Answered { node, address, batches, answer }
        }));
    }

    fn post(
        &self,
        connection: &Connection,
        request: &ProduceRequest,
    ) -> Result<impl Future<Output = Result<Option<ProduceResponse>, Error>> + Send + use<>, Error> {
        let version = connection.version::<ProduceRequest>()?;
        let (written, pending) = match self.settings.acks {
            Acks::None => (Some(connection.send_unanswered(version, request)?), None),
            _ => (None, Some(connection.send(version, request)?)),
        };
        Ok(async move {
            if let Some(written) = written {
                written.await?;
            }
            match pending {
                Some(pending) => pending.await.map(Some),
                None => Ok(None),
            }
        })
    }

    /// The request and its batches, without those that cannot be encoded, which have failed.
    fn encode(&mut self, batches: Vec<(usize, Batch)>) -> (Vec<(usize, Batch)>, ProduceRequest) {
        let mut encoded = Vec::with_capacity(batches.len());
        let mut partitions = Vec::with_capacity(batches.len());
        for (index, mut batch) in batches {
            let lane = &mut self.lanes[index];
            match lane.encode(&mut batch) {
                Ok(records) => {
                    let data = PartitionProduceData::default().with_index(lane.partition);
                    partitions.push(data.with_records(Some(records)));
                    encoded.push((index, batch));
                }
                Err(error) => {
                    let text = format!("a batch for topic {:?} cannot be compressed: {error}", self.topic);
                    self.give_up(index, batch, Error::misused(text));
                }
            }
        }
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(self.topic.to_string())))
            .with_partition_data(partitions);
        let acks = match self.settings.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let timeout_ms = i32::try_from(self.cluster.timeout().as_millis()).unwrap_or(i32::MAX);
        let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(timeout_ms);
        (encoded, request.with_topic_data(vec![topic]))
    }

    /// Handles a completed operation.
    pub(super) fn settle(&mut self, done: ProduceEvent) {
        match done {
            ProduceEvent::Answered { node, address, batches, answer } => {
                if let Some(state) = self.nodes.get_mut(&node) {
                    state.in_flight = state.in_flight.saturating_sub(1);
                }
                self.settle_answer(&address, batches, answer);
            }
            ProduceEvent::Refreshed(leaders) => {
                self.refresh = Refresh::NotNeeded;
                match leaders {
                    Ok(leaders) => self.adopt(leaders),
                    Err(error) => self.expire(None, &error),
                }
            }
            ProduceEvent::Identified { lane, identity } => match identity {
                Ok(identity) => {
                    self.lanes[lane].rest(Instant::now());
                    self.lanes[lane].renew(identity);
                }
                Err(error) => {
                    self.lanes[lane].rest(Instant::now() + BACKOFF);
                    self.expire(Some(self.lanes[lane].leader), &error);
                }
            },
        }
    }

    fn settle_answer(
        &mut self,
        address: &str,
        batches: Vec<(usize, Batch)>,
        answer: Result<Option<ProduceResponse>, Error>,
    ) {
        let response = answer.as_ref().ok().and_then(Option::as_ref);
        let answered: HashMap<i32, &PartitionProduceResponse> = response
            .into_iter()
            .flat_map(|response| &response.responses)
            .flat_map(|topic| &topic.partition_responses)
            .map(|partition| (partition.index, partition))
            .collect();
        for (index, batch) in batches {
            let partition = self.lanes[index].partition;
            let outcome = match &answer {
                Err(error) => Err(error.clone()),
                Ok(None) => Ok(None),
                Ok(Some(_)) => self.outcome(address, partition, answered.get(&partition).copied()),
            };
            self.lanes[index].acknowledged(batch.order);
            match outcome {
                Ok(offset) => self.deliver(index, batch, Ok(offset)),
                Err(error) => self.retry_or_give_up(index, batch, error),
            }
        }
    }

    fn outcome(
        &self,
        address: &str,
        partition: i32,
        answered: Option<&PartitionProduceResponse>,
    ) -> Result<Option<i64>, Error> {
        let Some(answered) = answered else {
            let cause = format!("an answer to Produce that leaves out partition {partition}");
            return Err(Error::malformed(address, cause));
        };
        // The broker has it already, from an earlier attempt whose response was lost.
        if answered.error_code == ErrorCode::DuplicateSequenceNumber.code() {
            return Ok(None);
        }
        let told =
            answered.record_errors.first().and_then(|record| record.batch_index_error_message.as_deref());
        let about = About {
            address,
            topic: Some(&self.topic),
            partition: Some(partition),
            message: told.or(answered.error_message.as_deref()),
        };
        Error::check(answered.error_code, about)?;
        Ok((answered.base_offset >= 0).then_some(answered.base_offset))
    }

    fn retry_or_give_up(&mut self, index: usize, batch: Batch, error: Error) {
        if error.needs_metadata() {
            self.want_metadata();
        }
        let may_retry = self.settings.acks != Acks::None;
        if let Some(lost) = self.lanes[index].failed(batch, &error, Instant::now(), may_retry) {
            self.deliver(index, lost, Err(error));
        }
    }

    fn give_up(&mut self, index: usize, batch: Batch, error: Error) {
        if let Some(lost) = self.lanes[index].failed(batch, &error, Instant::now(), false) {
            self.deliver(index, lost, Err(error));
        }
    }

    /// Fails the batches that have expired for `node`, or for any node.
    pub(super) fn expire(&mut self, node: Option<i32>, error: &Error) {
        let now = Instant::now();
        for index in 0..self.lanes.len() {
            if node.is_some_and(|node| self.lanes[index].leader != node) {
                continue;
            }
            for batch in self.lanes[index].take_expired(now) {
                self.deliver(index, batch, Err(error.clone()));
            }
        }
    }

    fn deliver(&mut self, index: usize, batch: Batch, outcome: Result<Option<i64>, Error>) {
        self.buffered_bytes = self.buffered_bytes.saturating_sub(batch.bytes);
        let partition = self.lanes[index].partition;
        self.deliveries.push(Delivery {
            partition,
            pushed: batch.pushed,
            settled: std::time::Instant::now(),
            bytes: batch.bytes,
            outcome,
        });
    }
}
