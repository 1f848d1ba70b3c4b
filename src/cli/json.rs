//! Records as JSON, one object per line, as `consume --format json` writes and `produce --format json` reads
//! them.
//!
//! ```json
//! {"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":"v","headers":[{"key":"h","value":"x"}]}
//! ```
//!
//! Bytes that are not UTF-8 are written in base64 as `key_base64` and `value_base64` instead, so that a round
//! trip loses nothing. Null is JSON's null: a null value is a tombstone.

use std::fmt;

use kernel::records::Record;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// A header's key and value.
pub(crate) type Header = (String, Option<Vec<u8>>);

/// A record to be produced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
}

/// The object as written. An absent field differs from null.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, deserialize_with = "given")]
    key: Option<Option<String>>,
    key_base64: Option<String>,
    #[serde(default, deserialize_with = "given")]
    value: Option<Option<String>>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: Headers,
    partition: Option<i32>,
    timestamp: Option<i64>,
    // The origin of a consumed record; ignored, because the produced record gets its own.
    #[serde(rename = "topic")]
    _topic: Option<de::IgnoredAny>,
    #[serde(rename = "offset")]
    _offset: Option<de::IgnoredAny>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// Reads one line.
pub(crate) fn parse(line: &[u8]) -> Result<Incoming, String> {
    let fields: Fields =
        serde_json::from_slice(line).map_err(|error| format!("not a record in JSON: {error}"))?;
    let key = bytes("key", fields.key, fields.key_base64)?;
    let value = bytes("value", fields.value, fields.value_base64)?;
    let value = value.ok_or("a record needs a \"value\"; null makes it a tombstone")?;
    Ok(Incoming {
        key: key.flatten(),
        value,
        headers: fields.headers.0,
        partition: fields.partition,
        timestamp: fields.timestamp,
    })
}

/// `None` when neither was given.
fn bytes(
    name: &str,
    text: Option<Option<String>>,
    base64: Option<String>,
) -> Result<Option<Option<Vec<u8>>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("\"{name}\" and \"{name}_base64\" exclude each other")),
        (Some(text), None) => Ok(Some(text.map(String::into_bytes))),
        (None, Some(base64)) => {
            let bytes = from_base64(&base64).ok_or_else(|| format!("\"{name}_base64\" is not base64"))?;
            Ok(Some(Some(bytes)))
        }
        (None, None) => Ok(None),
    }
}

/// Headers in order, possibly with repeated keys: a list of objects, or one object as a short form.
#[derive(Default)]
struct Headers(Vec<Header>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderFields {
    key: String,
    #[serde(default, deserialize_with = "given")]
    value: Option<Option<String>>,
    value_base64: Option<String>,
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("headers as [{\"key\": .., \"value\": ..}] or {KEY: VALUE}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some(header) = list.next_element::<HeaderFields>()? {
            let value = bytes("value", header.value, header.value_base64).map_err(de::Error::custom)?;
            headers.push((header.key, value.flatten()));
        }
        Ok(Headers(headers))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Option<String>>()? {
            headers.push((key, value.map(String::into_bytes)));
        }
        Ok(Headers(headers))
    }
}

/// A consumed record, ready to be written.
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) record: &'a Record,
}

impl Serialize for Outgoing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &self.record.offset)?;
        map.serialize_entry("timestamp", &self.record.timestamp)?;
        write_bytes(&mut map, "key", "key_base64", self.record.key.as_deref())?;
        write_bytes(&mut map, "value", "value_base64", self.record.value.as_deref())?;
        if !self.record.headers.is_empty() {
            let headers: Vec<OutgoingHeader<'_>> = self.record.headers.iter().map(OutgoingHeader).collect();
            map.serialize_entry("headers", &headers)?;
        }
        map.end()
    }
}

struct OutgoingHeader<'a>(&'a kernel::records::RecordHeader);

impl Serialize for OutgoingHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        // A header's key is UTF-8 by Kafka's definition; invalid bytes are replaced.
        map.serialize_entry("key", &String::from_utf8_lossy(&self.0.key))?;
        write_bytes(&mut map, "value", "value_base64", self.0.value.as_deref())?;
        map.end()
    }
}

