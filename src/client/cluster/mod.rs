//! The brokers behind a bootstrap list: partition leaders, and a connection to each broker.
//!
//! Metadata are kept until a response shows that they are stale. There is one connection per address, so a
//! [`Consumer`](super::Consumer) that parks a fetch on it delays later requests on it: requests that must not
//! wait need a separate cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use kernel::ErrorCode;
use parking_lot::Mutex;

use super::connection::Connection;
use super::error::{About, Error};
use super::retry::Retry;

mod topic;

pub use topic::{Partition, Topic};
use topic::{host_port, read_topic};

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bootstrap brokers, as host:port.
    pub bootstrap: Vec<String>,
    /// The client id.
    pub client_id: String,
    /// The time limit of a request including its retries.
    pub timeout: Duration,
}

/// A cluster; share it behind an `Arc`.
pub struct Cluster {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    brokers: BTreeMap<i32, Arc<str>>,
    controller: i32,
    topics: HashMap<String, Arc<Topic>>,
    connections: HashMap<Arc<str>, Arc<Connection>>,
}

/// A topic, and a connection (or the error) to each node that leads a partition of it.
#[derive(Debug)]
pub(crate) struct Leaders {
    pub(crate) topic: Arc<Topic>,
    pub(crate) nodes: Vec<(i32, Result<Arc<Connection>, Error>)>,
}

impl Cluster {
    /// Connects to the first bootstrap broker that answers. There are no retries: a user who starts a command
    /// before the broker should see the error.
    pub async fn connect(settings: Settings) -> Result<Cluster, Error> {
        let cluster = Cluster { settings, state: Mutex::new(State { controller: -1, ..State::default() }) };
        cluster.any().await?;
        Ok(cluster)
    }

    /// The time limit of a request.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The bootstrap list as one string, for messages.
    pub fn name(&self) -> String {
        self.settings.bootstrap.join(",")
    }

    /// A connection to any broker: an open one, else to a known broker, else to a bootstrap broker.
    pub async fn any(&self) -> Result<Arc<Connection>, Error> {
        let mut addresses: Vec<Arc<str>> = Vec::new();
        {
            let state = self.state.lock();
            let open = state.connections.values().find(|connection| !connection.is_closed());
            if let Some(open) = open {
                return Ok(Arc::clone(open));
            }
            addresses.extend(state.brokers.values().cloned());
        }
        addresses.extend(self.settings.bootstrap.iter().map(|address| Arc::<str>::from(address.as_str())));
        let mut failures = Vec::new();
        for address in addresses {
            match self.connection(&address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failures.push(error),
            }
        }
        Err(Error::joined(failures)
            .unwrap_or_else(|| Error::misused("the bootstrap list is empty; name a broker as host:port")))
    }

    /// A connection to this address.
    async fn connection(&self, address: &str) -> Result<Arc<Connection>, Error> {
        let open =
            self.state.lock().connections.get(address).filter(|connection| !connection.is_closed()).cloned();
        if let Some(open) = open {
            return Ok(open);
        }
        let Settings { client_id, timeout, .. } = &self.settings;
        let connection = Arc::new(Connection::connect(address, client_id, *timeout).await?);
        self.state.lock().connections.insert(Arc::from(address), Arc::clone(&connection));
        Ok(connection)
    }

    /// A connection to a broker from the metadata.
    pub(super) async fn connection_to(&self, host: &str, port: i32) -> Result<Arc<Connection>, Error> {
        self.connection(&host_port(host, port)).await
    }

    /// The known nodes.
    pub(super) fn nodes(&self) -> Vec<i32> {
        self.state.lock().brokers.keys().copied().collect()
    }

    /// The address of a node.
    pub fn address(&self, node: i32) -> Option<Arc<str>> {
        self.state.lock().brokers.get(&node).cloned()
    }

    /// A connection to a node.
    pub async fn broker(&self, node: i32) -> Result<Arc<Connection>, Error> {
        match self.address(node) {
            Some(address) => self.connection(&address).await,
            None => Err(Error::kafka(
                ErrorCode::LeaderNotAvailable,
                About { address: &self.name(), message: Some("no broker leads it"), ..About::default() },
            )),
        }
    }

    /// A connection to the controller.
    pub async fn controller(&self) -> Result<Arc<Connection>, Error> {
        let controller = self.state.lock().controller;
        match self.address(controller) {
            Some(address) => self.connection(&address).await,
            None => self.any().await,
        }
    }

