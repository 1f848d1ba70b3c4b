//! The groups that have timeouts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};

/// A group that has timeouts ([`GroupDocument::has_timeouts`](super::GroupDocument::has_timeouts)). A broker that starts
/// looks at these, and not at all groups that have ever committed an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveGroup {}

/// By group id.
impl DocumentKind for LiveGroup {
    const PREFIX: &'static str = "live-group";
    type Key = Arc<str>;

    fn lock_root(group: &Arc<str>) -> LockRoot {
        LockRoot::Group(Arc::clone(group))
    }
}
