//! Kafka's message definitions as data, and generic operations on bodies that use them.
//!
//! `table.rs` is generated from the JSON definitions that ship in Kafka's client jar (`generate.py`, beside
//! it). Nothing here decodes into typed structs: [`walk`] steps over a body once, within its bounds and
//! without allocating, and shows the values to a visitor; [`value`] is the dynamic tree with which refusals,
//! tests and tools build bodies of any API. A body is decoded into the typed structs of `kafka-protocol` only
//! after [`walk::check`], because their decoder trusts the counts on the wire.

mod definition;
#[rustfmt::skip] // Generated, one line per field.
mod table;
#[cfg(test)]
pub(crate) mod tests;
pub mod value;
pub mod walk;

pub use definition::{Direction, Field, Kind, Mark, Message, Versions};
pub use table::MESSAGES;

/// The message of an API, or `None` where Kafka 4.1 has no such key.
pub fn message(api_key: i16, direction: Direction) -> Option<&'static Message> {
    MESSAGES
        .binary_search_by_key(&(api_key, direction as u8), |m| (m.api_key, m.direction as u8))
        .ok()
        .map(|index| &MESSAGES[index])
}
