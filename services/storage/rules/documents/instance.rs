//! Static members (KIP-345).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::key::InstanceKey;
use super::kind::{DocumentKind, LockRoot};

/// The member that has a group instance id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceDocument {
    /// Its member id.
    pub member: Arc<str>,
}

/// By group and group instance id.
impl DocumentKind for InstanceDocument {
    const PREFIX: &'static str = "instance";
    type Key = InstanceKey;

    fn lock_root(key: &InstanceKey) -> LockRoot {
        LockRoot::Group(Arc::clone(&key.group))
    }
}
