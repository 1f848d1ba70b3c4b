//! The mark of a store that a copy reads or fills.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::kind::{DocumentKind, LockRoot};

/// A copy reads this store, or fills it, and no broker may have it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyMark {
    /// The copy.
    pub id: Uuid,
    /// Until when nobody may have the store that it reads, in ms of store time: it renews that while it lives. `None` in the store that
    /// it fills, which is not whole until the copy has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<i64>,
}

impl CopyMark {
    /// The longest that it lasts. A later end was set by a clock that has been set back since.
    pub const LASTS_MAX_MS: i64 = 120_000;

    /// Why nobody else may have the store, if it still lasts.
    pub fn refusal(&self, now_ms: i64) -> Option<&'static str> {
        match self.until_ms {
            None => Some(
                "the store is a copy that was not finished; remove it (drop its schema, or delete its file with those beside it), and run `yagura store copy` again",
            ),
            Some(until_ms) => (now_ms..=now_ms + Self::LASTS_MAX_MS).contains(&until_ms).then_some(
                "`yagura store copy` reads the store, or was cut off within the last minute; start again once it has ended",
            ),
        }
    }
}

/// One per store.
impl DocumentKind for CopyMark {
    const PREFIX: &'static str = "copy";
    type Key = ();

    fn lock_root((): &()) -> LockRoot {
        LockRoot::Store
    }
}
