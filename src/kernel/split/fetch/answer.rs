//! A Fetch response, partition by partition.

use bytes::Bytes;
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, NodeEndpoint, PartitionData,
};

use super::place::{Place, TopicKey};
use super::wire;
use crate::ErrorCode;
use crate::budget::Lease;
use crate::call::{decode, encode};
use crate::malformed::Malformed;
use crate::records_later::Records;
use crate::reply::Reply;

/// A response.
#[derive(Debug, Default)]
pub struct FetchAnswer {
    /// How long the client is asked to hold back, in ms.
    pub throttle_time_ms: i32,
    /// The error of the whole request; 0 for none.
    pub error_code: i16,
    /// The session; 0 for none.
    pub session_id: i32,
    /// Its partitions in their order.
    pub partitions: Vec<FetchedPartition>,
    node_endpoints: Vec<NodeEndpoint>,
    rest: Reply,
}

/// A partition in a response.
#[derive(Debug)]
pub struct FetchedPartition {
    /// The partition.
    pub place: Place,
    data: PartitionData,
    records: Records,
}

impl FetchedPartition {
    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.records.bytes()).unwrap_or(usize::MAX)
    }

    /// Whether the client must be told at once: an error, or a log that has diverged. As in Kafka, a topic or a
    /// partition that nobody knows is not urgent.
    fn is_urgent(&self) -> bool {
        let unknown = [ErrorCode::UnknownTopicOrPartition.code(), ErrorCode::UnknownTopicId.code()];
        let has_failed = self.data.error_code != 0 && !unknown.contains(&self.data.error_code);
        has_failed || self.data.diverging_epoch != EpochEndOffset::default()
    }
}

impl FetchAnswer {
    /// Takes a reply apart.
    ///
    /// # Errors
    /// It is not a Fetch response of this version.
    pub fn read(version: i16, mut reply: Reply) -> Result<Self, Malformed> {
        let (body, records) = wire::open(&mut reply);
        let response: FetchResponse = decode(&body, version)?;
        let mut records = records.into_iter();
        let mut partitions = Vec::new();
        for topic in response.responses {
            let key = TopicKey::new(version, &topic.topic, topic.topic_id);
            for mut data in topic.partitions {
                let inside = data.records.replace(Bytes::new()).unwrap_or_default();
                let records = records.next().unwrap_or_else(|| Records::from(inside));
                let place = Place { topic: key.clone(), partition: data.partition_index };
                partitions.push(FetchedPartition { place, data, records });
            }
        }
        Ok(Self {
            throttle_time_ms: response.throttle_time_ms,
            error_code: response.error_code,
            session_id: response.session_id,
            partitions,
            node_endpoints: response.node_endpoints,
            rest: reply,
        })
    }

    /// A response with an error of the whole request.
    pub fn failed(error: ErrorCode) -> Self {
        Self { error_code: error.code(), ..Self::default() }
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.partitions.iter().map(FetchedPartition::bytes).sum()
    }

    /// Whether the client must be told at once.
    pub fn is_urgent(&self) -> bool {
        self.error_code != 0 || self.partitions.iter().any(FetchedPartition::is_urgent)
    }

    /// Adds another response's partitions after these, and its other fields to these. The first error counts; the
    /// session stays.
    pub fn join(&mut self, other: FetchAnswer) {
        self.throttle_time_ms = self.throttle_time_ms.max(other.throttle_time_ms);
        if self.error_code == 0 {
            self.error_code = other.error_code;
        }
        self.partitions.extend(other.partitions);
        self.node_endpoints.extend(other.node_endpoints);
        self.rest.mute = self.rest.mute.max(other.rest.mute);
        self.rest.close |= other.rest.close;
        self.rest.lease.join(other.rest.lease);
    }

    /// The reply. Adjacent partitions of one topic are together, as in Kafka.
    ///
    /// # Errors
    /// A field is set that this version lacks.
    pub fn write(self, version: i16) -> Result<Reply, Malformed> {
        let mut topics: Vec<FetchableTopicResponse> = Vec::new();
        let mut records = Vec::with_capacity(self.partitions.len());
        let mut last: Option<TopicKey> = None;
        for FetchedPartition { place: Place { topic, .. }, data, records: own } in self.partitions {
            records.push(own);
            if last.as_ref() != Some(&topic) {
                let response = FetchableTopicResponse::default().with_topic(topic.wire_name());
                topics.push(response.with_topic_id(topic.wire_id()));
            }
            if let Some(response) = topics.last_mut() {
                response.partitions.push(data);
            }
            last = Some(topic);
        }
        let response = FetchResponse::default()
            .with_throttle_time_ms(self.throttle_time_ms)
            .with_error_code(self.error_code)
            .with_session_id(self.session_id)
            .with_node_endpoints(self.node_endpoints)
            .with_responses(topics);
        let mut reply = self.rest;
        wire::close(&mut reply, encode(&response, version)?, records);
        Ok(reply)
    }

    /// Lets go of the records, as if there were none, and of what a reader of committed records would skip of them, and of
    /// the reply memory that they hold. The client asks for them again.
    pub fn release_records(&mut self) {
        for FetchedPartition { data, records, .. } in &mut self.partitions {
            *records = Records::default();
            if let Some(aborted) = &mut data.aborted_transactions {
                *aborted = Vec::new();
            }
        }
        self.rest.lease = Lease::default();
    }

    /// The same without partitions; for an answer that is an error.
    pub fn without_partitions(mut self) -> Self {
        self.release_records();
        self.partitions.clear();
        self
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::AbortedTransaction;

    use super::*;

    /// A response of a partition that has records of an aborted transaction.
    fn answer() -> FetchAnswer {
        let aborted = AbortedTransaction::default().with_producer_id(7.into()).with_first_offset(3);
        let data = PartitionData::default()
            .with_last_stable_offset(5)
            .with_aborted_transactions(Some(vec![aborted]))
            .with_records(Some(Bytes::from_static(b"records")));
        let topic = FetchableTopicResponse::default().with_partitions(vec![data]);
        let body = encode(&FetchResponse::default().with_responses(vec![topic]), 12).unwrap();
        FetchAnswer::read(12, Reply::new(body)).unwrap()
    }

    fn told(answer: FetchAnswer) -> PartitionData {
        let reply = answer.write(12).unwrap();
        let response: FetchResponse = decode(&reply.body, 12).unwrap();
        response.responses[0].partitions[0].clone()
    }

    #[test]
    fn aborted_transactions_go_with_the_records_that_they_are_about() {
        let data = told(answer());
        assert_eq!((data.last_stable_offset, data.aborted_transactions.map(|list| list.len())), (5, Some(1)));
        let mut released = answer();
        released.release_records();
        let data = told(released);
        assert_eq!((data.last_stable_offset, data.aborted_transactions), (5, Some(Vec::new())));
    }
}
