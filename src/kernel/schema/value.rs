//! A body as a tree of named values, for any API at any version.
//!
//! This is the slow, general way: refusals, tests and tools use it. Services use the typed structs of
//! `kafka-protocol`.

use uuid::Uuid;

use super::walk::{self, put_varint};
use super::{Field, Kind, Message, Versions};
use crate::malformed::Malformed;

/// A value of any kind.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The names say it.
pub enum Value {
    Null,
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    Float(f64),
    Uuid(Uuid),
    String(String),
    Bytes(Vec<u8>),
    Array(Vec<Value>),
    Struct(Vec<(&'static str, Value)>),
}

impl Value {
    /// The named field of a struct.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Struct(fields) => fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The named field of a struct, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        match self {
            Value::Struct(fields) => {
                fields.iter_mut().find(|(field, _)| *field == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Sets a field if the struct has it; returns whether it does.
    pub fn set(&mut self, name: &str, value: Value) -> bool {
        match self.get_mut(name) {
            Some(place) => {
                *place = value;
                true
            }
            None => false,
        }
    }

    /// The elements of an array; empty for any other value.
    pub fn elements(&self) -> &[Value] {
        match self {
            Value::Array(elements) => elements,
            _ => &[],
        }
    }

    /// The value of an integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The content of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// The struct with every field of the version at its default.
pub fn default_struct(fields: &'static [Field], version: i16) -> Value {
    let present = fields.iter().filter(|field| field.versions.contains(version));
    Value::Struct(present.map(|field| (field.name, default_of(field, version))).collect())
}

fn default_of(field: &Field, version: i16) -> Value {
    if field.default == "null" && field.nullable.contains(version) {
        return Value::Null;
    }
    match field.kind {
        Kind::Bool => Value::Bool(field.default == "true"),
        Kind::Float64 => Value::Float(field.default.parse().unwrap_or(0.0)),
        Kind::Uuid => Value::Uuid(Uuid::nil()),
        Kind::String => Value::String(field.default.trim_matches('"').replace("null", "")),
        Kind::Bytes => Value::Bytes(Vec::new()),
        // A response without records has null here, which every client treats as "none".
        Kind::Records if field.nullable.contains(version) => Value::Null,
        Kind::Records => Value::Bytes(Vec::new()),
        Kind::Array(_) => Value::Array(Vec::new()),
        Kind::Struct(fields) => default_struct(fields, version),
        _ => Value::Int(parse_int(field.default)),
    }
}

fn parse_int(text: &str) -> i64 {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).unwrap_or(0),
        None => text.parse().unwrap_or(0),
    }
}

/// Decodes a body after checking its bounds.
pub fn decode(message: &'static Message, version: i16, body: &[u8]) -> Result<Value, Malformed> {
    walk::check(message, version, body)?;
    let mut reader = Reader { body, at: 0, version, is_flexible: message.flexible.contains(version) };
    Ok(reader.structure(message.fields))
}

/// Encodes a struct; fields that it lacks take their defaults, fields that the version lacks are left out.
pub fn encode(message: &'static Message, version: i16, value: &Value) -> Result<Vec<u8>, Malformed> {
    let mut writer = Writer { output: Vec::new(), version, is_flexible: message.flexible.contains(version) };
    writer.structure(message.fields, value)?;
    Ok(writer.output)
}

fn is_tagged(field: &Field, version: i16) -> bool {
    field.tag.is_some_and(|(_, versions): (u32, Versions)| versions.contains(version))
}

/// Reads a body that [`walk::check`] has accepted: every length is within it.
struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    version: i16,
    is_flexible: bool,
}

impl Reader<'_> {
    fn structure(&mut self, fields: &'static [Field]) -> Value {
        let mut result = default_struct(fields, self.version);
        for field in fields {
            if field.versions.contains(self.version) && !is_tagged(field, self.version) {
                let value = self.field(field, field.kind);
                result.set(field.name, value);
            }
        }
        if self.is_flexible {
            for _ in 0..self.varint() {
                let tag = self.varint();
                let end = self.varint() as usize + self.at;
                let by_tag = |field: &&Field| {
                    is_tagged(field, self.version) && field.tag.is_some_and(|(number, _)| number == tag)
                };
                if let Some(field) = fields.iter().find(by_tag) {
                    let value = self.field(field, field.kind);
                    result.set(field.name, value);
                }
                self.at = end;
            }
        }
        result
    }

    fn field(&mut self, field: &'static Field, kind: Kind) -> Value {
        match kind {
            Kind::Bool => Value::Bool(self.int(1) != 0),
            Kind::Int8 => Value::Int(i64::from(self.int(1) as i8)),
            Kind::Int16 => Value::Int(i64::from(self.int(2) as i16)),
            Kind::Uint16 => Value::Int(self.int(2) as i64),
            Kind::Int32 => Value::Int(i64::from(self.int(4) as i32)),
            Kind::Uint32 => Value::Int(self.int(4) as i64),
            Kind::Int64 => Value::Int(self.int(8) as i64),
            Kind::Float64 => Value::Float(f64::from_bits(self.int(8))),
            Kind::Uuid => {
                let high = u128::from(self.int(8));
                Value::Uuid(Uuid::from_u128(high << 64 | u128::from(self.int(8))))
            }
            Kind::String => self
                .blob(kind)
                .map_or(Value::Null, |bytes| Value::String(String::from_utf8_lossy(bytes).into_owned())),
            Kind::Bytes | Kind::Records => {
                self.blob(kind).map_or(Value::Null, |bytes| Value::Bytes(bytes.to_vec()))
            }
            Kind::Array(element) => self.elements(field, *element),
            Kind::Struct(_) if field.nullable.contains(self.version) && (self.int(1) as i8) < 0 => {
                Value::Null
            }
            Kind::Struct(fields) => self.structure(fields),
        }
    }

    fn elements(&mut self, field: &'static Field, element: Kind) -> Value {
        let count =
            if self.is_flexible { i64::from(self.varint()) - 1 } else { i64::from(self.int(4) as i32) };
        if count < 0 {
            return Value::Null;
        }
        let elements = (0..count).map(|_| match element {
            Kind::Struct(fields) => self.structure(fields),
            scalar => self.field(field, scalar),
        });
        Value::Array(elements.collect())
    }

    fn blob(&mut self, kind: Kind) -> Option<&[u8]> {
        let length = match kind {
            _ if self.is_flexible => i64::from(self.varint()) - 1,
            Kind::String => i64::from(self.int(2) as i16),
            _ => i64::from(self.int(4) as i32),
        };
        let length = usize::try_from(length).ok()?;
        let start = self.at;
        self.at += length;
        Some(&self.body[start..start + length])
    }

    fn int(&mut self, width: usize) -> u64 {
        let bytes = &self.body[self.at..self.at + width];
        self.at += width;
        bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn varint(&mut self) -> u32 {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.int(1) as u32;
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
}

struct Writer {
    output: Vec<u8>,
    version: i16,
    is_flexible: bool,
}

impl Writer {
    fn structure(&mut self, fields: &'static [Field], value: &Value) -> Result<(), Malformed> {
        let mut tagged = Vec::new();
        let version = self.version;
        for field in fields.iter().filter(|field| field.versions.contains(version)) {
            let default = default_of(field, version);
            let given = value.get(field.name).unwrap_or(&default);
            if !is_tagged(field, self.version) {
                self.field(field, field.kind, given)?;
            } else if *given != default {
                tagged.push((field, given.clone()));
            }
        }
        if self.is_flexible {
            self.tagged_fields(tagged)?;
        }
        Ok(())
    }

    fn tagged_fields(&mut self, mut tagged: Vec<(&'static Field, Value)>) -> Result<(), Malformed> {
        tagged.sort_by_key(|(field, _)| field.tag.map(|(number, _)| number));
        put_varint(&mut self.output, tagged.len() as u32);
        for (field, value) in tagged {
            let before = std::mem::take(&mut self.output);
            self.field(field, field.kind, &value)?;
            let content = std::mem::replace(&mut self.output, before);
            put_varint(&mut self.output, field.tag.map_or(0, |(number, _)| number));
            put_varint(&mut self.output, content.len() as u32);
            self.output.extend(content);
        }
        Ok(())
    }

    fn field(&mut self, field: &'static Field, kind: Kind, value: &Value) -> Result<(), Malformed> {
        match (kind, value) {
            (Kind::Bool, Value::Bool(value)) => self.output.push(u8::from(*value)),
            (Kind::Int8, Value::Int(value)) => self.output.push(*value as u8),
            (Kind::Int16 | Kind::Uint16, Value::Int(value)) => {
                self.output.extend_from_slice(&(*value as u16).to_be_bytes());
            }
            (Kind::Int32 | Kind::Uint32, Value::Int(value)) => {
                self.output.extend_from_slice(&(*value as u32).to_be_bytes());
            }
            (Kind::Int64, Value::Int(value)) => self.output.extend_from_slice(&value.to_be_bytes()),
            (Kind::Float64, Value::Float(value)) => self.output.extend_from_slice(&value.to_be_bytes()),
            (Kind::Uuid, Value::Uuid(value)) => self.output.extend_from_slice(value.as_bytes()),
            (Kind::String, Value::String(text)) => self.blob(kind, Some(text.as_bytes())),
            (Kind::Bytes | Kind::Records, Value::Bytes(bytes)) => self.blob(kind, Some(bytes)),
            (Kind::String | Kind::Bytes | Kind::Records, Value::Null) => self.blob(kind, None),
            (Kind::Array(_), Value::Null) => self.count(None),
            (Kind::Array(element), Value::Array(elements)) => {
                self.count(Some(elements.len()));
                for value in elements {
                    match element {
                        Kind::Struct(fields) => self.structure(fields, value)?,
                        scalar => self.field(field, *scalar, value)?,
                    }
                }
            }
            (Kind::Struct(_), Value::Null) => self.output.push(0xff),
            (Kind::Struct(fields), value @ Value::Struct(_)) => {
                if field.nullable.contains(self.version) {
                    self.output.push(1);
                }
                self.structure(fields, value)?;
            }
            (_, value) => return Err(Malformed(format!("{} cannot hold {value:?}", field.name))),
        }
        Ok(())
    }

    fn blob(&mut self, kind: Kind, bytes: Option<&[u8]>) {
        match (kind, bytes) {
            (Kind::String, _) if !self.is_flexible => {
                self.output.extend(bytes.map_or(-1, |bytes| bytes.len() as i16).to_be_bytes());
            }
            _ => self.count(bytes.map(<[u8]>::len)),
        }
        self.output.extend_from_slice(bytes.unwrap_or_default());
    }

    fn count(&mut self, count: Option<usize>) {
        if self.is_flexible {
            put_varint(&mut self.output, count.map_or(0, |count| count as u32 + 1))
        } else {
            self.output.extend(count.map_or(-1, |count| count as i32).to_be_bytes())
        }
    }
}
