//! Requests and responses of every API at every version, with values that lead somewhere.

use bytes::Bytes;
use kernel::records::{BatchBuilder, Codec, NewRecord};
use kernel::schema::value::{self, Value};
use kernel::schema::walk::{self, RawValue, Replacement};
use kernel::schema::{Direction, Mark, Message};
use kernel::{Api, ServedApi};
use uuid::Uuid;

use crate::dice::{self, Dice, Fill};

/// The topic that exists, the first that a broker with counted ids makes.
pub(super) const TOPIC: &str = "t";
pub(super) const TOPIC_ID: Uuid = Uuid::from_u128(1);
/// A group.
pub(super) const GROUP: &str = "g";
/// A transactional id.
pub(super) const TRANSACTIONAL_ID: &str = "x";
/// The member id that the first who joins a group gets from such a broker: the second id that it makes.
pub(super) const MEMBER: &str = "fuzz-00000000-0000-0000-0000-000000000002";

/// Every API that is served and its versions.
pub(super) fn served() -> Vec<ServedApi> {
    let mut served = storage::served();
    served.insert(ServedApi::all_versions(Api::API_VERSIONS));
    served.apis().to_vec()
}

/// A batch of three records.
pub(super) fn batch(codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (key, value) in
        [(None, Some(&b"value"[..])), (Some(&b"k"[..]), None), (Some(&b""[..]), Some(&b""[..]))]
    {
        let headers = [("header", Some(&b"h"[..])), ("h", None)];
        builder.push(NewRecord { timestamp: 1_700_000_000_000, key, value, headers: &headers });
    }
    // Nothing that these codecs refuse.
    builder.build().map(|batch| batch.to_vec()).unwrap_or_default()
}

/// A body of a message with every field, or with any; names, ids and numbers are those of what exists.
pub(super) fn body(api: Api, direction: Direction, version: i16, fill: Fill, seed: u64) -> Vec<u8> {
    let Some(message) = api.message(direction) else { return Vec::new() };
    let mut tree = dice::body(message, version, fill, &mut Dice::new(seed));
    put_batches(&mut tree, Codec::ALL[seed as usize % Codec::ALL.len()]);
    let Ok(encoded) = value::encode(message, version, &tree) else { return Vec::new() };
    tamed(message, version, encoded.into(), seed)
}

/// Puts record batches where they belong.
fn put_batches(tree: &mut Value, codec: Codec) {
    match tree {
        Value::Array(elements) => elements.iter_mut().for_each(|element| put_batches(element, codec)),
        Value::Struct(fields) => {
            for (name, value) in fields {
                if *name == "Records" {
                    *value = Value::Bytes(batch(codec));
                } else {
                    put_batches(value, codec);
                }
            }
        }
        _ => {}
    }
}

/// Of two topics one is there, and of two partitions both.
fn tamed(message: &Message, version: i16, body: Bytes, seed: u64) -> Vec<u8> {
    let (mut topics, mut partitions) = (0, 0);
    let changed = walk::rewrite(message, version, &body, |found| match (found.field.mark, found.value) {
        (Mark::TopicName, RawValue::Bytes(_)) => {
            topics += 1;
            (topics % 2 == 1).then(|| Replacement::Text(TOPIC.to_owned()))
        }
        (Mark::TopicId, RawValue::Uuid(_)) => {
            topics += 1;
            (topics % 2 == 1).then_some(Replacement::Uuid(TOPIC_ID))
        }
        (Mark::Partition, RawValue::Int(_)) => {
            partitions += 1;
            Some(Replacement::Int((partitions + 1) % 2))
        }
        (Mark::GroupId, RawValue::Bytes(_)) => Some(Replacement::Text(GROUP.to_owned())),
        (Mark::TransactionalId, RawValue::Bytes(_)) => Some(Replacement::Text(TRANSACTIONAL_ID.to_owned())),
        (_, RawValue::Int(_)) => number(found.field.name).map(Replacement::Int),
        (_, RawValue::Bytes(_)) => {
            let text = text(message.api, found.field.name, seed);
            text.map(|text| Replacement::Text(text.to_owned()))
        }
        _ => None,
    });
    match changed {
        Ok(Some(changed)) => changed.to_vec(),
        _ => body.to_vec(),
    }
}

/// Values of fields that random ones would only get refused for.
fn number(name: &str) -> Option<i64> {
    Some(match name {
        "Acks" | "ReplicaId" | "ProducerId" | "ProducerEpoch" | "SessionEpoch" | "LeaderEpoch"
        | "CurrentLeaderEpoch" => -1,
        "MaxWaitMs" | "NumPartitions" | "Count" | "GenerationId" | "GenerationIdOrMemberEpoch" => 1,
        "MinBytes" | "FetchOffset" | "SessionId" | "MemberEpoch" | "Timestamp" | "ConfigOperation" => 0,
        "MaxBytes" | "PartitionMaxBytes" => 1 << 20,
        "SessionTimeoutMs" | "RebalanceTimeoutMs" | "TimeoutMs" | "TransactionTimeoutMs" => 30_000,
        "ReplicationFactor" => -1,
        "ResourceType" | "KeyType" => 2,
        _ => return None,
    })
}

fn text(api: &str, name: &str, seed: u64) -> Option<&'static str> {
    Some(match (api, name) {
        // The first request of a sequence asks for an id, the others have it.
        (_, "MemberId") if seed == 0 || seed >= 100 => "",
        (_, "MemberId") => MEMBER,
        (_, "ProtocolType") => "consumer",
        (_, "ProtocolName") | ("JoinGroup", "Name") => "range",
        ("ConsumerGroupHeartbeat", "ServerAssignor") => "uniform",
        ("ConsumerGroupHeartbeat", "SubscribedTopicRegex") => "t.*",
        (_, "ResourceName") => TOPIC,
        ("CreateTopics" | "AlterConfigs" | "IncrementalAlterConfigs", "Name") => "retention.ms",
        ("CreateTopics" | "AlterConfigs" | "IncrementalAlterConfigs", "Value") => "60000",
        _ => return None,
    })
}
