//! Sends records to one topic, in batches.
//!
//! [`Producer::push`] adds a record to the open batch of its partition and never waits; [`Producer::drive`]
//! sends batches that are full or have lingered and handles responses. The owner calls both, so there is no
//! background task and no lock: `drive` may be dropped at any time (in a `select!`, say), because all work in
//! flight is kept in the producer. [`Producer::take_deliveries`] returns the outcome of each record.
//!
//! Order: the batches of a partition are written to its leader's connection in the order of their records.
//! Once a batch must be retried, the partition sends one batch at a time until all that failed with it have
//! been sent. An idempotent producer's batches carry sequence numbers, by which the broker detects
//! duplicates. A batch that can never be delivered leaves a gap in them: its partition then continues under a
//! new producer id.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use kernel::ErrorCode;
use kernel::partitioner::Partitioner;
use kernel::records::{Codec, NewRecord};
use tokio::time::Instant;

use super::cluster::{Cluster, Leaders};
use super::connection::Connection;
use super::error::{About, Error};

mod flight;
mod lane;

use flight::{Identity, ProduceEvent, new_identity};
use lane::Lane;

/// The backoff of a partition after a retriable error, and of metadata refreshes.
const BACKOFF: Duration = Duration::from_millis(100);

/// The acknowledgements that a write requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// None (acks=0).
    None,
    /// The leader (acks=1).
    Leader,
    /// All in-sync replicas (acks=-1).
    All,
}

/// How records are sent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The required acknowledgements.
    pub acks: Acks,
    /// How batches are compressed.
    pub codec: Codec,
    /// How long a batch that is not full waits for more records.
    pub linger: Duration,
    /// A batch is full at this size, uncompressed; a larger record has a batch of its own.
    pub batch_bytes: usize,
    /// Batches are put into one request up to this size.
    pub request_bytes_max: usize,
    /// Most bytes buffered before [`Producer::has_room`] returns false.
    pub buffer_bytes_max: usize,
    /// Most requests in flight to one broker. Brokers remember only five batches of an idempotent producer.
    pub in_flight_max: usize,
    /// Whether the producer is idempotent. Needs [`Acks::All`].
    pub is_idempotent: bool,
    /// The time limit of a batch's delivery, from its first record on.
    pub delivery_timeout: Duration,
    /// Whether the broker may create the topic, if auto-creation is enabled.
    pub may_create_topic: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            codec: Codec::None,
            linger: Duration::from_millis(5),
            batch_bytes: 64 << 10,
            request_bytes_max: 1 << 20,
            buffer_bytes_max: 32 << 20,
            in_flight_max: 5,
            is_idempotent: true,
            delivery_timeout: Duration::from_secs(30),
            may_create_topic: false,
        }
    }
}

/// The outcome of one batch.
#[derive(Debug)]
pub struct Delivery {
    /// Their partition.
    pub partition: i32,
    /// When each was pushed, in their order.
    pub pushed: Vec<std::time::Instant>,
    /// When the outcome was known.
    pub settled: std::time::Instant,
    /// Their keys, values and headers in bytes.
    pub bytes: usize,
    /// The offset of the first; `None` if the broker did not send it (acks=0, or a duplicate batch).
    pub outcome: Result<Option<i64>, Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refresh {
    NotNeeded,
    Needed,
    UnderWay,
}

/// A producer to one topic.
pub struct Producer {
    cluster: Arc<Cluster>,
    topic: Arc<str>,
    settings: Settings,
    identity: Option<Identity>,
    lanes: Vec<Lane>,
    nodes: HashMap<i32, Node>,
    partitioner: Partitioner,
    work: FuturesUnordered<BoxFuture<'static, ProduceEvent>>,
    deliveries: Vec<Delivery>,
    buffered_bytes: usize,
    full_batches: usize,
    first_lane: usize,
    is_flushing: bool,
    refresh: Refresh,
}

struct Node {
    connection: Arc<Connection>,
    in_flight: usize,
}

impl Producer {
    /// Looks the topic up and connects to its leaders.
    pub async fn open(cluster: Arc<Cluster>, topic: &str, settings: Settings) -> Result<Producer, Error> {
        if settings.is_idempotent && (settings.acks != Acks::All || settings.in_flight_max > 5) {
            return Err(Error::misused(
                "an idempotent producer needs acks=all and at most 5 requests in flight",
            ));
        }
        let leaders = cluster.leaders(topic, settings.may_create_topic).await?;
        let identity = if settings.is_idempotent { Some(new_identity(&cluster).await?) } else { None };
        let mut producer = Producer {
            cluster,
            topic: Arc::from(topic),
            partitioner: Partitioner::new(settings.batch_bytes),
            settings,
            identity,
            lanes: Vec::new(),
            nodes: HashMap::new(),
            work: FuturesUnordered::new(),
            deliveries: Vec::new(),
            buffered_bytes: 0,
            full_batches: 0,
            first_lane: 0,
            is_flushing: false,
            refresh: Refresh::NotNeeded,
        };
        producer.adopt(leaders);
        Ok(producer)
    }

