//! Topic and broker configs as data: what Kafka 4.1 knows of each, and what Yagura does with it.
//!
//! `topic` is the table of topic configs, `value` reads and checks one value as Kafka's `ConfigDef` does, `effective` is
//! the gate that every stored override has passed ([`validate`]) and what the rules and engines use afterwards
//! ([`EffectiveConfig`]), and `broker` lists what a broker shows of itself.
//!
//! A config that does nothing here is refused, not swallowed: it is legal only at Kafka's default, so that nobody believes
//! in a setting that has no effect. The message says why, and what to do instead.

mod apply;
mod broker;
pub mod client_metrics;
mod effective;
mod kind;
#[cfg(test)]
mod tests;
mod topic;
mod value;

pub(crate) use apply::apply;
pub use broker::{BrokerConfig, BrokerFacts, GroupFacts, broker_configs};
pub use effective::{CleanupPolicy, Compression, EffectiveConfig, TimestampType, canonical, validate};
pub use kind::{ConfigKind, ConfigSource};
pub use topic::{Support, TopicConfig, find, topic_configs};
