//! Every message at every version: round trips (here), truncation and corruption (`bounds`), finding and
//! replacing names (`names`), and comparison with the typed structs of `kafka-protocol` (`typed`).

mod bounds;
pub(crate) mod dice;
mod names;
mod typed;

use bytes::Bytes;

use crate::schema::value::{self, Value};
use crate::schema::{self, Direction, Field, Kind, Message, walk};
use dice::{Dice, Fill};

/// Every message with every stable version of it.
pub(crate) fn every_message() -> impl Iterator<Item = (&'static Message, i16)> {
    let versions = |message: &'static Message| message.versions.min..=message.versions.max;
    schema::MESSAGES.iter().flat_map(move |message| versions(message).map(move |version| (message, version)))
}

/// The label of a message in test failures.
pub(crate) fn label(message: &Message, version: i16) -> String {
    format!("{} {:?} {version}", message.api, message.direction)
}

/// A body with every field, as a tree and as bytes.
pub(crate) fn everything(message: &'static Message, version: i16) -> (Value, Bytes) {
    let tree = dice::body(message, version, Fill::Everything, &mut Dice::new(7));
    let bytes = value::encode(message, version, &tree).unwrap();
    (tree, Bytes::from(bytes))
}

/// Calls `change` on every value of a tree that is neither struct nor array.
pub(crate) fn for_each_scalar(
    fields: &'static [Field],
    version: i16,
    tree: &mut Value,
    change: &mut dyn FnMut(&'static Field, &mut Value),
) {
    for field in fields.iter().filter(|field| field.versions.contains(version)) {
        if let Some(value) = tree.get_mut(field.name) {
            scalars_of(field, field.kind, version, value, change);
        }
    }
}

fn scalars_of(
    field: &'static Field,
    kind: Kind,
    version: i16,
    value: &mut Value,
    change: &mut dyn FnMut(&'static Field, &mut Value),
) {
    match (kind, value) {
        (Kind::Array(_) | Kind::Struct(_), Value::Null) => {}
        (Kind::Array(element), Value::Array(elements)) => {
            for value in elements {
                scalars_of(field, *element, version, value, change);
            }
        }
        (Kind::Struct(fields), value) => for_each_scalar(fields, version, value, change),
        (_, value) => change(field, value),
    }
}

#[test]
fn a_body_goes_there_and_back() {
    let mut seen = 0;
    for (message, version) in every_message() {
        for (seed, fill) in (0..10).flat_map(|seed| [(seed, Fill::Anything), (seed, Fill::Everything)]) {
            let tree = dice::body(message, version, fill, &mut Dice::new(seed));
            let bytes = value::encode(message, version, &tree).unwrap();
            let what = format!("{}, seed {seed}", label(message, version));
            assert_eq!(walk::check(message, version, &bytes), Ok(bytes.len()), "{what}");
            let decoded = value::decode(message, version, &bytes).unwrap();
            assert_eq!(decoded, tree, "{what}");
            assert_eq!(value::encode(message, version, &decoded).unwrap(), bytes, "{what}");
        }
        seen += 1;
    }
    assert!(seen > 500, "only {seen} messages");
}

#[test]
fn tagged_fields_that_nobody_knows_are_stepped_over_and_kept() {
    let unknown = [1, 99, 3, b'n', b'e', b'w'];
    for (message, version) in every_message().filter(|(message, version)| message.flexible.contains(*version))
    {
        let tree = value::default_struct(message.fields, version);
        let mut bytes = value::encode(message, version, &tree).unwrap();
        assert_eq!(bytes.pop(), Some(0), "{}: no tagged fields", label(message, version));
        bytes.extend(unknown);
        assert_eq!(walk::check(message, version, &bytes), Ok(bytes.len()), "{}", label(message, version));
        assert_eq!(value::decode(message, version, &bytes).unwrap(), tree, "{}", label(message, version));
        let renamed = walk::rewrite(message, version, &Bytes::from(bytes), |found| match found.value {
            walk::RawValue::Bytes(_) if matches!(found.field.kind, Kind::String) => {
                Some(walk::Replacement::Text("another".to_owned()))
            }
            _ => None,
        });
        if let Some(renamed) = renamed.unwrap() {
            assert!(renamed.ends_with(&unknown), "{}", label(message, version));
        }
    }
}

#[test]
fn a_message_is_found_by_its_key() {
    for message in schema::MESSAGES {
        let found = schema::message(message.api_key, message.direction).unwrap();
        assert_eq!((found.api, found.direction), (message.api, message.direction));
    }
    for key in [-1, 93, i16::MAX, i16::MIN] {
        assert!(schema::message(key, Direction::Request).is_none(), "key {key}");
    }
}
