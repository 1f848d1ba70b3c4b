//! The walker finds every name, id and address, and can replace it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{every_message, everything, for_each_scalar, label};
use crate::schema::value::{self, Value};
use crate::schema::walk::{self, Found, RawValue, Replacement};
use crate::schema::{self, Direction, Field, Kind, Mark, Message};

fn is_marked(field: &Field) -> bool {
    !matches!(field.mark, Mark::None | Mark::Records)
}

/// The value as a tree node; `None` for the count of an array.
fn as_value(found: &Found<'_>) -> Option<Value> {
    match found.value {
        RawValue::Int(value) => Some(Value::Int(value)),
        RawValue::Uuid(id) => Some(Value::Uuid(id)),
        RawValue::Bytes(_) => found.value.as_str().map(|text| Value::String(text.to_owned())),
        _ => None,
    }
}

/// A unique value, or `None` for a kind without marks.
fn unique(value: &Value, mark: Mark, number: u16) -> Value {
    match value {
        Value::String(_) => Value::String(format!("{mark:?}-{number}")),
        Value::Int(_) => Value::Int(i64::from(number)),
        Value::Uuid(_) => Value::Uuid(Uuid::from_u128(u128::from(number))),
        other => panic!("{mark:?} is on {other:?}"),
    }
}

#[test]
fn the_walk_shows_every_marked_value() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (message, version) in every_message() {
        let (mut tree, _) = everything(message, version);
        let mut expected = Vec::new();
        for_each_scalar(message.fields, version, &mut tree, &mut |field, value| {
            if is_marked(field) {
                *value = unique(value, field.mark, expected.len() as u16 + 1);
                expected.push(format!("{:?} {} {value:?}", field.mark, field.name));
                *seen.entry(format!("{:?}", field.mark)).or_default() += 1;
            }
        });
        let body = value::encode(message, version, &tree).unwrap();
        let mut shown = Vec::new();
        let note = |found: Found<'_>| {
            if let Some(value) = as_value(&found).filter(|_| is_marked(found.field)) {
                shown.push(format!("{:?} {} {value:?}", found.field.mark, found.field.name));
            }
        };
        walk::walk(message, version, &body, note).unwrap();
        // Tagged fields come last on the wire, wherever they are in the schema.
        expected.sort();
        shown.sort();
        assert_eq!(shown, expected, "{}", label(message, version));
    }
    assert_eq!(seen.len(), 12, "each mark is somewhere: {seen:?}");
}

/// Every message that carries an address which clients or brokers connect to.
const ADDRESSES: &[(&str, Direction, &str)] = &[
    ("Produce", Direction::Response, "NodeEndpoints"),
    ("Fetch", Direction::Response, "NodeEndpoints"),
    ("Metadata", Direction::Response, "Brokers"),
    ("FindCoordinator", Direction::Response, ""),
    ("FindCoordinator", Direction::Response, "Coordinators"),
    ("Vote", Direction::Response, "NodeEndpoints"),
    ("BeginQuorumEpoch", Direction::Request, "LeaderEndpoints"),
    ("BeginQuorumEpoch", Direction::Response, "NodeEndpoints"),
    ("EndQuorumEpoch", Direction::Request, "LeaderEndpoints"),
    ("EndQuorumEpoch", Direction::Response, "NodeEndpoints"),
    ("DescribeQuorum", Direction::Response, "Nodes.Listeners"),
    ("FetchSnapshot", Direction::Response, "NodeEndpoints"),
    ("DescribeCluster", Direction::Response, "Brokers"),
    ("BrokerRegistration", Direction::Request, "Listeners"),
    ("ControllerRegistration", Direction::Request, "Listeners"),
    ("ShareFetch", Direction::Response, "NodeEndpoints"),
    ("ShareAcknowledge", Direction::Response, "NodeEndpoints"),
    ("AddRaftVoter", Direction::Request, "Listeners"),
    ("UpdateRaftVoter", Direction::Request, "Listeners"),
    ("UpdateRaftVoter", Direction::Response, "CurrentLeader"),
];

/// The paths of the structs that have a host; each must have a port.
fn hosts(fields: &'static [Field], path: &str, found: &mut Vec<String>) {
    for field in fields {
        let inner = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        match field.kind {
            Kind::Array(Kind::Struct(fields)) => hosts(fields, &inner, found),
            Kind::Struct(fields) => hosts(fields, &inner, found),
            _ if field.mark == Mark::Host => {
                assert!(fields.iter().any(|other| other.mark == Mark::Port), "{inner} has no port");
                found.push(path.to_owned());
            }
            _ => {}
        }
    }
}

