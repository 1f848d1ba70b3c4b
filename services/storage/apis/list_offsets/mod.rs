//! ListOffsets: a partition's earliest and latest offsets, and offsets by timestamp.
//!
//! There is no tiered storage: all records are local. A partition that a request names twice is listed once,
//! with INVALID_REQUEST.
//!
//! With `read_committed` (KIP-98) the latest offset is the last stable one. As in Kafka, a record is searched for among all
//! records, and not found if it is at that offset or later: so the maximum timestamp may be that of no record.

mod by_time;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use kernel::{Call, ErrorCode, TopicPartition};
use rules::documents::{EpochHistory, PartitionDocument};
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::epochs::{self, check_leader_epoch};
use crate::apis::common::isolation;
use crate::broker::Broker;
use crate::engines::{Isolation, StoreError};
use crate::store::{TopicRef, Topics};

/// The offset after the last record.
const LATEST: i64 = -1;
/// The log start offset.
const EARLIEST: i64 = -2;
/// The first record with the maximum timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The local log start offset (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
/// The last offset in tiered storage (KIP-1005).
const LATEST_TIERED: i64 = -5;

/// From this version on the response has a leader epoch (KIP-320).
const LEADER_EPOCH_FROM: i16 = 4;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ListOffsetsRequest = call.decode()?;
    let version = call.header.version;
    let isolation = isolation::read(request.isolation_level)?;
    call.ticket.after_writes().await;
    let (asked, repeated) = distinct(&request);
    let topics = asked.iter().map(|(topic, _)| topic_ref(topic)).collect();
    let topics = broker.store.find_topics(topics).await?;
    let places = places(&asked, &topics);
    let known = || places.iter().flatten().copied();
    let logs = broker.store.logs(known().collect()).await?;
    let from_start =
        asked.iter().any(|(_, partition)| matches!(partition.timestamp, EARLIEST | EARLIEST_LOCAL));
    let histories = broker.store.epoch_histories(known().filter(|_| from_start).collect()).await?;
    let believed = asked.iter().map(|(_, partition)| partition.current_leader_epoch).max();
    let current_epoch = broker.store.leader_epoch_against(believed, broker.clock.now_ms()).await?;
    let mut answers = Answers::default();
    for ((topic, partition), place) in asked.into_iter().zip(places) {
        let is_repeated = repeated.contains(&(topic, partition.partition_index));
        let found = match place {
            _ if is_repeated => Err(ErrorCode::InvalidRequest),
            Err(error) => Err(error),
            Ok(at) => match logs.get(at) {
                Err(error) => Err(error),
                Ok(log) => {
                    let history = histories.get(&at).map(|history| &**history);
                    let log = KnownLog { at, log, history, current_epoch, isolation };
                    find(broker, log, partition, version).await
                }
            },
        };
        answers.push(topic, response(partition.partition_index, version, found));
    }
    Ok(Some(call.reply(&ListOffsetsResponse::default().with_topics(answers.topics))?))
}

fn topic_ref(name: &TopicName) -> TopicRef {
    TopicRef::new(false, name, Uuid::nil())
}

type RequestedPartition<'a> = (&'a TopicName, &'a ListOffsetsPartition);

fn places(asked: &[RequestedPartition<'_>], topics: &Topics) -> Vec<Result<TopicPartition, ErrorCode>> {
    asked.iter().map(|(topic, partition)| topics.at(&topic_ref(topic), partition.partition_index)).collect()
}

/// Every partition once, at its first occurrence, and the duplicate ones.
fn distinct(request: &ListOffsetsRequest) -> (Vec<RequestedPartition<'_>>, HashSet<(&TopicName, i32)>) {
    let (mut asked, mut repeated) = (Vec::new(), HashSet::new());
    let mut times: HashMap<(&TopicName, i32), usize> = HashMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let place = (&topic.name, partition.partition_index);
            let times = times.entry(place).or_default();
            *times += 1;
            match *times {
                1 => asked.push((&topic.name, partition)),
                _ => {
                    repeated.insert(place);
                }
            }
        }
    }
    (asked, repeated)
}

/// The answers, grouped by topic.
#[derive(Default)]
struct Answers {
    topics: Vec<ListOffsetsTopicResponse>,
    places: HashMap<TopicName, usize>,
}

impl Answers {
    fn push(&mut self, topic: &TopicName, answer: ListOffsetsPartitionResponse) {
        let next = self.topics.len();
        let place = *self.places.entry(topic.clone()).or_insert(next);
        if place == next {
            self.topics.push(ListOffsetsTopicResponse::default().with_name(topic.clone()));
        }
        self.topics[place].partitions.push(answer);
    }
}

/// The answer for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FoundOffset {
    offset: i64,
    /// The timestamp of the record, if the request was by timestamp.
    timestamp: i64,
    leader_epoch: i32,
}

/// There is no such record.
const NOTHING: FoundOffset = FoundOffset { offset: -1, timestamp: -1, leader_epoch: -1 };

/// A partition that exists.
#[derive(Clone, Copy)]
struct KnownLog<'a> {
    at: TopicPartition,
    log: &'a PartitionDocument,
    /// Only if a log start offset was asked for.
    history: Option<&'a EpochHistory>,
    current_epoch: i32,
    isolation: Isolation,
}

async fn find(
    broker: &Broker,
    known: KnownLog<'_>,
    asked: &ListOffsetsPartition,
    version: i16,
) -> Result<FoundOffset, ErrorCode> {
    let KnownLog { at, log, history, current_epoch, isolation } = known;
    let end = isolation.end_of(log);
    check_leader_epoch(epochs::known_epoch(asked.current_leader_epoch), current_epoch)?;
    // The engine has logged the error. The other partitions are answered all the same.
    let failed = |_: StoreError| ErrorCode::KafkaStorageError;
    let edge = |offset, leader_epoch| FoundOffset { offset, timestamp: -1, leader_epoch };
    let log_start = || {
        let epoch = history.and_then(|history| history.at(log.log_start));
        edge(log.log_start, epoch.unwrap_or(log.leader_epoch))
    };
    // A record that was appended since is readable, unless it has to be committed first.
    let is_readable = |found: &FoundOffset| isolation == Isolation::ReadUncommitted || found.offset < end;
    let record = |found: Option<FoundOffset>| found.filter(is_readable).unwrap_or(NOTHING);
    Ok(match asked.timestamp {
        LATEST => edge(end, log.leader_epoch),
        EARLIEST => log_start(),
        MAX_TIMESTAMP if version >= 7 => record(by_time::latest(broker, at).await.map_err(failed)?),
        EARLIEST_LOCAL if version >= 8 => log_start(),
        LATEST_TIERED if version >= 9 => NOTHING,
        time if time >= 0 => record(by_time::first_since(broker, at, time).await.map_err(failed)?),
        _ => return Err(ErrorCode::UnsupportedVersion),
    })
}

fn response(index: i32, version: i16, found: Result<FoundOffset, ErrorCode>) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match found {
        Err(error) => response.with_error_code(error.code()),
        Ok(found) => {
            let response = response.with_offset(found.offset).with_timestamp(found.timestamp);
            if version >= LEADER_EPOCH_FROM {
                response.with_leader_epoch(found.leader_epoch)
            } else {
                response
            }
        }
    }
}
