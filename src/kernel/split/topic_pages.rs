//! DescribeTopicPartitions (KIP-966): topics by name, in pages. The limit of partitions and the cursor are those of
//! all parts together.

use bytes::Bytes;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};

use super::division::{Division, Merger, Part, Splitter, Whole};
use super::key::ItemKey;
use crate::api::Api;
use crate::call::{decode, encode};
use crate::malformed::Malformed;
use crate::schema::walk::{Found, RawValue};

/// Upper bound on the client's limit of partitions: Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2000;

pub(super) const SPLITTER: Splitter = Splitter { api: Api::DESCRIBE_TOPIC_PARTITIONS, is_for_all, divide };

fn is_for_all(_: i16, found: &Found<'_>) -> bool {
    found.field.name == "Topics" && found.value == RawValue::Array(0)
}

fn divide(whole: &Whole<'_>) -> Result<Division, Malformed> {
    let version = whole.version;
    let mut request: DescribeTopicPartitionsRequest = decode(whole.body, version)?;
    // From 1 to 2000.
    let limit = request.response_partition_limit.clamp(1, PARTITIONS_MAX) as usize;
    let parts = if whole.is_for_all {
        whole.owners.iter().map(|owner| Part { owner: *owner, body: whole.body.clone() }).collect()
    } else {
        let topics = std::mem::take(&mut request.topics);
        parts(whole, &request, topics)?
    };
    let owners: Vec<usize> = parts.iter().map(|part| part.owner).collect();
    let merger = Merger(Box::new(move |bodies, owner| {
        let is_own = |part: usize, topic: &TopicName| owner(&ItemKey::topic(topic)) == owners[part];
        merge(&bodies, version, limit, is_own)
    }));
    Ok(Division { parts, merger })
}

/// The parts of a request by name, without the topics before the cursor. A cursor must name a topic of its request,
/// or else it is refused; so only the part with that topic has it. One that no part could have goes to all of them.
fn parts(
    whole: &Whole<'_>,
    request: &DescribeTopicPartitionsRequest,
    topics: Vec<TopicRequest>,
) -> Result<Vec<Part>, Malformed> {
    let cursor = request.cursor.as_ref();
    let named = cursor.filter(|cursor| topics.iter().any(|topic| topic.name == cursor.topic_name));
    let mut shares: Vec<(usize, Vec<TopicRequest>)> = Vec::new();
    for topic in topics {
        if named.is_some_and(|cursor| topic.name < cursor.topic_name) {
            continue;
        }
        let owner = (whole.owner)(&ItemKey::topic(&topic.name));
        match shares.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, share)) => share.push(topic),
            None => shares.push((owner, vec![topic])),
        }
    }
    let mut parts = Vec::with_capacity(shares.len());
    for (owner, topics) in shares {
        let mut part = request.clone();
        if named.is_some_and(|cursor| topics.iter().all(|topic| topic.name != cursor.topic_name)) {
            part.cursor = None;
        }
        part.topics = topics;
        parts.push(Part { owner, body: encode(&part, whole.version)? });
    }
    Ok(parts)
}

fn merge(
    bodies: &[Bytes],
    version: i16,
    limit: usize,
    is_own: impl Fn(usize, &TopicName) -> bool,
) -> Result<Bytes, Malformed> {
    let mut merged = DescribeTopicPartitionsResponse::default();
    let mut topics = Vec::new();
    // The first place that some part has not looked at.
    let mut horizon: Option<Cursor> = None;
    for (part, body) in bodies.iter().enumerate() {
        let response: DescribeTopicPartitionsResponse = decode(body, version)?;
        merged.throttle_time_ms = merged.throttle_time_ms.max(response.throttle_time_ms);
        let own = |topic: &DescribeTopicPartitionsResponseTopic| {
            topic.name.as_ref().is_none_or(|name| is_own(part, name))
        };
        topics.extend(response.topics.into_iter().filter(own));
        horizon = earlier(horizon, response.next_cursor);
    }
    topics.sort_by(|one, other| one.name.cmp(&other.name));
    fill(&mut merged, topics, limit, horizon);
    encode(&merged, version)
}

fn earlier(one: Option<Cursor>, other: Option<Cursor>) -> Option<Cursor> {
    let place = |cursor: &Cursor| (cursor.topic_name.clone(), cursor.partition_index);
    one.into_iter().chain(other).min_by_key(place)
}

/// Fills the page up to the limit of partitions, and not beyond the horizon.
fn fill(
    page: &mut DescribeTopicPartitionsResponse,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    limit: usize,
    horizon: Option<Cursor>,
) {
    let mut left = limit;
    for mut topic in topics {
        let name = topic.name.clone().unwrap_or_default();
        if horizon.as_ref().is_some_and(|horizon| name > horizon.topic_name) {
            break;
        }
        // What follows is in the next page, from the first partition that does not fit in this one.
        if let Some(next) = topic.partitions.get(left).map(|partition| partition.partition_index) {
            page.next_cursor = Some(cursor(name, next));
            if left > 0 {
                topic.partitions.truncate(left);
                page.topics.push(topic);
            }
            return;
        }
        if left == 0 {
            page.next_cursor = Some(cursor(name, 0));
            return;
        }
        left -= topic.partitions.len();
        page.topics.push(topic);
    }
    page.next_cursor = horizon;
}

fn cursor(topic: TopicName, partition: i32) -> Cursor {
    Cursor::default().with_topic_name(topic).with_partition_index(partition)
}