fn write_bytes<M: SerializeMap>(
    map: &mut M,
    text_name: &'static str,
    base64_name: &'static str,
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(std::str::from_utf8) {
        None => map.serialize_entry(text_name, &()),
        Some(Ok(text)) => map.serialize_entry(text_name, text),
        Some(Err(_)) => map.serialize_entry(base64_name, &to_base64(bytes.unwrap_or_default())),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |word, at| (word << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let sextet = (word >> (18 - 6 * digit)) & 63;
            let is_padding = digit > group.len();
            text.push(if is_padding { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    text
}

/// Padding is optional.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut word = 0u32;
        for digit in group {
            word = (word << 6) | ALPHABET.iter().position(|letter| letter == digit)? as u32;
        }
        match group.len() {
            4 => bytes.extend(&word.to_be_bytes()[1..]),
            3 => bytes.extend(&(word << 6).to_be_bytes()[1..3]),
            2 => bytes.extend(&(word << 12).to_be_bytes()[1..2]),
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> Record {
        let header = |key: &'static str, value: Option<&'static [u8]>| kernel::records::RecordHeader {
            key: Bytes::from_static(key.as_bytes()),
            value: value.map(Bytes::from_static),
        };
        Record {
            offset: 7,
            timestamp: 1_000,
            key: key.map(Bytes::from_static),
            value: value.map(Bytes::from_static),
            headers: vec![header("h", Some(b"x")), header("h", None), header("b", Some(b"\xff"))],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        type Nullable = Option<&'static [u8]>;
        let cases: [(Nullable, Nullable); 4] = [
            (Some(b"k"), Some("v \"quoted\" \u{1f3ef}".as_bytes())),
            (None, None),
            (Some(b""), Some(b"")),
            (Some(b"\x00\xff"), Some(b"\xfe\xff\x80\x81")),
        ];
        for (key, value) in cases {
            let record = record(key, value);
            let line = serde_json::to_vec(&Outgoing { topic: "t", partition: 3, record: &record }).unwrap();
            let read = parse(&line).unwrap();
            assert_eq!((read.key.as_deref(), read.value.as_deref()), (key, value));
            assert_eq!((read.partition, read.timestamp), (Some(3), Some(1_000)));
            let headers = [("h", Some(vec![b'x'])), ("h", None), ("b", Some(vec![0xff]))];
            assert_eq!(read.headers, headers.map(|(key, value)| (key.to_owned(), value)));
        }
    }

    #[test]
    fn the_form_is_as_documented() {
        let mut plain = record(Some(b"k"), None);
        plain.headers.truncate(1);
        let line = serde_json::to_string(&Outgoing { topic: "t", partition: 0, record: &plain }).unwrap();
        assert_eq!(
            line,
            r#"{"topic":"t","partition":0,"offset":7,"timestamp":1000,"key":"k","value":null,"headers":[{"key":"h","value":"x"}]}"#
        );
    }

    #[test]
    fn people_may_write_less() {
        let read = parse(br#"{"value": "v", "headers": {"b": "1", "a": null}}"#).unwrap();
        assert_eq!((read.key, read.value), (None, Some(b"v".to_vec())));
        assert_eq!(read.headers, [("b".to_owned(), Some(b"1".to_vec())), ("a".to_owned(), None)]);
        assert_eq!((read.partition, read.timestamp), (None, None));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, cause) in [
            ("{}", "needs a \"value\""),
            (r#"{"key": "k"}"#, "needs a \"value\""),
            (r#"{"value": {"a": 1}}"#, "expected a string"),
            (r#"{"value": "v", "keey": "k"}"#, "unknown field `keey`"),
            (r#"{"value": "v", "value_base64": "dg=="}"#, "exclude each other"),
            (r#"{"value_base64": "?"}"#, "is not base64"),
            (r#"{"value": "v", "headers": 7}"#, "headers as"),
            ("hello", "not a record in JSON"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(cause), "{line}: {error}");
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(to_base64(plain.as_bytes()), text);
            assert_eq!(from_base64(text).as_deref(), Some(plain.as_bytes()));
        }
        assert!(from_base64("A").is_none() && from_base64("A?==").is_none());
    }
}
