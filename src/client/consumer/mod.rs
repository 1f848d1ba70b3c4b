//! Reads partitions of one topic from given offsets on.
//!
//! One long-poll fetch is in flight to each leader at any time, so that an idle consumer gets the next record
//! without delay. The next fetch is sent while the caller processes the last one: at most two responses of
//! [`Settings::bytes_max`] each are held. [`Consumer::poll`] may be dropped at any time.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use super::cluster::{Cluster, Leaders};
use super::connection::Connection;
use super::error::{About, Error};
use super::isolation::Isolation;

mod fetched;

pub use fetched::Fetched;

/// The backoff between refreshes of stale metadata.
const BACKOFF: Duration = Duration::from_millis(100);

/// A broker is away if it has not answered for this long after [`Settings::wait_max`], when even an idle topic is answered.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// The key for the cluster as a whole, where failures are counted by node.
const NO_NODE: i32 = i32::MIN;

/// How records are fetched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker responds once it has this much,
    pub bytes_min: i32,
    /// or has waited this long.
    pub wait_max: Duration,
    /// Most bytes in one response, except for a larger first batch (KIP-74).
    pub bytes_max: i32,
    /// Most bytes of one partition in one response.
    pub partition_bytes_max: i32,
    /// Which records are read.
    pub isolation: Isolation,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bytes_min: 1,
            wait_max: Duration::from_millis(500),
            bytes_max: 16 << 20,
            partition_bytes_max: 4 << 20,
            isolation: Isolation::default(),
        }
    }
}

/// A partition to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// The partition.
    pub partition: i32,
    /// The first offset to read.
    pub offset: i64,
    /// The offset to stop before; `None` for no end.
    pub until: Option<i64>,
}

impl Assignment {
    fn is_finished(&self) -> bool {
        self.until.is_some_and(|until| self.offset >= until)
    }
}

/// The brokers are away, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// No broker answers; the consumer goes on trying, within the cluster's timeout.
    Began,
    /// One answers again.
    Ended,
}

/// Is told of outages.
type OutageWatcher = Box<dyn FnMut(Outage) + Send>;

enum FetchEvent {
    Answered { node: i32, address: String, answer: Result<FetchResponse, Error> },
    Refreshed(Result<Leaders, Error>),
}

/// A consumer of one topic, without a group.
pub struct Consumer {
    cluster: Arc<Cluster>,
    topic: Arc<str>,
    settings: Settings,
    positions: Vec<Assignment>,
    leaders: HashMap<i32, i32>,
    nodes: HashMap<i32, Arc<Connection>>,
    asked: HashSet<i32>,
    /// Nodes that are skipped until metadata are refreshed, because their errors showed ours to be stale.
    resting: HashSet<i32>,
    is_refreshing: bool,
    needs_metadata: bool,
    /// By node.
    failing_since: HashMap<i32, Instant>,
    first_position: usize,
    work: FuturesUnordered<BoxFuture<'static, FetchEvent>>,
    /// When a broker last answered, or the caller last began to wait.
    heard: Instant,
    is_away: bool,
    outage_watcher: Option<OutageWatcher>,
}

impl Consumer {
    /// Connects to the leaders of the topic. Offsets are not checked: [`Consumer::poll`] reports one that is
    /// out of range.
    pub async fn open(
        cluster: Arc<Cluster>,
        topic: &str,
        assignments: Vec<Assignment>,
        settings: Settings,
    ) -> Result<Consumer, Error> {
        let leaders = cluster.leaders(topic, false).await?;
        let mut consumer = Consumer {
            cluster,
            topic: Arc::from(topic),
            settings,
            positions: assignments,
            leaders: HashMap::new(),
            nodes: HashMap::new(),
            asked: HashSet::new(),
            resting: HashSet::new(),
            is_refreshing: false,
            needs_metadata: false,
            failing_since: HashMap::new(),
            first_position: 0,
            work: FuturesUnordered::new(),
            heard: Instant::now(),
            is_away: false,
            outage_watcher: None,
        };
        consumer.adopt(leaders)?;
        Ok(consumer)
    }

