//! The level of a store: which versions of its documents are written, so that two releases can share it for a while.
//!
//! A release that changes what documents look like raises [`LEVEL`] by one. It writes them as the release before can read them
//! until the store is finalized (`yagura store finalize`), which nobody can while a broker of that release has it; from then on,
//! as it likes. So brokers are replaced one after the other, and any may be replaced back until then. A broker that does not
//! know yet that a store was finalized does no harm: what it writes can be read by all.

/// The level that this release writes in a new store, and in others once they are finalized. It reads this one and the one
/// before.
pub const LEVEL: u32 = if cfg!(feature = "next-level") { 2 } else { 1 };

/// The first level, which a store has that names none.
pub const FIRST_LEVEL: u32 = 1;

/// The level before this release's own, which every broker that shares a store with it can read.
pub const LEVEL_BEFORE: u32 = if LEVEL > FIRST_LEVEL { LEVEL - 1 } else { FIRST_LEVEL };