#[test]
fn the_messages_with_addresses_are_these() {
    let mut found = Vec::new();
    for message in schema::MESSAGES.iter().filter(|message| message.versions.min <= message.versions.max) {
        let mut paths = Vec::new();
        hosts(message.fields, "", &mut paths);
        found.extend(paths.into_iter().map(|path| (message.api, message.direction, path)));
    }
    let expected: Vec<_> =
        ADDRESSES.iter().map(|(api, side, path)| (*api, *side, (*path).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_host_and_its_port_are_shown_as_one_instance() {
    let mut pairs = 0;
    for (message, version) in every_message() {
        let (mut tree, _) = everything(message, version);
        let mut number = 0;
        for_each_scalar(message.fields, version, &mut tree, &mut |field, value| match field.mark {
            Mark::Host => {
                number += 1;
                *value = Value::String(number.to_string());
            }
            Mark::Port => *value = Value::Int(number),
            _ => {}
        });
        let body = value::encode(message, version, &tree).unwrap();
        let mut instances: BTreeMap<usize, (Vec<String>, Vec<String>)> = BTreeMap::new();
        let note = |found: Found<'_>| match (found.field.mark, found.value) {
            (Mark::Host, value) => {
                instances.entry(found.instance).or_default().0.extend(value.as_str().map(str::to_owned));
            }
            (Mark::Port, RawValue::Int(port)) => {
                instances.entry(found.instance).or_default().1.push(port.to_string());
            }
            _ => {}
        };
        walk::walk(message, version, &body, note).unwrap();
        assert_eq!(instances.len() as i64, number, "{}", label(message, version));
        for (hosts, ports) in instances.values() {
            assert_eq!(hosts.len(), 1, "{}", label(message, version));
            assert_eq!(hosts, ports, "{}", label(message, version));
        }
        pairs += number;
    }
    assert!(pairs > 50, "only {pairs} addresses");
}

/// How a string changes: longer (so that lengths, and the sizes of tagged fields around it, need more bytes),
/// shorter, and of the same length.
const NEW_TEXTS: [fn(&str) -> String; 3] =
    [|old| format!("{old}{}", "x".repeat(300)), |_| "y".to_owned(), |old| "z".repeat(old.len())];

/// Another value for a marked one.
fn another(field: &Field, old: &Value, new_text: fn(&str) -> String) -> Option<Value> {
    match (field.mark, old) {
        (Mark::None | Mark::Records, _) => None,
        (_, Value::String(old)) => Some(Value::String(new_text(old))),
        (_, Value::Int(old)) => Some(Value::Int(old ^ 1)),
        (_, Value::Uuid(old)) => Some(Value::Uuid(Uuid::from_u128(!old.as_u128()))),
        _ => None,
    }
}

fn replacement(value: Value) -> Replacement {
    match value {
        Value::String(text) => Replacement::Text(text),
        Value::Int(value) => Replacement::Int(value),
        Value::Uuid(id) => Replacement::Uuid(id),
        other => panic!("{other:?} cannot be put in place"),
    }
}

fn renamed_tree(
    message: &'static Message,
    version: i16,
    mut tree: Value,
    new_text: fn(&str) -> String,
) -> (Value, usize) {
    let mut changes = 0;
    for_each_scalar(message.fields, version, &mut tree, &mut |field, value| {
        if let Some(new) = another(field, value, new_text) {
            *value = new;
            changes += 1;
        }
    });
    (tree, changes)
}

#[test]
fn every_marked_value_can_be_replaced_and_nothing_else_changes() {
    let mut changed = 0;
    for (message, version) in every_message() {
        for (index, new_text) in NEW_TEXTS.into_iter().enumerate() {
            let (tree, body) = everything(message, version);
            let rewritten = walk::rewrite(message, version, &body, |found| {
                as_value(found).and_then(|old| another(found.field, &old, new_text)).map(replacement)
            });
            let rewritten = rewritten.unwrap();
            let (expected, changes) = renamed_tree(message, version, tree, new_text);
            let what = format!("{}, text {index}", label(message, version));
            assert_eq!(rewritten.is_some(), changes > 0, "{what}");
            if let Some(rewritten) = rewritten {
                assert_eq!(value::decode(message, version, &rewritten).unwrap(), expected, "{what}");
                assert_eq!(rewritten, value::encode(message, version, &expected).unwrap(), "{what}");
                changed += 1;
            }
        }
    }
    assert!(changed > 1_000, "only {changed} bodies had anything to replace");
}

#[test]
fn a_rewrite_that_changes_nothing_gives_nothing() {
    for (message, version) in every_message() {
        let (_, body) = everything(message, version);
        assert_eq!(walk::rewrite(message, version, &body, |_| None), Ok(None), "{}", label(message, version));
    }
}

#[test]
fn a_value_of_another_kind_is_not_put_in_place() {
    let (message, version) = (schema::message(3, Direction::Response).unwrap(), 12);
    let (_, body) = everything(message, version);
    let put = |mark: Mark, new: Replacement| {
        walk::rewrite(message, version, &body, |found| (found.field.mark == mark).then(|| new.clone()))
    };
    assert!(put(Mark::Port, Replacement::Text("a port".to_owned())).is_err());
    assert!(put(Mark::Host, Replacement::Int(1)).is_err());
    assert!(put(Mark::TopicId, Replacement::Int(1)).is_err());
    // Before KIP-482 a string has a 16-bit length.
    let (_, old_body) = everything(message, 0);
    let too_long =
        |found: &Found<'_>| (found.field.mark == Mark::Host).then(|| Replacement::Text("x".repeat(32_768)));
    assert!(walk::rewrite(message, 0, &old_body, too_long).is_err());
}
