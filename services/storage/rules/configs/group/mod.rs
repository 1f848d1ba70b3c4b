//! Configs of groups: `config` says what is known of one, `table` lists them, `check` validates those of a group and
//! gives its coordinator what they mean.

mod check;
mod config;
mod table;
#[cfg(test)]
mod tests;

pub use check::timeouts;
pub(crate) use check::{check, list_default};
pub use config::{Bounds, GroupConfig, GroupDefaults};
pub use table::{find, group_configs};
