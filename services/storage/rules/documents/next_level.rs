//! A made-up next level, in builds with the feature `next-level`: some documents that change all the time look as no earlier
//! release can read them. No release has it; `tests/faults/upgrade.py` runs a build with it beside one without.

use serde_json::{Error, Map, Value};

/// In the declaration of a kind of version 1: a second version, with another name of one field.
macro_rules! renames {
    ($before:literal => $now:literal) => {
        const VERSION: u32 = 2;
        const LEVEL: u32 = super::LEVEL;

        fn upgrade(_: u32, json: &str) -> Result<Self, serde_json::Error> {
            serde_json::from_str(&super::next_level::renamed(json, $before, $now)?)
        }

        fn write_before(&self) -> Result<String, serde_json::Error> {
            super::next_level::renamed(&serde_json::to_string(self)?, $now, $before)
        }
    };
}
pub(super) use renames;

pub(super) fn renamed(json: &str, from: &str, to: &str) -> Result<String, Error> {
    let mut fields: Map<String, Value> = serde_json::from_str(json)?;
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
    serde_json::to_string(&fields)
}
