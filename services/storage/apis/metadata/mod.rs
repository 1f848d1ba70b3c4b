//! Metadata: the brokers, and the topics with their partitions.
//!
//! A topic that is created on demand is in the same response. Kafka answers UNKNOWN_TOPIC_OR_PARTITION until
//! its brokers have the new metadata, which costs every client a round of retries.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use kernel::{Call, ErrorCode, Ticket, TopicId};
use rules::commands::Command;
use rules::documents::TopicDocument;
use rules::topics::check_topic_name;
use tracing::warn;
use uuid::Uuid;

use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::{operations, text, topics, yielding};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::nodes::{Cluster, Listed};

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: MetadataRequest = call.decode()?;
    let asked = RequestedTopics::of(&request, call.header.version)?;
    let mut failures = HashMap::new();
    if let RequestedTopics::Names(names) = &asked
        && request.allow_auto_topic_creation
        && broker.settings.auto_create_topics
    {
        // Before the call is marked as a read: the topics that it creates must be queued in order.
        failures = create_missing(broker, &call.ticket, names).await?;
    }
    call.ticket.after_writes().await;
    let view = View::of(broker, call, &request).await?;
    let topics = match asked {
        RequestedTopics::All => {
            let topics = broker.store.topics().await?;
            yielding::each(topics.iter(), |topic| view.topic(topic)).await
        }
        RequestedTopics::Names(names) => view.by_name(broker, &names, &failures).await?,
        RequestedTopics::Ids(ids) => view.by_id(broker, ids).await?,
    };
    let mut response = MetadataResponse::default()
        .with_brokers(view.cluster.brokers().iter().map(listed).collect())
        .with_cluster_id(Some(text::str_bytes(&broker.node.cluster_id)))
        .with_controller_id(BrokerId(view.cluster.controller().0))
        .with_topics(topics);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = operations::CLUSTER_OPERATIONS;
    }
    Ok(Some(call.reply(&response)?))
}

fn listed(broker: &Listed) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(broker.id.0))
        .with_host(text::str_bytes(&broker.address.host))
        .with_port(i32::from(broker.address.port))
        .with_rack(broker.rack.as_deref().map(text::str_bytes))
}

/// The requested topics, without duplicates.
enum RequestedTopics {
    All,
    Names(Vec<Arc<str>>),
    Ids(Vec<TopicId>),
}

impl RequestedTopics {
    fn of(request: &MetadataRequest, version: i16) -> Result<Self, ApiError> {
        let invalid = |why: &str| Err(ApiError::Refused(ErrorCode::InvalidRequest, why.to_owned()));
        let Some(topics) = &request.topics else { return Ok(RequestedTopics::All) };
        if version == 0 && topics.is_empty() {
            return Ok(RequestedTopics::All);
        }
        let has_ids = topics.iter().any(|topic| !topic.topic_id.is_nil());
        if version < 12 && (has_ids || topics.iter().any(|topic| topic.name.is_none())) {
            // The schema has topic ids from version 10 on; Kafka looks topics up by id from version 12 on.
            return invalid("a topic is found by its id from version 12 of Metadata on");
        }
        if has_ids {
            // If there is an id, Kafka uses only ids and ignores all names.
            let ids = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil());
            return Ok(RequestedTopics::Ids(unique(ids.map(TopicId))));
        }
        let mut names: Vec<Arc<str>> = Vec::with_capacity(topics.len());
        for topic in topics {
            match &topic.name {
                Some(name) => names.push(Arc::from(name.as_str())),
                None => return invalid("a topic has neither a name nor an id"),
            }
        }
        Ok(RequestedTopics::Names(unique(names.into_iter())))
    }
}

fn unique<T: Clone + Eq + Hash>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.filter(|item| seen.insert(item.clone())).collect()
}

