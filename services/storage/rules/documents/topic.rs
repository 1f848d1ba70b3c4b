//! Topics.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use kernel::ports::TopicFacts;
use kernel::{TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};
use crate::configs::EffectiveConfig;

/// A topic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TopicDocument {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its configs where they differ from the defaults, as clients wrote them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, String>,
    #[serde(skip)]
    effective: OnceLock<EffectiveConfig>,
}

impl PartialEq for TopicDocument {
    fn eq(&self, other: &Self) -> bool {
        // The effective configs are derived from the configs.
        (&self.name, self.id, self.partitions, &self.configs)
            == (&other.name, other.id, other.partitions, &other.configs)
    }
}

impl Eq for TopicDocument {}

impl TopicDocument {
    /// A topic with these configs.
    pub fn new(name: Arc<str>, id: TopicId, partitions: i32, configs: BTreeMap<String, String>) -> Self {
        Self { name, id, partitions, configs, effective: OnceLock::new() }
    }

    /// The topic with other configs.
    pub(crate) fn with_configs(&self, configs: BTreeMap<String, String>) -> Self {
        Self::new(Arc::clone(&self.name), self.id, self.partitions, configs)
    }

    /// The effective configs, computed once.
    pub fn effective(&self) -> &EffectiveConfig {
        self.effective.get_or_init(|| {
            let overrides = self.configs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            EffectiveConfig::from_overrides(overrides)
        })
    }

    /// One of its partitions; `None` if it does not exist.
    pub fn partition(&self, partition: i32) -> Option<TopicPartition> {
        (0..self.partitions).contains(&partition).then_some(TopicPartition { topic: self.id, partition })
    }

    /// A partition by its number, which it has.
    pub fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.id, partition }
    }

    /// All its partitions.
    pub fn all_partitions(&self) -> impl Iterator<Item = TopicPartition> + use<> {
        let topic = self.id;
        (0..self.partitions).map(move |partition| TopicPartition { topic, partition })
    }

    /// What other services may see of it.
    pub fn facts(&self) -> TopicFacts {
        TopicFacts { name: Arc::clone(&self.name), id: self.id, partitions: self.partitions }
    }
}

/// By name.
impl DocumentKind for TopicDocument {
    const PREFIX: &'static str = "topic";
    type Key = Arc<str>;

    fn lock_root(name: &Arc<str>) -> LockRoot {
        LockRoot::TopicName(Arc::clone(name))
    }
}

/// The name of a topic, by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicName(pub Arc<str>);

/// By id.
impl DocumentKind for TopicName {
    const PREFIX: &'static str = "topic-name";
    type Key = TopicId;

    fn lock_root(id: &TopicId) -> LockRoot {
        LockRoot::TopicId(*id)
    }
}

/// The topics whose names are equal once `.` is replaced by `_`: the names of their metrics would collide.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicCollision(pub Vec<Arc<str>>);

/// By the name with `_`.
impl DocumentKind for TopicCollision {
    const PREFIX: &'static str = "topic-collision";
    type Key = Arc<str>;

    fn lock_root(name: &Arc<str>) -> LockRoot {
        LockRoot::TopicName(Arc::clone(name))
    }
}
