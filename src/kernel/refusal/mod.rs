//! Refusals: error responses for any API at any version.
//!
//! Kafka answers an error in the shape of the response, with a method per API (`getErrorResponse`). Here it
//! follows from the schema and the short tables below, which were compared with those methods of
//! kafka-clients 4.1.1 for every API and version. An error code covers everything below it: if the response
//! has one at the top level, it is set and the arrays stay empty. Otherwise the request's topics, partitions,
//! groups or resources are repeated, each with the error.

use std::borrow::Cow;

use crate::ErrorCode;
use crate::api::Api;
use crate::call::Call;
use crate::door::Hangup;
use crate::malformed::Malformed;
use crate::reply::Reply;
use crate::schema::value::{self, Value};
use crate::schema::{Direction, Field, Kind, Mark};

/// Which request array a response array repeats: API, response array, request array. Arrays of the same name
/// are not listed. A dot descends into each element. A scalar sets the first field of the element that can
/// hold it. If several rows name one response array, all of them are repeated.
const REPEATS: &[(&str, &str, &str)] = &[
    ("Produce", "Responses", "TopicData"),
    ("Produce", "PartitionResponses", "PartitionData"),
    ("Fetch", "Responses", "Topics"),
    ("OffsetFetch", "Partitions", "PartitionIndexes"),
    ("FindCoordinator", "Coordinators", "CoordinatorKeys"),
    ("DeleteTopics", "Responses", "Topics"),
    ("DeleteTopics", "Responses", "TopicNames"),
    ("AddPartitionsToTxn", "ResultsByTopicV3AndBelow", "V3AndBelowTopics"),
    ("AddPartitionsToTxn", "ResultsByPartition", "Partitions"),
    ("WriteTxnMarkers", "Partitions", "PartitionIndexes"),
    ("CreateAcls", "Results", "Creations"),
    ("DeleteAcls", "FilterResults", "Filters"),
    ("DescribeConfigs", "Results", "Resources"),
    ("AlterConfigs", "Responses", "Resources"),
    ("AlterReplicaLogDirs", "Results", "Dirs.Topics"),
    ("CreatePartitions", "Results", "Topics"),
    ("DeleteGroups", "Results", "GroupsNames"),
    ("ElectLeaders", "ReplicaElectionResults", "TopicPartitions"),
    ("ElectLeaders", "PartitionResult", "Partitions"),
    ("IncrementalAlterConfigs", "Responses", "Resources"),
    ("AlterPartitionReassignments", "Responses", "Topics"),
    ("AlterUserScramCredentials", "Results", "Deletions"),
    ("AlterUserScramCredentials", "Results", "Upsertions"),
    ("DescribeProducers", "Partitions", "PartitionIndexes"),
    ("DescribeTransactions", "TransactionStates", "TransactionalIds"),
    ("ConsumerGroupDescribe", "Groups", "GroupIds"),
    ("ShareGroupDescribe", "Groups", "GroupIds"),
    ("InitializeShareGroupState", "Results", "Topics"),
    ("ReadShareGroupState", "Results", "Topics"),
    ("WriteShareGroupState", "Results", "Topics"),
    ("DeleteShareGroupState", "Results", "Topics"),
    ("ReadShareGroupStateSummary", "Results", "Topics"),
];

/// APIs that repeat the request although they have a top-level error code, and the last version that does.
const REPEAT_BESIDE_CODE: &[(&str, i16)] = &[
    ("Fetch", 12),
    ("Metadata", i16::MAX),
    ("ElectLeaders", i16::MAX),
    ("AlterPartitionReassignments", i16::MAX),
];

/// Fields of repeated elements whose names differ: response field, request field.
const RENAMED_FIELDS: &[(&str, &str)] =
    &[("PartitionIndex", "Partition"), ("TopicName", "Name"), ("User", "Name")];