    /// The number of the topic's partitions.
    pub fn partition_count(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there is room for another record. [`Producer::push`] does not enforce it.
    pub fn has_room(&self) -> bool {
        self.buffered_bytes < self.settings.buffer_bytes_max
    }

    /// Whether a batch is full, so that it is time to [`Producer::turn`].
    pub fn has_full_batch(&self) -> bool {
        self.full_batches > 0
    }

    /// Adds a record, to this partition or to the one that the partitioner chooses.
    pub fn push(&mut self, record: NewRecord<'_>, partition: Option<i32>) -> Result<(), Error> {
        let bytes = record_bytes(&record);
        let index = match partition {
            None => self.partitioner.choose(record.key, bytes, self.lanes.len()),
            Some(partition) => self.lane_of(partition)?,
        };
        let is_full = self.lanes[index].push(record, bytes, &self.settings);
        self.full_batches += usize::from(is_full);
        self.buffered_bytes += bytes;
        Ok(())
    }

    fn lane_of(&self, partition: i32) -> Result<usize, Error> {
        usize::try_from(partition).ok().filter(|index| *index < self.lanes.len()).ok_or_else(|| {
            let address = self.cluster.name();
            let about = About {
                address: &address,
                topic: Some(&self.topic),
                partition: Some(partition),
                message: None,
            };
            Error::kafka(ErrorCode::UnknownTopicOrPartition, about)
        })
    }

    /// The outcomes since the last call.
    pub fn take_deliveries(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }

    /// Sends what is due, waits for an event (a response, a batch that has lingered) and handles it. With
    /// nothing in flight it never returns; it may be dropped at any time.
    pub async fn drive(&mut self) {
        self.dispatch();
        let wake = self.next_wake();
        tokio::select! {
            done = next_done(&mut self.work) => self.settle(done),
            () = sleep_until(wake) => {}
        }
        self.settle_ready();
        self.dispatch();
    }

    /// Sends what is due and handles responses that have arrived, without waiting.
    pub async fn turn(&mut self) {
        self.dispatch();
        // The connection's tasks share this thread.
        tokio::task::yield_now().await;
        self.settle_ready();
        self.dispatch();
    }

    /// Sends everything without lingering, and returns when the outcome of every record is known.
    ///
    /// Records that failed are among the deliveries; an error here is about acks=0, where a broken connection
    /// is the only sign of failure.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.is_flushing = true;
        while !self.is_idle() {
            self.drive().await;
        }
        self.is_flushing = false;
        if self.settings.acks == Acks::None {
            for node in self.nodes.values() {
                node.connection.barrier().await?;
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.lanes.iter().all(Lane::is_idle)
    }

    fn settle_ready(&mut self) {
        while let Some(Some(done)) = self.work.next().now_or_never() {
            self.settle(done);
        }
    }

    /// When a timer makes something due. What is already due and unsent waits for a response.
    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let due = self.lanes.iter().filter_map(|lane| lane.next_due(now, &self.settings));
        due.min()
    }

    /// Applies the partition leaders from the metadata.
    fn adopt(&mut self, leaders: Leaders) {
        for partition in &leaders.topic.partitions {
            let index = partition.index as usize; // Numbered from 0, or the metadata would have been refused.
            if index == self.lanes.len() {
                self.lanes.push(Lane::new(partition.index, self.identity));
            }
            self.lanes[index].leader = partition.leader;
        }
        for (node, connection) in leaders.nodes {
            match connection {
                Ok(connection) => {
                    let in_flight = self.nodes.get(&node).map_or(0, |node| node.in_flight);
                    self.nodes.insert(node, Node { connection, in_flight });
                }
                Err(error) => {
                    self.refresh = Refresh::Needed;
                    self.expire(Some(node), &error);
                }
            }
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The size of a record's content, for accounting.
fn record_bytes(record: &NewRecord<'_>) -> usize {
    let headers = record.headers.iter().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len));
    let content = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
    content + headers.sum::<usize>()
}

async fn next_done(work: &mut FuturesUnordered<BoxFuture<'static, ProduceEvent>>) -> ProduceEvent {
    match work.next().await {
        Some(done) => done,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
