//! Steps over a body once, by the schema, without decoding it.
//!
//! The walk verifies that every length and count stays within the body before anything is allocated by them,
//! and shows each value to a visitor. [`rewrite`] replaces values: the rest stays byte for byte, and only the
//! sizes of tagged fields around a replaced value change.

use std::ops::Range;

use bytes::Bytes;
use uuid::Uuid;

use super::{Field, Kind, Message};
use crate::malformed::Malformed;

/// Most structs, strings and numbers in arrays that one body may hold. A decoded struct is about fifty times larger than its
/// smallest form on the wire, so the size of the frame alone does not bound what decoding allocates.
pub const ELEMENTS_MAX: usize = 250_000;

/// The longest string. Kafka holds compact strings, whose length may be any number, to the same.
const STRING_BYTES_MAX: i64 = i16::MAX as i64;

/// A value found by the walk.
#[derive(Debug, Clone)]
pub struct Found<'a> {
    /// Its field.
    pub field: &'static Field,
    /// The value; the elements of an array of scalars are shown one by one.
    pub value: RawValue<'a>,
    /// Its range in the body, including its length prefix, if any.
    pub at: Range<usize>,
    /// Start of the enclosing struct: fields with the same number belong together.
    pub instance: usize,
    is_flexible: bool,
}

/// A value as encoded on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // The names say it.
pub enum RawValue<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Uuid(Uuid),
    /// A string or bytes; strings are not checked to be UTF-8.
    Bytes(&'a [u8]),
    /// The number of elements, shown before them.
    Array(usize),
}

impl<'a> RawValue<'a> {
    /// The text of a string that is valid UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            RawValue::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The value of an integer.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            RawValue::Int(value) => Some(*value),
            _ => None,
        }
    }
}

/// The replacement of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// For a string.
    Text(String),
    /// For an integer of any width; it is truncated to the field's.
    Int(i64),
    /// For an id.
    Uuid(Uuid),
}

/// Checks that the body is complete. Bytes after its end are ignored, as Kafka ignores them.
pub fn check(message: &Message, version: i16, body: &[u8]) -> Result<usize, Malformed> {
    walk(message, version, body, |_| {})
}