    /// The position: the next offset to read of each partition.
    pub fn positions(&self) -> &[Assignment] {
        &self.positions
    }

    /// Calls `watcher` when no broker answers any more, and when one does again.
    pub fn on_outage(&mut self, watcher: impl FnMut(Outage) + Send + 'static) {
        self.outage_watcher = Some(Box::new(watcher));
    }

    fn tell(&mut self, outage: Outage) {
        self.is_away = outage == Outage::Began;
        if let Some(watcher) = &mut self.outage_watcher {
            watcher(outage);
        }
    }

    /// The next records; `None` once every partition has been read up to its `until`.
    pub async fn poll(&mut self) -> Result<Option<Vec<Fetched>>, Error> {
        // Nobody listened while the caller was busy.
        self.heard = Instant::now();
        loop {
            if self.positions.iter().all(Assignment::is_finished) {
                return Ok(None);
            }
            self.launch()?;
            let silent = self.heard + self.settings.wait_max + SILENCE_MAX;
            let done = tokio::select! {
                done = self.work.next() => done,
                () = tokio::time::sleep_until(silent), if !self.is_away => {
                    self.tell(Outage::Began);
                    continue;
                }
            };
            let Some(done) = done else {
                return Err(Error::misused(
                    "the consumer has nothing to wait for; this is a fault of the client",
                ));
            };
            let fetched = self.settle(done)?;
            if !fetched.is_empty() {
                // The next fetch is in flight while the caller works.
                self.launch()?;
                return Ok(Some(fetched));
            }
        }
    }

    fn settle(&mut self, done: FetchEvent) -> Result<Vec<Fetched>, Error> {
        match done {
            FetchEvent::Answered { node, address, answer } => {
                self.asked.remove(&node);
                match answer {
                    Ok(response) => self.take(node, &address, response),
                    Err(error) => self.tolerate(node, error).map(|()| Vec::new()),
                }
            }
            FetchEvent::Refreshed(leaders) => {
                self.is_refreshing = false;
                self.resting.clear();
                match leaders {
                    Ok(leaders) => self.adopt(leaders)?,
                    Err(error) => self.tolerate(NO_NODE, error)?,
                }
                Ok(Vec::new())
            }
        }
    }

    /// Tolerates a node's retriable errors for up to the cluster's timeout.
    fn tolerate(&mut self, node: i32, error: Error) -> Result<(), Error> {
        let since = self.failing_since.entry(node).or_insert_with(Instant::now);
        if !error.is_retriable() || since.elapsed() > self.cluster.timeout() {
            return Err(error);
        }
        self.needs_metadata = true;
        self.resting.insert(node);
        Ok(())
    }

    fn adopt(&mut self, leaders: Leaders) -> Result<(), Error> {
        let partitions = leaders.topic.partitions.iter();
        self.leaders = partitions.map(|partition| (partition.index, partition.leader)).collect();
        if let Some(missing) = self.positions.iter().find(|at| !self.leaders.contains_key(&at.partition)) {
            let name = self.cluster.name();
            let about = About {
                address: &name,
                topic: Some(&self.topic),
                partition: Some(missing.partition),
                message: None,
            };
            return Err(Error::kafka(kernel::ErrorCode::UnknownTopicOrPartition, about));
        }
        self.failing_since.retain(|node, _| leaders.nodes.iter().any(|(leader, _)| leader == node));
        for (node, connection) in leaders.nodes {
            match connection {
                Ok(connection) => drop(self.nodes.insert(node, connection)),
                Err(error) => self.tolerate(node, error)?,
            }
        }
        Ok(())
    }

