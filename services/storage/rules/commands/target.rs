//! The target assignment of a group of the consumer protocol (KIP-848).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::documents::Partitions;

/// A target assignment, computed aside from a snapshot of the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallTarget {
    /// The group epoch that it was computed for. The group may have a later one now: then the next target is due at once.
    pub epoch: i32,
    /// The assignment epoch that the group had: its targets are changed. If it has another one now, nothing is installed.
    pub base_epoch: i32,
    /// The target of each member whose target changes.
    pub members: BTreeMap<Arc<str>, Arc<Partitions>>,
    /// The time, in ms.
    pub now_ms: i64,
}

impl InstallTarget {
    /// Bytes that it holds until it is durable.
    pub(super) fn bytes(&self) -> usize {
        let of_topics =
            |target: &Arc<Partitions>| target.values().map(|of| 32 + 8 * BTreeSet::len(of)).sum::<usize>();
        256 + self.members.values().map(|target| 256 + of_topics(target)).sum::<usize>()
    }
}
