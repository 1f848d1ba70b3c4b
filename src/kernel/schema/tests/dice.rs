//! Random bodies of any message, deterministic by seed.
//!
//! `tests/support` of the root package and `tests/fuzz` include this file for their requests, so it refers to the
//! schema through its parent module, which differs there.

use uuid::Uuid;

use super::schema::value::{Value, default_struct};
use super::schema::{Field, Kind, Message};

/// A pseudorandom number generator (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Any state except zero, which would stay zero.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.roll() >> 16) % bound
    }
}

/// How a body is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Nulls, empty texts and arrays of every small length among the values.
    Anything,
    /// No null, nothing empty, two elements in every array: every field is present.
    Everything,
}

/// A body with every field of the version, tagged ones too.
pub(crate) fn body(message: &Message, version: i16, fill: Fill, dice: &mut Dice) -> Value {
    structure(message.fields, version, fill, dice)
}

fn structure(fields: &'static [Field], version: i16, fill: Fill, dice: &mut Dice) -> Value {
    let mut value = default_struct(fields, version);
    for field in fields.iter().filter(|field| field.versions.contains(version)) {
        let may_be_null = fill == Fill::Anything && field.nullable.contains(version);
        if may_be_null && dice.below(4) == 0 {
            value.set(field.name, Value::Null);
        } else {
            value.set(field.name, content(field.kind, version, fill, dice));
        }
    }
    value
}

fn content(kind: Kind, version: i16, fill: Fill, dice: &mut Dice) -> Value {
    match kind {
        Kind::Bool => Value::Bool(dice.below(2) == 1),
        Kind::Int8 => Value::Int(i64::from(dice.roll() as i8)),
        Kind::Int16 => Value::Int(i64::from(dice.roll() as i16)),
        Kind::Uint16 => Value::Int(i64::from(dice.roll() as u16)),
        Kind::Int32 => Value::Int(i64::from(dice.roll() as i32)),
        Kind::Uint32 => Value::Int(i64::from(dice.roll() as u32)),
        Kind::Int64 => Value::Int(dice.roll() as i64),
        // An eighth is exact, so that the values compare.
        Kind::Float64 => Value::Float(dice.below(1 << 20) as f64 / 8.0),
        Kind::Uuid => Value::Uuid(Uuid::from_u64_pair(dice.roll(), dice.roll())),
        Kind::String => Value::String(text(fill, dice)),
        Kind::Bytes | Kind::Records => {
            Value::Bytes((0..length(fill, 1, 40, dice)).map(|_| dice.roll() as u8).collect())
        }
        Kind::Array(element) => {
            let count = if fill == Fill::Everything { 2 } else { dice.below(4) };
            Value::Array((0..count).map(|_| content(*element, version, fill, dice)).collect())
        }
        Kind::Struct(fields) => structure(fields, version, fill, dice),
    }
}

/// Half of the strings are valid topic names; the others have characters of two and three bytes.
fn text(fill: Fill, dice: &mut Dice) -> String {
    let plain: Vec<char> = "abcdefghijklmnopqrstuvwxyz0123456789-._".chars().collect();
    let strange: Vec<char> = "aé矢倉 \u{0}\"*/".chars().collect();
    let letters = if dice.below(2) == 0 { plain } else { strange };
    (0..length(fill, 1, 24, dice)).map(|_| letters[dice.below(letters.len() as u64) as usize]).collect()
}

fn length(fill: Fill, least: u64, most: u64, dice: &mut Dice) -> u64 {
    let least = if fill == Fill::Everything { least } else { 0 };
    least + dice.below(most - least + 1)
}
