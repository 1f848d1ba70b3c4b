//! Topic and broker configs as data: what Kafka 4.1 knows of each, and what Yagura does with it.
//!
//! `topic` is the table of topic configs; `value` parses and checks one value as Kafka's `ConfigDef` does;
//! `effective` validates every override before it is stored ([`validate`]) and gives the rules and engines
//! the effective configs ([`EffectiveConfig`]); `broker` lists the configs of a broker.
//!
//! A config that does nothing here is refused: it is legal only at Kafka's default, so that no setting is
//! silently without effect. The message says why, and what to do instead.

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
