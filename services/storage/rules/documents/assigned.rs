//! Which member of a group of the consumer protocol has a partition (KIP-848).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::key::AssignedKey;
use super::kind::{DocumentKind, LockRoot};

/// The members that a partition is assigned to, or that have yet to revoke it. Another member gets it only when there
/// are none, and must not read all members to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedPartition {
    /// Their ids: one, except where the leader of a classic group gave a partition to several.
    pub members: BTreeSet<Arc<str>>,
}

/// By group, topic id and partition.
impl DocumentKind for AssignedPartition {
    const PREFIX: &'static str = "assigned-partition";
    type Key = AssignedKey;

    fn lock_root(key: &AssignedKey) -> LockRoot {
        LockRoot::Group(Arc::clone(&key.group))
    }
}
