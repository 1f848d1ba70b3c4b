//! The mark of a store that a copy has begun to fill.

use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};

/// A copy was begun into this store, and has not ended: it is not whole, and nobody may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnfinishedCopy {}

/// One per store.
impl DocumentKind for UnfinishedCopy {
    const PREFIX: &'static str = "unfinished-copy";
    type Key = ();

    fn lock_root((): &()) -> LockRoot {
        LockRoot::Store
    }
}
