//! The [level](super::level) of a store, as it is kept there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};
use super::level::{FIRST_LEVEL, LEVEL, LEVEL_BEFORE};

/// The level of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLevel {
    /// It.
    pub level: u32,
}

/// One per store. One that a single process has is raised when a newer release opens it.
impl DocumentKind for StoreLevel {
    const PREFIX: &'static str = "level";
    type Key = ();

    fn lock_root((): &()) -> LockRoot {
        LockRoot::Store
    }
}

/// A store that this release cannot share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongLevel {
    /// A newer release writes it.
    Newer(u32),
    /// It was never finalized by the release before this one.
    Older(u32),
}

impl fmt::Display for WrongLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrongLevel::Newer(level) => write!(
                f,
                "the store was written by a newer release of Yagura (level {level}, this one reads up to {LEVEL}); upgrade Yagura"
            ),
            WrongLevel::Older(level) => write!(
                f,
                "the store is of level {level}, and this release reads level {} at least; run the release before this one on it first, and `yagura store finalize` of that",
                LEVEL_BEFORE
            ),
        }
    }
}

impl StoreLevel {
    /// The level of a store with this document.
    ///
    /// # Errors
    /// This release cannot share it.
    pub fn of(document: Option<&StoreLevel>) -> Result<u32, WrongLevel> {
        let level = document.map_or(FIRST_LEVEL, |document| document.level);
        match level {
            level if level > LEVEL => Err(WrongLevel::Newer(level)),
            level if level < LEVEL_BEFORE => Err(WrongLevel::Older(level)),
            level => Ok(level),
        }
    }
}