/// Creates the missing topics, at most as many as one CreateTopics may. A client asks again for the others, which are
/// still unknown. Returns the errors of those that could not be created.
pub(crate) async fn create_missing(
    broker: &Broker,
    ticket: &Ticket,
    names: &[Arc<str>],
) -> Result<HashMap<Arc<str>, ErrorCode>, StoreError> {
    let found = broker.store.topics_by_name(names.to_vec()).await?;
    // Yagura keeps no state in topics, so that an internal topic would always stay empty.
    let can_create = |name: &&Arc<str>| {
        let name: &str = name;
        check_topic_name(name).is_ok() && !topics::is_internal(name) && name != topics::CLUSTER_METADATA_TOPIC
    };
    let partitions = i64::from(broker.settings.default_partitions);
    let created_max = usize::try_from(topics::PARTITIONS_CREATED_MAX / partitions).unwrap_or(1).max(1);
    let missing = names.iter().filter(|name| !found.contains_key(*name)).filter(can_create).take(created_max);
    let missing: Vec<Arc<str>> = missing.cloned().collect();
    if missing.is_empty() {
        return Ok(HashMap::new());
    }
    let create = |name: &Arc<str>| Command::CreateTopic {
        name: Arc::clone(name),
        id: broker.fresh_topic_id(),
        partitions: broker.settings.default_partitions,
        configs: BTreeMap::new(),
    };
    match broker.store.commit(ticket, missing.iter().map(create).collect()).await {
        Ok(outcomes) => {
            let refused = missing.into_iter().zip(outcomes).filter_map(|(name, outcome)| {
                let error = outcome.err()?.error;
                // Another client, or an earlier call of this one, created it first.
                (error != ErrorCode::TopicAlreadyExists).then_some((name, error))
            });
            Ok(refused.collect())
        }
        // The existing topics can still be answered.
        Err(error) => {
            warn!(%error, "topics could not be created on demand");
            Ok(missing.into_iter().map(|name| (name, ErrorCode::KafkaStorageError)).collect())
        }
    }
}

/// What the response for a topic depends on.
struct View {
    cluster: Cluster,
    /// The same for all partitions, so that thousands of their documents need not be read for it.
    leader_epoch: i32,
    operations: i32,
}

impl View {
    async fn of(broker: &Broker, call: &Call, request: &MetadataRequest) -> Result<Self, StoreError> {
        let operations = if request.include_topic_authorized_operations {
            operations::TOPIC_OPERATIONS
        } else {
            operations::OPERATIONS_NOT_ASKED
        };
        let leader_epoch = broker.store.leader_epoch().await?;
        Ok(Self { cluster: broker.nodes.cluster(&call.session), leader_epoch, operations })
    }

    async fn by_name(
        &self,
        broker: &Broker,
        names: &[Arc<str>],
        failures: &HashMap<Arc<str>, ErrorCode>,
    ) -> Result<Vec<MetadataResponseTopic>, StoreError> {
        let found = broker.store.topics_by_name(names.to_vec()).await?;
        let answer = |name: &Arc<str>| match found.get(name) {
            Some(topic) => self.topic(topic),
            None => {
                let invalid = check_topic_name(name).err().map(|refused| refused.error);
                let error = invalid.or_else(|| failures.get(name).copied());
                self.failed(Some(&**name), Uuid::nil(), error.unwrap_or(ErrorCode::UnknownTopicOrPartition))
            }
        };
        Ok(yielding::each(names, answer).await)
    }

    async fn by_id(
        &self,
        broker: &Broker,
        ids: Vec<TopicId>,
    ) -> Result<Vec<MetadataResponseTopic>, StoreError> {
        let found = broker.store.topics_by_id(ids.clone()).await?;
        let answer = |id: &TopicId| match found.get(id) {
            Some(topic) => self.topic(topic),
            None => self.failed(None, id.0, ErrorCode::UnknownTopicId),
        };
        Ok(yielding::each(&ids, answer).await)
    }

    fn topic(&self, topic: &TopicDocument) -> MetadataResponseTopic {
        let partition = |index: i32| {
            let leader = BrokerId(self.cluster.leader(topic.at(index)).0);
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(leader)
                .with_leader_epoch(self.leader_epoch)
                .with_replica_nodes(vec![leader])
                .with_isr_nodes(vec![leader])
        };
        MetadataResponseTopic::default()
            .with_name(Some(text::topic_name(&topic.name)))
            .with_topic_id(topic.id.0)
            .with_is_internal(topics::is_internal(&topic.name))
            .with_partitions((0..topic.partitions).map(partition).collect())
            .with_topic_authorized_operations(self.operations)
    }

    fn failed(&self, name: Option<&str>, id: Uuid, error: ErrorCode) -> MetadataResponseTopic {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(name.map(text::topic_name))
            .with_topic_id(id)
            .with_is_internal(name.is_some_and(topics::is_internal))
            .with_topic_authorized_operations(self.operations)
    }
}

#[cfg(test)]
mod tests;
