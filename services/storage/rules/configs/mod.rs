//! Topic and broker configs as data: what Kafka 4.4 knows of each, and what Yagura does with it.
//!
//! `topic` is the table of topic configs; `value` parses and checks one value as Kafka's `ConfigDef` does;
//! `effective` validates every override before it is stored ([`validate`]) and gives the rules and engines
//! the effective configs ([`EffectiveConfig`]); `broker` lists the configs of a broker, [`group`] and
//! [`client_metrics`] have those of groups and of subscriptions to clients' metrics.
//!
//! A config that has no effect here is taken, kept and shown all the same: tools set it on every topic that
//! they make. Its row says why it has none ([`Support`]), and whoever describes it reads that. A value that would
//! promise what Yagura does not do is refused, with the reason.

mod apply;
mod broker;
pub mod client_metrics;
mod effective;
pub mod group;
mod kind;
mod reference;
mod support;
#[cfg(test)]
mod tests;
mod topic;
mod value;

pub(crate) use apply::apply;
pub use broker::{BrokerConfig, BrokerFacts, GroupFacts, broker_configs};
pub use effective::{
    CleanupPolicy, CompactionConfig, Compression, EffectiveConfig, TimestampType, canonical, validate,
    validate_together,
};
pub use kind::{ConfigKind, ConfigSource};
pub use reference::reference_markdown;
pub use support::Support;
pub use topic::{LAYOUT, TopicConfig, find, own_topic_configs, topic_configs};
