//! Consumer groups: list, describe, read and reset committed offsets, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::consumer_group_describe_response::Member as ConsumerMember;
use kafka_protocol::messages::describe_groups_response::DescribedGroupMember;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kernel::ErrorCode;
use kernel::consumer_protocol::read_assignment;

use super::cluster::Cluster;
use super::connection::Connection;
use super::error::{About, Error};
use super::retry::Retry;

/// Kafka's coordinator type of groups.
const COORDINATES_GROUPS: i8 = 0;

/// A partition of a topic.
pub type TopicIndex = (String, i32);

/// A group in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub id: String,
    /// Kafka's name of its state; empty if the broker does not send it.
    pub state: String,
    /// Its protocol type, such as `consumer`.
    pub protocol_type: String,
    /// Kafka's group type, `classic` or `consumer`; empty if the broker does not send it.
    pub kind: String,
}

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// Kafka's name of its state.
    pub state: String,
    /// The assignor in use.
    pub assignor: String,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its member id.
    pub id: String,
    /// Its group instance id, if it is a static member.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Its host.
    pub host: String,
    /// Its assigned partitions, if it is a consumer.
    pub partitions: Vec<TopicIndex>,
}

impl Cluster {
    /// The coordinator of a group.
    async fn coordinator(&self, group: &str) -> Result<Arc<Connection>, Error> {
        let mut retry = Retry::within(self.timeout());
        loop {
            match self.coordinator_once(COORDINATES_GROUPS, group).await {
                Ok(connection) => return Ok(connection),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// The coordinator of a group or a transactional id, asked for once.
    pub(super) async fn coordinator_once(&self, key_type: i8, key: &str) -> Result<Arc<Connection>, Error> {
        let connection = self.any().await?;
        let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(key_type);
        let response = connection.ask(&request).await?;
        let about = About {
            address: connection.address(),
            message: response.error_message.as_deref(),
            ..About::default()
        };
        Error::check(response.error_code, about)?;
        self.connection_to(&response.host, response.port).await
    }

    /// All groups of all brokers, by id.
    pub async fn groups(&self) -> Result<Vec<ListedGroup>, Error> {
        self.topics().await?; // So that all brokers are known.
        let mut groups = BTreeMap::new();
        for node in self.nodes() {
            let connection = self.broker(node).await?;
            let response = connection.ask(&ListGroupsRequest::default()).await?;
            let about = About { address: connection.address(), ..About::default() };
            Error::check(response.error_code, about)?;
            for group in response.groups {
                let listed = ListedGroup {
                    id: group.group_id.to_string(),
                    state: group.group_state.to_string(),
                    protocol_type: group.protocol_type.to_string(),
                    kind: group.group_type.to_string(),
                };
                groups.insert(listed.id.clone(), listed);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// A group and its members; `None` if there is no such group.
    pub async fn describe_group(&self, id: &str) -> Result<Option<GroupDescription>, Error> {
        let connection = self.coordinator(id).await?;
        let request = DescribeGroupsRequest::default().with_groups(vec![group_id(id)]);
        let response = connection.ask(&request).await?;
        let Some(group) = response.groups.into_iter().next() else {
            return Err(Error::malformed(connection.address(), format!("an answer without group {id:?}")));
        };
        Error::check(group.error_code, About { address: connection.address(), ..About::default() })?;
        if group.group_state.as_str() == "Dead" {
            return describe_consumer_group(&connection, id).await;
        }
        Ok(Some(GroupDescription {
            id: id.to_owned(),
            state: group.group_state.to_string(),
            assignor: group.protocol_data.to_string(),
            members: group.members.iter().map(read_member).collect(),
        }))
    }

    /// The offsets that a group has committed.
    pub async fn committed(&self, id: &str) -> Result<BTreeMap<TopicIndex, i64>, Error> {
        let connection = self.coordinator(id).await?;
        let request = OffsetFetchRequest::default().with_group_id(group_id(id)).with_topics(None);
        let response = connection.ask(&request).await?;
        Error::check(response.error_code, About { address: connection.address(), ..About::default() })?;
        let mut committed = BTreeMap::new();
        for topic in &response.topics {
            for partition in &topic.partitions {
                let place = (topic.name.to_string(), partition.partition_index);
                Error::check(partition.error_code, about(connection.address(), &place))?;
                if partition.committed_offset >= 0 {
                    committed.insert(place, partition.committed_offset);
                }
            }
        }
        Ok(committed)
    }

    /// Commits offsets for a group without active members.
    pub async fn commit_for(&self, id: &str, offsets: &BTreeMap<TopicIndex, i64>) -> Result<(), Error> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let row = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset);
            topics.entry(topic).or_default().push(row.with_committed_metadata(Some(StrBytes::default())));
        }
        let topic = |(name, partitions): (&str, Vec<OffsetCommitRequestPartition>)| {
            OffsetCommitRequestTopic::default().with_name(TopicName(text(name))).with_partitions(partitions)
        };
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(id))
            .with_topics(topics.into_iter().map(topic).collect());
        let connection = self.coordinator(id).await?;
        let response = connection.ask(&request).await?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let place = (topic.name.to_string(), partition.partition_index);
                Error::check(partition.error_code, about(connection.address(), &place))?;
            }
        }
        Ok(())
    }

    /// Deletes a group that has no members, and its offsets.
    pub async fn delete_group(&self, id: &str) -> Result<(), Error> {
        let connection = self.coordinator(id).await?;
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(id)]);
        let response = connection.ask(&request).await?;
        let about = About { address: connection.address(), ..About::default() };
        match response.results.first() {
            Some(result) => Error::check(result.error_code, about),
            None => Err(Error::malformed(connection.address(), format!("an answer without group {id:?}"))),
        }
    }
}

/// A group of the consumer protocol (KIP-848), if the broker supports it.
async fn describe_consumer_group(
    connection: &Connection,
    id: &str,
) -> Result<Option<GroupDescription>, Error> {
    if connection.version::<ConsumerGroupDescribeRequest>().is_err() {
        return Ok(None);
    }
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(id)]);
    let response = connection.ask(&request).await?;
    let Some(group) = response.groups.into_iter().next() else {
        return Err(Error::malformed(connection.address(), format!("an answer without group {id:?}")));
    };
    if group.error_code == ErrorCode::GroupIdNotFound.code() {
        return Ok(None);
    }
    Error::check(group.error_code, About { address: connection.address(), ..About::default() })?;
    Ok(Some(GroupDescription {
        id: id.to_owned(),
        state: group.group_state.to_string(),
        assignor: group.assignor_name.to_string(),
        members: group.members.iter().map(read_consumer).collect(),
    }))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

fn about<'a>(address: &'a str, place: &'a TopicIndex) -> About<'a> {
    About { address, topic: Some(&place.0), partition: Some(place.1), message: None }
}

/// The assigned partitions of a classic group's member, if it is a consumer: other assignments are opaque.
fn read_member(member: &DescribedGroupMember) -> GroupMember {
    let assigned = read_assignment(&member.member_assignment).unwrap_or_default();
    let partitions = assigned
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (topic.to_string(), *partition)));
    GroupMember {
        id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        partitions: partitions.collect(),
    }
}

fn read_consumer(member: &ConsumerMember) -> GroupMember {
    let assigned = member.assignment.topic_partitions.iter();
    let mut partitions: Vec<TopicIndex> = assigned
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_name.to_string(), *partition)))
        .collect();
    partitions.sort();
    GroupMember {
        id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        partitions,
    }
}