/// Shows every value to `visit`, in wire order, and returns the length of the body.
pub fn walk(
    message: &Message,
    version: i16,
    body: &[u8],
    visit: impl FnMut(Found<'_>),
) -> Result<usize, Malformed> {
    Ok(walked(message, version, body, ELEMENTS_MAX, visit)?.at)
}

/// The same, and returns how many structs, strings and numbers in arrays the body has.
pub fn count(
    message: &Message,
    version: i16,
    body: &[u8],
    visit: impl FnMut(Found<'_>),
) -> Result<usize, Malformed> {
    Ok(walked(message, version, body, ELEMENTS_MAX, visit)?.elements)
}

/// Walks a body that this process has encoded: it may have any number of elements.
pub fn walk_own(
    message: &Message,
    version: i16,
    body: &[u8],
    visit: impl FnMut(Found<'_>),
) -> Result<usize, Malformed> {
    Ok(walked(message, version, body, usize::MAX, visit)?.at)
}

fn walked<'a, F: FnMut(Found<'_>)>(
    message: &Message,
    version: i16,
    body: &'a [u8],
    elements_max: usize,
    visit: F,
) -> Result<Walker<'a, Show<F>>, Malformed> {
    let mut walker = Walker::new(message, version, body, Show(visit));
    walker.elements_max = elements_max;
    walker.fields(message.fields)?;
    Ok(walker)
}

/// Replaces the values for which `edit` returns another; `None` if it returned none.
pub fn rewrite(
    message: &Message,
    version: i16,
    body: &Bytes,
    edit: impl FnMut(&Found<'_>) -> Option<Replacement>,
) -> Result<Option<Bytes>, Malformed> {
    let mut walker = Walker::new(message, version, body, Edit::new(edit));
    walker.fields(message.fields)?;
    let Walker { visitor, .. } = walker;
    Ok(visitor.finish(body))
}

trait Visit {
    fn value(&mut self, body: &[u8], found: Found<'_>) -> Result<(), Malformed>;
    /// The content of a tagged field begins; its size is at this range.
    fn tagged_begins(&mut self, _body: &[u8], _size: Range<usize>) {}
    fn tagged_ends(&mut self, _body: &[u8], _at: usize) {}
}

struct Show<F>(F);

impl<F: FnMut(Found<'_>)> Visit for Show<F> {
    fn value(&mut self, _: &[u8], found: Found<'_>) -> Result<(), Malformed> {
        (self.0)(found);
        Ok(())
    }
}

/// Copies the body up to each replaced value; each open tagged field has its own buffer, because its size
/// precedes it and may change.
struct Edit<F> {
    edit: F,
    outputs: Vec<Vec<u8>>,
    copied_to: usize,
    is_changed: bool,
}

impl<F: FnMut(&Found<'_>) -> Option<Replacement>> Edit<F> {
    fn new(edit: F) -> Self {
        Self { edit, outputs: vec![Vec::new()], copied_to: 0, is_changed: false }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        // The outermost output is always present; tagged fields push and pop in pairs.
        let last = self.outputs.len() - 1;
        &mut self.outputs[last]
    }

    fn copy_to(&mut self, body: &[u8], end: usize) {
        let from = std::mem::replace(&mut self.copied_to, end);
        self.output().extend_from_slice(&body[from..end]);
    }

    fn finish(mut self, body: &[u8]) -> Option<Bytes> {
        if !self.is_changed {
            return None;
        }
        self.copy_to(body, body.len());
        self.outputs.pop().map(Bytes::from)
    }
}

impl<F: FnMut(&Found<'_>) -> Option<Replacement>> Visit for Edit<F> {
    fn value(&mut self, body: &[u8], found: Found<'_>) -> Result<(), Malformed> {
        let Some(replacement) = (self.edit)(&found) else { return Ok(()) };
        self.copy_to(body, found.at.start);
        let width = found.at.len();
        write_replacement(self.output(), &found, width, &replacement)?;
        self.copied_to = found.at.end;
        self.is_changed = true;
        Ok(())
    }

    fn tagged_begins(&mut self, body: &[u8], size: Range<usize>) {
        self.copy_to(body, size.start);
        self.copied_to = size.end;
        self.outputs.push(Vec::new());
    }

    fn tagged_ends(&mut self, body: &[u8], at: usize) {
        self.copy_to(body, at);
        if let Some(content) = self.outputs.pop() {
            let output = self.output();
            put_varint(output, content.len() as u32);
            output.extend(content);
        }
    }
}

fn write_replacement(
    output: &mut Vec<u8>,
    found: &Found<'_>,
    width: usize,
    replacement: &Replacement,
) -> Result<(), Malformed> {
    let scalar = element_kind(found.field.kind);
    match (replacement, scalar) {
        (Replacement::Text(text), Kind::String) if found.is_flexible => {
            put_varint(output, text.len() as u32 + 1);
            output.extend_from_slice(text.as_bytes());
        }
        (Replacement::Text(text), Kind::String) => {
            let length = i16::try_from(text.len())
                .map_err(|_| Malformed(format!("the new {} is longer than 32767 bytes", found.field.name)))?;
            output.extend_from_slice(&length.to_be_bytes());
            output.extend_from_slice(text.as_bytes());
        }
        (Replacement::Int(value), _) if matches!(found.value, RawValue::Int(_)) => {
            output.extend_from_slice(&value.to_be_bytes()[8 - width..]);
        }
        (Replacement::Uuid(id), Kind::Uuid) => output.extend_from_slice(id.as_bytes()),
        _ => return Err(Malformed(format!("{} cannot hold the new value", found.field.name))),
    }
    Ok(())
}

fn element_kind(kind: Kind) -> Kind {
    match kind {
        Kind::Array(element) => *element,
        other => other,
    }
}

/// Writes an unsigned varint (KIP-482).
pub fn put_varint(output: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        output.push(value as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

struct Walker<'a, V> {
    body: &'a [u8],
    at: usize,
    version: i16,
    is_flexible: bool,
    elements: usize,
    elements_max: usize,
    instance: usize,
    visitor: V,
}

impl<'a, V: Visit> Walker<'a, V> {
    fn new(message: &Message, version: i16, body: &'a [u8], visitor: V) -> Self {
        let is_flexible = message.flexible.contains(version);
        Self {
            body,
            at: 0,
            version,
            is_flexible,
            elements: 0,
            elements_max: ELEMENTS_MAX,
            instance: 0,
            visitor,
        }
    }

    fn fields(&mut self, fields: &'static [Field]) -> Result<(), Malformed> {
        let outer = std::mem::replace(&mut self.instance, self.at);
        for field in fields {
            let is_tagged = field.tag.is_some_and(|(_, versions)| versions.contains(self.version));
            if field.versions.contains(self.version) && !is_tagged {
                self.field(field, field.kind)?;
            }
        }
        if self.is_flexible {
            self.tagged_fields(fields)?;
        }
        self.instance = outer;
        Ok(())
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), Malformed> {
        let count = self.varint()?;
        for _ in 0..count {
            self.count_element()?;
            let tag = self.tag()?;
            let size_at = self.at;
            let size = self.varint()? as usize;
            let content = self.at;
            let end = content.checked_add(size).filter(|end| *end <= self.body.len());
            let end = end.ok_or_else(|| Malformed(format!("tagged field {tag} passes the end")))?;
            let known = fields.iter().find(|field| {
                field.tag.is_some_and(|(number, versions)| number == tag && versions.contains(self.version))
            });
            if let Some(field) = known {
                self.visitor.tagged_begins(self.body, size_at..content);
                self.field(field, field.kind)?;
                if self.at != end {
                    return Err(Malformed(format!("tagged field {} is not as long as it says", field.name)));
                }
                self.visitor.tagged_ends(self.body, end);
            }
            self.at = end;
        }
        Ok(())
    }

    fn field(&mut self, field: &'static Field, kind: Kind) -> Result<(), Malformed> {
        let start = self.at;
        let value = match kind {
            Kind::Bool => RawValue::Bool(self.take(1)?[0] != 0),
            Kind::Int8 => RawValue::Int(i64::from(self.take(1)?[0] as i8)),
            Kind::Int16 => RawValue::Int(i64::from(i16::from_be_bytes(self.array()?))),
            Kind::Uint16 => RawValue::Int(i64::from(u16::from_be_bytes(self.array()?))),
            Kind::Int32 => RawValue::Int(i64::from(i32::from_be_bytes(self.array()?))),
            Kind::Uint32 => RawValue::Int(i64::from(u32::from_be_bytes(self.array()?))),
            Kind::Int64 => RawValue::Int(i64::from_be_bytes(self.array()?)),
            Kind::Float64 => RawValue::Float(f64::from_be_bytes(self.array()?)),
            Kind::Uuid => RawValue::Uuid(Uuid::from_bytes(self.array()?)),
            Kind::String | Kind::Bytes | Kind::Records => self.blob(field, kind)?,
            Kind::Array(element) => return self.elements(field, *element),
            Kind::Struct(fields) => return self.structure(field, fields),
        };
        self.show(field, value, start)
    }

    fn show(&mut self, field: &'static Field, value: RawValue<'a>, start: usize) -> Result<(), Malformed> {
        let (at, instance, is_flexible) = (start..self.at, self.instance, self.is_flexible);
        self.visitor.value(self.body, Found { field, value, at, instance, is_flexible })
    }

    /// A single struct; a nullable one is preceded by a marker byte, -1 for null and 1 for present.
    fn structure(&mut self, field: &'static Field, fields: &'static [Field]) -> Result<(), Malformed> {
        if field.nullable.contains(self.version) {
            let start = self.at;
            match self.take(1)?[0] as i8 {
                1 => {}
                ..=-1 => return self.show(field, RawValue::Null, start),
                // Kafka reads any other value as present, `kafka-protocol` as null. No client writes one, and
                // a decoder that diverged from this walk would trust unchecked counts.
                marker => return Err(Malformed(format!("{} has the marker {marker}", field.name))),
            }
        }
        self.fields(fields)
    }

    fn blob(&mut self, field: &'static Field, kind: Kind) -> Result<RawValue<'a>, Malformed> {
        self.count_element()?;
        let length = match kind {
            _ if self.is_flexible => i64::from(self.varint()?) - 1,
            Kind::String => i64::from(i16::from_be_bytes(self.array()?)),
            _ => i64::from(i32::from_be_bytes(self.array()?)),
        };
        if matches!(kind, Kind::String) && length > STRING_BYTES_MAX {
            return Err(Malformed(format!("{} has length {length}", field.name)));
        }
        match usize::try_from(length) {
            Ok(length) => Ok(RawValue::Bytes(self.take(length)?)),
            Err(_) if length == -1 && self.may_be_null(field) => Ok(RawValue::Null),
            Err(_) => Err(Malformed(format!("{} has length {length}", field.name))),
        }
    }

    fn elements(&mut self, field: &'static Field, element: Kind) -> Result<(), Malformed> {
        let start = self.at;
        let count = if self.is_flexible {
            i64::from(self.varint()?) - 1
        } else {
            i64::from(i32::from_be_bytes(self.array()?))
        };
        if count == -1 && self.may_be_null(field) {
            return self.show(field, RawValue::Null, start);
        }
        // Every element takes at least one byte, so a count above the remaining bytes is invalid.
        let left = self.body.len() - self.at;
        let count = usize::try_from(count).ok().filter(|count| *count <= left).ok_or_else(|| {
            Malformed(format!("{} says it has {count} elements, but {left} bytes are left", field.name))
        })?;
        self.show(field, RawValue::Array(count), start)?;
        for _ in 0..count {
            match element {
                Kind::Struct(fields) => {
                    self.count_element()?;
                    self.fields(fields)?;
                }
                // These count themselves.
                Kind::String | Kind::Bytes | Kind::Records => self.field(field, element)?,
                number => {
                    self.count_element()?;
                    self.field(field, number)?;
                }
            }
        }
        Ok(())
    }

    fn may_be_null(&self, field: &Field) -> bool {
        field.nullable.contains(self.version)
    }

    fn count_element(&mut self) -> Result<(), Malformed> {
        self.elements += 1;
        if self.elements > self.elements_max {
            Err(Malformed(format!("more than {} elements in one body", self.elements_max)))
        } else {
            Ok(())
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.body.len());
        let end =
            end.ok_or_else(|| Malformed(format!("it ends {length} bytes short at byte {}", self.at)))?;
        let taken = &self.body[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    /// Kafka holds tags as signed numbers, and so does `kafka-protocol`, which counts a negative one and does not write it.
    fn tag(&mut self) -> Result<u32, Malformed> {
        let tag = self.varint()?;
        if i32::try_from(tag).is_err() {
            return Err(Malformed(format!("a tagged field has the tag {tag}; the largest is {}", i32::MAX)));
        }
        Ok(tag)
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed("a varint is longer than 5 bytes".to_owned()))
    }
}