    /// All topics, by name.
    pub async fn topics(&self) -> Result<Vec<Arc<Topic>>, Error> {
        let mut retry = Retry::within(self.timeout());
        loop {
            let error = match self.ask_metadata(None, false).await {
                Ok((connection, response)) => return self.all_topics(connection.address(), &response),
                Err(error) => error,
            };
            retry.pause(error).await?;
        }
    }

    fn all_topics(&self, address: &str, response: &MetadataResponse) -> Result<Vec<Arc<Topic>>, Error> {
        let mut topics = Vec::with_capacity(response.topics.len());
        for topic in &response.topics {
            let name = topic.name.as_deref().map(|name| &**name);
            Error::check(topic.error_code, About { address, topic: name, ..About::default() })?;
            topics.push(self.learned(name)?);
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    fn learned(&self, name: Option<&str>) -> Result<Arc<Topic>, Error> {
        let topic = name.and_then(|name| self.state.lock().topics.get(name).cloned());
        topic.ok_or_else(|| {
            Error::malformed(&self.name(), format!("metadata without sense for topic {name:?}"))
        })
    }

    /// A topic, from cached metadata or from the cluster.
    pub async fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let known = self.state.lock().topics.get(name).cloned();
        match known {
            Some(topic) => Ok(topic),
            None => self.refresh(name, false).await,
        }
    }

    /// A topic, from the cluster; `create` lets the broker create it, if auto-creation is enabled.
    pub async fn refresh(&self, name: &str, create: bool) -> Result<Arc<Topic>, Error> {
        let mut retry = Retry::within(self.timeout());
        if create {
            retry = retry.unknown_topics(10);
        }
        loop {
            match self.refresh_once(name, create).await {
                Ok(topic) => return Ok(topic),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    async fn refresh_once(&self, name: &str, create: bool) -> Result<Arc<Topic>, Error> {
        let (connection, response) = self.ask_metadata(Some(name), create).await?;
        let answered = response
            .topics
            .iter()
            .find(|topic| topic.name.as_deref().is_some_and(|answered| &**answered == name));
        let code =
            answered.map(|topic| topic.error_code).unwrap_or(ErrorCode::UnknownTopicOrPartition.code());
        Error::check(code, About { address: connection.address(), topic: Some(name), ..About::default() })?;
        self.learned(Some(name))
    }

    async fn ask_metadata(
        &self,
        topic: Option<&str>,
        create: bool,
    ) -> Result<(Arc<Connection>, MetadataResponse), Error> {
        let topics = topic.map(|name| {
            vec![
                MetadataRequestTopic::default()
                    .with_name(Some(TopicName(StrBytes::from_string(name.to_owned())))),
            ]
        });
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(create);
        let connection = self.any().await?;
        let response = connection.ask(&request).await?;
        self.learn(&response);
        Ok((connection, response))
    }

    fn learn(&self, response: &MetadataResponse) {
        let mut state = self.state.lock();
        let brokers = response.brokers.iter();
        state.brokers =
            brokers.map(|broker| (broker.node_id.0, host_port(&broker.host, broker.port))).collect();
        state.controller = response.controller_id.0;
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref() else { continue };
            match read_topic(name, topic) {
                Some(topic) => drop(state.topics.insert(name.to_string(), Arc::new(topic))),
                None => drop(state.topics.remove(&**name)),
            }
        }
    }

    /// Fresh metadata of a topic, and connections to its leaders.
    pub(crate) async fn leaders(&self, name: &str, create: bool) -> Result<Leaders, Error> {
        let topic = self.refresh(name, create).await?;
        let leaders: BTreeSet<i32> = topic.partitions.iter().map(|partition| partition.leader).collect();
        let mut nodes = Vec::with_capacity(leaders.len());
        for node in leaders {
            nodes.push((node, self.broker(node).await));
        }
        Ok(Leaders { topic, nodes })
    }

    /// A connection to the leader of a partition, by cached metadata.
    pub(crate) async fn leader(&self, topic: &Topic, partition: i32) -> Result<Arc<Connection>, Error> {
        let found = usize::try_from(partition).ok().and_then(|index| topic.partitions.get(index));
        let Some(partition) = found else {
            let about = About {
                address: &self.name(),
                topic: Some(&topic.name),
                partition: Some(partition),
                ..About::default()
            };
            return Err(Error::kafka(ErrorCode::UnknownTopicOrPartition, about));
        };
        self.broker(partition.leader).await
    }

    /// Drops the cached metadata of a topic, after a response that showed it to be stale.
    pub fn forget(&self, topic: &str) {
        self.state.lock().topics.remove(topic);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