/// Fields that are copied although they are not names or ids.
const COPIED_FIELDS: &[(&str, &str)] =
    &[("Fetch", "SessionId"), ("WriteTxnMarkers", "ProducerId"), ("AlterClientQuotas", "Entity")];

/// Fields set to -1 (null for a string) for "none", although the schema's default differs.
const NONE: &[(&str, &str)] = &[
    ("Produce", "BaseOffset"),
    ("Fetch", "HighWatermark"),
    ("OffsetFetch", "CommittedOffset"),
    ("FindCoordinator", "NodeId"),
    ("FindCoordinator", "Port"),
    ("JoinGroup", "ProtocolName"),
    ("DeleteRecords", "LowWatermark"),
    ("InitProducerId", "ProducerEpoch"),
];

/// Not an error code of the call: it says why the configs of a *created* topic are missing (KIP-525).
const TOPIC_CONFIG_ERROR: &str = "TopicConfigErrorCode";

impl Call {
    /// The reply that refuses this call, in the shape of its API and version.
    ///
    /// # Errors
    /// A Produce with acks=0 gets no reply, so the connection is closed, as Kafka does. The same holds for a
    /// call with an unknown API key, or whose body cannot be read.
    pub fn refuse(&self, error: ErrorCode, message: &str) -> Result<Option<Reply>, Hangup> {
        let hangup = |cause: Malformed| Hangup(Cow::Owned(format!("{error} ({message}), and {cause}")));
        let api = self.header.api;
        let version = self.header.version;
        let (Some(request), Some(response)) =
            (api.message(Direction::Request), api.message(Direction::Response))
        else {
            return Err(Hangup(Cow::Owned(format!("{api} was refused: {message}"))));
        };
        let asked = value::decode(request, version, self.body.raw()).map_err(hangup)?;
        if api == Api::PRODUCE && asked.get("Acks") == Some(&Value::Int(0)) {
            return Err(Hangup(Cow::Owned(format!("a Produce with acks=0 was refused: {message}"))));
        }
        let refusal = Refusal { api: response.api, version, code: i64::from(error.code()), message };
        let body = refusal.structure(response.fields, &asked, true);
        let bytes = value::encode(response, version, &body).map_err(hangup)?;
        Ok(Some(Reply::new(bytes)))
    }
}

struct Refusal<'a> {
    api: &'static str,
    version: i16,
    code: i64,
    message: &'a str,
}

