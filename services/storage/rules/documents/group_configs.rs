//! Configs of groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};

/// The configs of a group where they differ from the broker's settings, as clients wrote them. A group may have some
/// before it has members, and keeps them when it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupConfigs(pub BTreeMap<String, String>);

/// By the group's id.
impl DocumentKind for GroupConfigs {
    const PREFIX: &'static str = "group-configs";
    type Key = Arc<str>;

    fn lock_root(group: &Arc<str>) -> LockRoot {
        LockRoot::Group(Arc::clone(group))
    }
}
