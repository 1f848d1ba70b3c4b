//! Code shared by several APIs, by subject.

pub(crate) mod alter_configs;
pub(crate) mod answer;
pub(crate) mod config_resources;
pub(crate) mod decompress;
pub(crate) mod directory;
pub(crate) mod epochs;
pub(crate) mod features;
pub(crate) mod groups;
pub(crate) mod isolation;
pub(crate) mod leaving;
pub(crate) mod listing;
pub(crate) mod offsets;
pub(crate) mod operations;
pub(crate) mod repeats;
pub(crate) mod requests;
pub(crate) mod targets;
pub(crate) mod text;
pub(crate) mod topics;
pub(crate) mod transactions;
pub(crate) mod yielding;
