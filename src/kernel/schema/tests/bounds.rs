//! Malformed bodies: no panic, and no allocation by a count that exceeds the body.

use bytes::Bytes;
use kafka_protocol::messages::MetadataRequest;

use super::{every_message, everything, label};
use crate::call::{decode, encode};
use crate::malformed::Malformed;
use crate::schema::value;
use crate::schema::walk::{self, ELEMENTS_MAX, RawValue, Replacement, put_varint};
use crate::schema::{self, Direction, Kind, Message};

/// Calls `judge` with the body, each byte changed in several ways.
pub(super) fn bend(body: &[u8], mut judge: impl FnMut(&[u8])) {
    let mut bent = body.to_vec();
    for (at, byte) in body.iter().enumerate() {
        for wrong in [byte ^ 0xff, byte ^ 1, 0xff, 0x7f, 0] {
            bent[at] = wrong;
            judge(&bent);
        }
        bent[at] = *byte;
    }
}

#[test]
fn a_body_cut_anywhere_is_malformed() {
    for (message, version) in every_message() {
        let (_, body) = everything(message, version);
        for end in 0..body.len() {
            let cut = body.slice(..end);
            let what = || format!("{} cut at {end} of {}", label(message, version), body.len());
            assert!(walk::check(message, version, &cut).is_err(), "{}", what());
            assert!(value::decode(message, version, &cut).is_err(), "{}", what());
            assert!(walk::rewrite(message, version, &cut, |_| None).is_err(), "{}", what());
        }
    }
}

#[test]
fn what_follows_a_body_is_ignored() {
    for (message, version) in every_message() {
        let (tree, body) = everything(message, version);
        let longer = [&body[..], &[0xff; 3]].concat();
        assert_eq!(walk::check(message, version, &longer), Ok(body.len()), "{}", label(message, version));
        assert_eq!(value::decode(message, version, &longer).unwrap(), tree, "{}", label(message, version));
    }
}

#[test]
fn a_body_with_any_byte_bent_is_refused_or_read_whole() {
    for (message, version) in every_message() {
        bend(&everything(message, version).1, |bent| {
            let Ok(length) = walk::check(message, version, bent) else {
                assert!(value::decode(message, version, bent).is_err());
                return;
            };
            assert!(length <= bent.len());
            let tree = value::decode(message, version, bent).unwrap();
            value::encode(message, version, &tree).unwrap();
            let renamed = walk::rewrite(message, version, &Bytes::copy_from_slice(bent), |found| {
                let text = found.value.as_str().filter(|_| matches!(found.field.kind, Kind::String));
                text.map(|text| Replacement::Text(format!("x{text}")))
            });
            if let Some(renamed) = renamed.unwrap() {
                walk::check(message, version, &renamed).unwrap();
            }
        });
    }
}

/// Calls `judge` with the body, each array count replaced by each false one.
fn lie_about_counts(message: &'static Message, version: i16, mut judge: impl FnMut(String, Vec<u8>)) {
    let (_, body) = everything(message, version);
    let mut counts = Vec::new();
    let note = |found: walk::Found<'_>| {
        if let RawValue::Array(_) = found.value {
            counts.push((found.at.clone(), found.field));
        }
    };
    walk::walk(message, version, &body, note).unwrap();
    for (at, field) in counts {
        for lie in lies(message.flexible.contains(version), field.nullable.contains(version)) {
            let lying = [&body[..at.start], &lie[..], &body[at.end..]].concat();
            judge(format!("{}: {} at {at:?} is {lie:02x?}", label(message, version), field.name), lying);
        }
    }
}

/// Counts larger than any body.
fn lies(is_flexible: bool, may_be_null: bool) -> Vec<Vec<u8>> {
    if !is_flexible {
        let minus_one = (!may_be_null).then_some(-1);
        let lies = [i32::MAX, 1 << 24, -2, i32::MIN].into_iter().chain(minus_one);
        return lies.map(|lie: i32| lie.to_be_bytes().to_vec()).collect();
    }
    // Compact counts are written plus one; 0 is null.
    let null = (!may_be_null).then_some(0);
    let lies = [1 << 31, u32::MAX, 1 << 24].into_iter().chain(null);
    let varint = |lie: u32| {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, lie);
        bytes
    };
    lies.map(varint).collect()
}

#[test]
fn no_array_has_more_elements_than_the_body_has_bytes() {
    let mut seen = 0;
    for (message, version) in every_message() {
        lie_about_counts(message, version, |what, lying| {
            let Err(Malformed(why)) = walk::check(message, version, &lying) else { panic!("{what}: passed") };
            assert!(why.contains("elements"), "{what}: {why}");
            assert!(value::decode(message, version, &lying).is_err(), "{what}");
            seen += 1;
        });
    }
    assert!(seen > 1_000, "only {seen} lies");
}

