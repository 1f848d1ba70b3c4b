//! Client metrics subscriptions (KIP-714).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};

/// The configs of a subscription, as clients wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subscription(pub BTreeMap<String, String>);

impl Subscription {
    /// Whether it asks for any metric.
    pub fn asks(&self) -> bool {
        self.0.get("metrics").is_some_and(|metrics| !metrics.trim().is_empty())
    }
}

/// By the subscription's name.
impl DocumentKind for Subscription {
    const PREFIX: &'static str = "client-metrics";
    type Key = Arc<str>;

    fn lock_root(name: &Arc<str>) -> LockRoot {
        LockRoot::Resource(Self::PREFIX, Arc::clone(name))
    }
}