    /// Starts fetches so that every unfinished partition has one in flight.
    fn launch(&mut self) -> Result<(), Error> {
        self.first_position += 1;
        let mut by_node: HashMap<i32, Vec<Assignment>> = HashMap::new();
        for step in 0..self.positions.len() {
            // Rotates the first partition; otherwise full responses would always hold the same ones.
            let at = self.positions[(self.first_position + step) % self.positions.len()];
            if at.is_finished() {
                continue;
            }
            let leader = self.leaders.get(&at.partition).copied().unwrap_or(-1);
            match self.nodes.get(&leader) {
                Some(connection) if !connection.is_closed() => by_node.entry(leader).or_default().push(at),
                _ => self.needs_metadata = true,
            }
        }
        if self.needs_metadata && !self.is_refreshing {
            self.refresh();
        }
        for (node, positions) in by_node {
            if !self.asked.contains(&node) && !self.resting.contains(&node) {
                self.fetch(node, &positions)?;
            }
        }
        Ok(())
    }

    fn refresh(&mut self) {
        self.needs_metadata = false;
        self.is_refreshing = true;
        let (cluster, topic) = (Arc::clone(&self.cluster), Arc::clone(&self.topic));
        self.work.push(Box::pin(async move {
            tokio::time::sleep(BACKOFF).await;
            FetchEvent::Refreshed(cluster.leaders(&topic, false).await)
        }));
    }

    fn fetch(&mut self, node: i32, positions: &[Assignment]) -> Result<(), Error> {
        let Some(connection) = self.nodes.get(&node).cloned() else { return Ok(()) };
        let version = connection.version::<FetchRequest>()?;
        let pending = connection.send(version, &self.request(positions));
        let timeout = self.settings.wait_max + self.cluster.timeout();
        self.asked.insert(node);
        self.work.push(Box::pin(async move {
            let answer = match pending {
                Ok(pending) => pending.within(timeout).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &answer {
                connection.close(error.clone());
            }
            FetchEvent::Answered { node, address: connection.address().to_owned(), answer }
        }));
        Ok(())
    }

    fn request(&self, positions: &[Assignment]) -> FetchRequest {
        let partitions = positions.iter().map(|at| {
            FetchPartition::default()
                .with_partition(at.partition)
                .with_fetch_offset(at.offset)
                .with_partition_max_bytes(self.settings.partition_bytes_max)
        });
        let topic = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_string(self.topic.to_string())))
            .with_partitions(partitions.collect());
        // The defaults are those of a consumer without a fetch session.
        FetchRequest::default()
            .with_max_wait_ms(i32::try_from(self.settings.wait_max.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(self.settings.bytes_min)
            .with_max_bytes(self.settings.bytes_max)
            .with_isolation_level(self.settings.isolation.level())
            .with_topics(vec![topic])
    }

    fn take(&mut self, node: i32, address: &str, response: FetchResponse) -> Result<Vec<Fetched>, Error> {
        if let Err(error) = Error::check(response.error_code, About { address, ..About::default() }) {
            return self.tolerate(node, error).map(|()| Vec::new());
        }
        let mut fetched = Vec::new();
        for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            if let Some(part) = self.take_partition(node, address, data)? {
                fetched.push(part);
            }
        }
        Ok(fetched)
    }

    fn take_partition(
        &mut self,
        node: i32,
        address: &str,
        data: PartitionData,
    ) -> Result<Option<Fetched>, Error> {
        let topic = Arc::clone(&self.topic);
        let partition = data.partition_index;
        let about = About { address, topic: Some(&topic), partition: Some(partition), message: None };
        if let Err(error) = Error::check(data.error_code, about) {
            return self.tolerate(node, error).map(|()| None);
        }
        self.failing_since.remove(&node);
        self.heard = Instant::now();
        if self.is_away {
            self.tell(Outage::Ended);
        }
        let Some(at) = self.positions.iter_mut().find(|at| at.partition == partition) else {
            return Err(Error::malformed(
                address,
                format!("records of partition {partition}, which was not asked for"),
            ));
        };
        let fetched = Fetched::read(topic, *at, data, self.settings.isolation);
        let fetched = fetched.map_err(|cause| Error::malformed(address, cause))?;
        if let Some(next) = fetched.next_offset() {
            at.offset = at.offset.max(next);
        }
        Ok((!fetched.is_empty()).then_some(fetched))
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
