//! Kafka's message definitions as data, and what can be done with a body by looking at it through them.
//!
//! `table.rs` is generated from the JSON definitions that ship in Kafka's client jar (`generate.py`, beside it).
//! Nothing here decodes into typed structs: [`walk`] steps over a body once, within its bounds and without
//! allocating, and shows a visitor the values it asks for; [`value`] is the dynamic tree that refusals, tests and tools
//! build bodies of any API with. The typed structs of `kafka-protocol` are only handed a body that
//! [`walk::check`] has passed, because their decoder trusts the counts on the wire.

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