#[test]
fn a_varint_that_does_not_end_is_malformed() {
    let metadata = schema::message(3, Direction::Request).unwrap();
    assert!(walk::check(metadata, 12, &[0xff; 100]).is_err());
}

#[test]
fn the_number_of_elements_is_bounded_however_small_they_are() {
    let metadata = schema::message(3, Direction::Request).unwrap();
    // Version 0 is an array of structs with an empty name each, which makes two elements.
    let topics = |count: usize| [&(count as i32).to_be_bytes()[..], &vec![0; 2 * count][..]].concat();
    assert!(walk::check(metadata, 0, &topics(ELEMENTS_MAX / 2)).is_ok());
    let Malformed(why) = walk::check(metadata, 0, &topics(ELEMENTS_MAX / 2 + 1)).unwrap_err();
    assert!(why.contains("more than 250000 elements"), "{why}");

    // Numbers: four bytes on the wire, and an answer of a hundred bytes for each.
    let offset_fetch = schema::message(9, Direction::Request).unwrap();
    let partitions = |count: usize| {
        let head = [&[0, 1, b'g'][..], &[0, 0, 0, 1, 0, 1, b't'], &(count as i32).to_be_bytes()].concat();
        [head, vec![0; 4 * count]].concat()
    };
    assert!(walk::check(offset_fetch, 1, &partitions(ELEMENTS_MAX - 3)).is_ok());
    assert!(walk::check(offset_fetch, 1, &partitions(ELEMENTS_MAX - 2)).is_err());

    // Unknown tagged fields: a tag and empty content each.
    let tagged = |count: usize| {
        let default = value::default_struct(metadata.fields, 12);
        let mut body = value::encode(metadata, 12, &default).unwrap();
        body.pop();
        put_varint(&mut body, count as u32);
        body.extend([99, 0].repeat(count));
        body
    };
    assert!(walk::check(metadata, 12, &tagged(1_000)).is_ok());
    assert!(walk::check(metadata, 12, &tagged(ELEMENTS_MAX + 1)).is_err());
}

/// Of all tags that a varint can hold, those are refused that a decoder would not write again.
#[test]
fn a_tag_is_no_larger_than_a_signed_number() {
    let metadata = schema::message(3, Direction::Request).unwrap();
    let default = value::default_struct(metadata.fields, 12);
    let tagged = |tag: u32| {
        let mut body = value::encode(metadata, 12, &default).unwrap();
        body.pop();
        body.push(1);
        put_varint(&mut body, tag);
        body.push(0);
        Bytes::from(body)
    };
    let largest = tagged(i32::MAX as u32);
    walk::check(metadata, 12, &largest).unwrap();
    let request: MetadataRequest = decode(&largest, 12).unwrap();
    assert_eq!(encode(&request, 12).unwrap(), largest);
    for tag in [1 << 31, u32::MAX] {
        let Malformed(why) = walk::check(metadata, 12, &tagged(tag)).unwrap_err();
        assert!(why.contains(&format!("the tag {tag}")), "{why}");
    }
}

#[test]
fn a_compact_string_is_no_longer_than_others() {
    let find_coordinator = schema::message(10, Direction::Request).unwrap();
    let body = |length: usize| {
        let mut body = Vec::new();
        put_varint(&mut body, length as u32 + 1);
        body.extend([&b"x".repeat(length)[..], &[0, 0]].concat());
        body
    };
    assert!(walk::check(find_coordinator, 3, &body(32_767)).is_ok());
    let Malformed(why) = walk::check(find_coordinator, 3, &body(32_768)).unwrap_err();
    assert!(why.contains("length 32768"), "{why}");
}

#[test]
fn the_marker_of_a_nullable_struct_is_one_or_minus_one() {
    let message = schema::message(75, Direction::Request).unwrap();
    let default = value::default_struct(message.fields, 0);
    let body = value::encode(message, 0, &default).unwrap();
    // The cursor is the last field before the tagged ones, and null by default.
    let marker_at = body.len() - 2;
    assert_eq!(body[marker_at..], [0xff, 0]);
    for marker in [0, 2, 0x7f] {
        let mut bent = body.clone();
        bent[marker_at] = marker;
        let Malformed(why) = walk::check(message, 0, &bent).unwrap_err();
        assert_eq!(why, format!("Cursor has the marker {marker}"));
    }
}
