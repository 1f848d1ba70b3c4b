//! A refusal is a reply: the error body of any API at any version.
//!
//! Kafka answers an error in the shape of the response. Where the response has an error code at its top, that is
//! set. Where it repeats the request's topics, partitions, groups or resources, each is repeated with the error, which
//! is what Kafka's own `getErrorResponse` does, API by API. Here it follows from the schema and one short table.

use std::borrow::Cow;

use crate::api::Api;
use crate::call::{Call, Malformed};
use crate::door::Hangup;
use crate::reply::Reply;
use crate::schema::value::{self, Value};
use crate::schema::{Direction, Field, Kind, Mark};
use crate::ErrorCode;

/// Which array of a response repeats which array of the request, where their names differ; and inside them, which
/// field of the answer takes which of the question. A plain name in the second column is an array of scalars whose
/// elements become that field.
const PAIRS: &[(&str, &str)] = &[
    ("Responses", "TopicData"),
    ("PartitionResponses", "PartitionData"),
    ("Responses", "Topics"),
    ("Responses", "TopicNames"),
    ("Responses", "Resources"),
    ("Results", "Topics"),
    ("Results", "Resources"),
    ("Results", "GroupsNames"),
    ("Results", "GroupIds"),
    ("Coordinators", "CoordinatorKeys"),
    ("Partitions", "FetchPartitions"),
    ("Partitions", "PartitionIndexes"),
    ("Results", "Creations"),
    ("Results", "Filters"),
    ("FilterResults", "Filters"),
    ("Topics", "TopicData"),
];

/// Scalar fields that mean the same under two names.
const SAME: &[(&str, &str)] = &[
    ("PartitionIndex", "Partition"),
    ("PartitionIndex", "Index"),
    ("Index", "Partition"),
    ("Partition", "PartitionIndex"),
    ("Name", "Topic"),
    ("Topic", "Name"),
    ("TopicName", "Name"),
    ("Name", "TopicName"),
    ("GroupId", "Group"),
];

impl Call {
    /// The reply that refuses this call, in the shape of its API and version.
    ///
    /// A Produce with acks=0 gets no reply, so the connection is closed, as Kafka does. So is a call whose API has no
    /// shape to refuse it in (an unknown key) or whose body cannot be read.
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
        let refusal = Refusal { version, code: i64::from(error.code()), message };
        let body = refusal.structure(response.fields, Some(&asked));
        let bytes = value::encode(response, version, &body).map_err(hangup)?;
        Ok(Some(Reply::new(bytes)))
    }
}

struct Refusal<'a> {
    version: i16,
    code: i64,
    message: &'a str,
}

impl Refusal<'_> {
    /// The struct of the answer that mirrors `asked`.
    fn structure(&self, fields: &'static [Field], asked: Option<&Value>) -> Value {
        let mut answer = value::default_struct(fields, self.version);
        for field in fields.iter().filter(|field| field.versions.contains(self.version)) {
            if let Some(value) = self.field(field, asked) {
                answer.set(field.name, value);
            }
        }
        answer
    }

    fn field(&self, field: &'static Field, asked: Option<&Value>) -> Option<Value> {
        match (field.mark, field.kind) {
            (Mark::ErrorCode, Kind::Int16) => Some(Value::Int(self.code)),
            (Mark::ErrorMessage, Kind::String) if !self.message.is_empty() => {
                Some(Value::String(self.message.to_owned()))
            }
            (Mark::ThrottleTime, _) => None,
            (_, Kind::Array(Kind::Struct(fields))) if bears_error(fields) => {
                Some(self.repeat(field.name, fields, asked?))
            }
            (_, Kind::Array(_) | Kind::Struct(_)) => None,
            // Offsets and the like keep their defaults; only what names a thing is taken over.
            (Mark::TopicName | Mark::TopicId | Mark::Partition | Mark::GroupId | Mark::TransactionalId, _)
            | (Mark::None, Kind::String)
            | (Mark::None, Kind::Int8) => self.scalar(field, asked?),
            _ => None,
        }
    }

    fn scalar(&self, field: &'static Field, asked: &Value) -> Option<Value> {
        let under = |name: &str| asked.get(name).filter(|value| same_kind(field, value)).cloned();
        under(field.name).or_else(|| {
            let others = SAME.iter().filter(|(answer, _)| *answer == field.name);
            others.into_iter().find_map(|(_, question)| under(question))
        })
    }

    fn repeat(&self, name: &str, fields: &'static [Field], asked: &Value) -> Value {
        let direct = asked.get(name).filter(|value| matches!(value, Value::Array(_)));
        let source = direct.or_else(|| {
            let pairs = PAIRS.iter().filter(|(answer, _)| *answer == name);
            let found = pairs.into_iter().filter_map(|(_, question)| asked.get(question));
            found.into_iter().find(|value| !value.elements().is_empty())
        });
        let elements = source.map_or(&[][..], Value::elements);
        Value::Array(elements.iter().map(|element| self.element(fields, element)).collect())
    }

    fn element(&self, fields: &'static [Field], asked: &Value) -> Value {
        let mut answer = self.structure(fields, Some(asked));
        if !matches!(asked, Value::Struct(_)) {
            // An array of scalars (names, keys, numbers): the element is the first field that can hold it, error
            // codes aside.
            let holds = |field: &&Field| {
                !matches!(field.mark, Mark::ErrorCode | Mark::ErrorMessage)
                    && field.versions.contains(self.version)
                    && same_kind(field, asked)
            };
            if let Some(field) = fields.iter().find(holds) {
                answer.set(field.name, asked.clone());
            }
        }
        answer
    }
}

fn same_kind(field: &Field, value: &Value) -> bool {
    match value {
        Value::String(_) => matches!(field.kind, Kind::String),
        Value::Uuid(_) => matches!(field.kind, Kind::Uuid),
        Value::Int(_) => {
            matches!(field.kind, Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64)
        }
        // A null name (Metadata by id) stays null where the answer may be null, and else becomes its default.
        _ => false,
    }
}

/// Whether a struct has an error code, at any depth.
fn bears_error(fields: &'static [Field]) -> bool {
    fields.iter().any(|field| match field.kind {
        Kind::Array(Kind::Struct(inner)) => bears_error(inner),
        Kind::Struct(inner) => bears_error(inner),
        _ => field.mark == Mark::ErrorCode,
    })
}
