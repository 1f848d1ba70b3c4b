//! ListOffsets: the first and last offsets of partitions, and offsets by timestamp.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::cluster::{Cluster, Topic};
use super::connection::Connection;
use super::error::{About, Error};
use super::isolation::Isolation;
use super::retry::Retry;

/// The timestamp that requests the log start offset.
pub const EARLIEST: i64 = -2;
/// The timestamp that requests the log end offset.
pub const LATEST: i64 = -1;

impl Cluster {
    /// For each (partition, timestamp in ms since the epoch): the offset of the first record of that time or
    /// later, or `None` when there is none. [`EARLIEST`] and [`LATEST`] are timestamps too. In request order.
    pub async fn list_offsets(&self, topic: &str, asked: &[(i32, i64)]) -> Result<Vec<Option<i64>>, Error> {
        self.list_offsets_as(topic, asked, Isolation::ReadUncommitted).await
    }

    /// The same for what a reader of this isolation level sees.
    pub async fn list_offsets_as(
        &self,
        topic: &str,
        asked: &[(i32, i64)],
        isolation: Isolation,
    ) -> Result<Vec<Option<i64>>, Error> {
        let mut retry = Retry::within(self.timeout());
        loop {
            match self.list_offsets_once(topic, asked, isolation).await {
                Ok(offsets) => return Ok(offsets),
                Err(error) => retry.pause(error).await?,
            }
            self.forget(topic);
        }
    }

    /// The log start offset and log end offset of each partition.
    pub async fn ends(&self, topic: &str, partitions: &[i32]) -> Result<Vec<(i64, i64)>, Error> {
        self.ends_as(topic, partitions, Isolation::ReadUncommitted).await
    }

    /// The same for a reader of this isolation level: for one of committed records a log ends at the last stable offset.
    pub async fn ends_as(
        &self,
        topic: &str,
        partitions: &[i32],
        isolation: Isolation,
    ) -> Result<Vec<(i64, i64)>, Error> {
        let ask = |timestamp: i64| partitions.iter().map(|at| (*at, timestamp)).collect::<Vec<_>>();
        let earliest = self.list_offsets(topic, &ask(EARLIEST)).await?;
        let latest = self.list_offsets_as(topic, &ask(LATEST), isolation).await?;
        let ends = earliest.into_iter().zip(latest).map(|(earliest, latest)| earliest.zip(latest));
        let missing =
            || Error::malformed(&self.name(), format!("a partition of topic {topic:?} without an end"));
        ends.map(|end| end.ok_or_else(missing)).collect()
    }

    async fn list_offsets_once(
        &self,
        name: &str,
        asked: &[(i32, i64)],
        isolation: Isolation,
    ) -> Result<Vec<Option<i64>>, Error> {
        let topic = self.topic(name).await?;
        let mut found = vec![None; asked.len()];
        let asked_of: Vec<i32> = asked.iter().map(|(partition, _)| *partition).collect();
        for (connection, places) in self.by_leader(&topic, &asked_of).await? {
            let partitions = places.iter().map(|place| {
                let (partition, timestamp) = asked[*place];
                ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp)
            });
            let topics = vec![
                ListOffsetsTopic::default()
                    .with_name(TopicName(StrBytes::from_string(name.to_owned())))
                    .with_partitions(partitions.collect()),
            ];
            // -1: this is a client, not a replica.
            let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics);
            let request = request.with_isolation_level(isolation.level());
            let response = connection.ask(&request).await?;
            for place in places {
                found[place] = read(&response, connection.address(), name, asked[place].0)?;
            }
        }
        Ok(found)
    }

    /// Indexes into `partitions`, grouped by the connection to the leader.
    pub(super) async fn by_leader(
        &self,
        topic: &Topic,
        partitions: &[i32],
    ) -> Result<Vec<(Arc<Connection>, Vec<usize>)>, Error> {
        let mut by_leader: BTreeMap<String, (Arc<Connection>, Vec<usize>)> = BTreeMap::new();
        for (place, partition) in partitions.iter().enumerate() {
            let connection = self.leader(topic, *partition).await?;
            let address = connection.address().to_owned();
            by_leader.entry(address).or_insert_with(|| (connection, Vec::new())).1.push(place);
        }
        Ok(by_leader.into_values().collect())
    }
}

fn read(
    response: &ListOffsetsResponse,
    address: &str,
    topic: &str,
    partition: i32,
) -> Result<Option<i64>, Error> {
    let mut answered = response.topics.iter().flat_map(|topic| &topic.partitions);
    let Some(answer) = answered.find(|answer| answer.partition_index == partition) else {
        return Err(Error::malformed(
            address,
            format!("no offset of partition {partition} of topic {topic:?}"),
        ));
    };
    let about = About { address, topic: Some(topic), partition: Some(partition), ..About::default() };
    Error::check(answer.error_code, about)?;
    Ok((answer.offset >= 0).then_some(answer.offset))
}