impl Refusal<'_> {
    /// The response struct for `asked`: the whole message at the top level, else an element of an array.
    fn structure(&self, fields: &'static [Field], asked: &Value, is_top: bool) -> Value {
        let mut answer = value::default_struct(fields, self.version);
        let has_code = self.present(fields).any(|field| field.mark == Mark::ErrorCode);
        let repeats = !has_code || is_top && self.repeats_beside_code();
        for field in self.present(fields) {
            let value = match field.kind {
                Kind::Array(Kind::Struct(inner)) if repeats && self.has_error_code(inner) => {
                    Some(self.repeat(field.name, inner, asked))
                }
                Kind::Array(Kind::Struct(inner)) if self.is_listed(COPIED_FIELDS, field) => {
                    Some(self.repeat(field.name, inner, asked))
                }
                _ => self.scalar(field, asked, is_top),
            };
            if let Some(value) = value {
                answer.set(field.name, value);
            }
        }
        answer
    }

    /// The value of a field that is not an array, if it differs from the default.
    fn scalar(&self, field: &'static Field, asked: &Value, is_top: bool) -> Option<Value> {
        match (field.mark, field.kind) {
            (Mark::ErrorCode, _) => (field.name != TOPIC_CONFIG_ERROR).then_some(Value::Int(self.code)),
            (Mark::ErrorMessage, _) => {
                (!self.message.is_empty()).then(|| Value::String(self.message.to_owned()))
            }
            (Mark::ThrottleTime, _) => None,
            // Kafka sends no records as an empty set, not as null.
            (Mark::Records, _) => Some(Value::Bytes(Vec::new())),
            (_, Kind::String) if self.is_listed(NONE, field) => {
                field.nullable.contains(self.version).then_some(Value::Null)
            }
            _ if self.is_listed(NONE, field) => Some(Value::Int(-1)),
            _ if self.is_listed(COPIED_FIELDS, field) || !is_top && is_name(field) => {
                self.copied(field, asked)
            }
            _ => None,
        }
    }

    fn copied(&self, field: &'static Field, asked: &Value) -> Option<Value> {
        let others =
            RENAMED_FIELDS.iter().filter(|(answer, _)| *answer == field.name).map(|(_, question)| *question);
        let given = std::iter::once(field.name).chain(others).find_map(|name| asked.get(name))?;
        let fits = match given {
            Value::Null => field.nullable.contains(self.version),
            given => is_of_kind(field, given),
        };
        fits.then(|| given.clone())
    }

    fn repeat(&self, answer: &'static str, fields: &'static [Field], asked: &Value) -> Value {
        let rows = REPEATS.iter().filter(|(api, name, _)| (*api, *name) == (self.api, answer));
        let mut paths: Vec<&str> = rows.map(|(_, _, question)| *question).collect();
        if paths.is_empty() {
            paths.push(answer);
        }
        let elements = paths.into_iter().flat_map(|path| elements_at(asked, path));
        Value::Array(elements.map(|element| self.element(fields, element)).collect())
    }

    fn element(&self, fields: &'static [Field], asked: &Value) -> Value {
        let mut answer = self.structure(fields, asked, false);
        if !matches!(asked, Value::Struct(_)) {
            let holds = |field: &&Field| {
                !matches!(field.mark, Mark::ErrorCode | Mark::ErrorMessage) && is_of_kind(field, asked)
            };
            if let Some(field) = self.present(fields).find(holds) {
                answer.set(field.name, asked.clone());
            }
        }
        answer
    }

    fn present(&self, fields: &'static [Field]) -> impl Iterator<Item = &'static Field> {
        let version = self.version;
        fields.iter().filter(move |field| field.versions.contains(version))
    }

    /// Whether a struct has an error code in this version, at any depth.
    fn has_error_code(&self, fields: &'static [Field]) -> bool {
        self.present(fields).any(|field| match field.kind {
            Kind::Array(Kind::Struct(inner)) => self.has_error_code(inner),
            Kind::Struct(inner) => self.has_error_code(inner),
            _ => field.mark == Mark::ErrorCode,
        })
    }

    fn repeats_beside_code(&self) -> bool {
        REPEAT_BESIDE_CODE.iter().any(|(api, last)| *api == self.api && self.version <= *last)
    }

    fn is_listed(&self, list: &[(&str, &str)], field: &Field) -> bool {
        list.contains(&(self.api, field.name))
    }
}

/// The elements of the array at this path.
fn elements_at<'a>(asked: &'a Value, path: &str) -> Vec<&'a Value> {
    path.split('.').fold(vec![asked], |found, name| {
        found.into_iter().filter_map(|value| value.get(name)).flat_map(Value::elements).collect()
    })
}

/// Whether a field identifies its element; others, such as offsets, keep their defaults.
fn is_name(field: &Field) -> bool {
    match field.mark {
        Mark::TopicName | Mark::TopicId | Mark::Partition | Mark::GroupId | Mark::TransactionalId => true,
        // Names and types of resources, users and quotas.
        Mark::None => matches!(field.kind, Kind::String | Kind::Int8),
        _ => false,
    }
}

fn is_of_kind(field: &Field, value: &Value) -> bool {
    match value {
        Value::String(_) => matches!(field.kind, Kind::String),
        Value::Uuid(_) => matches!(field.kind, Kind::Uuid),
        Value::Int(_) => matches!(field.kind, Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
