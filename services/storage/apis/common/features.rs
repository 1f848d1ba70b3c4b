//! The Kafka features that this broker supports, and their levels (KIP-584).
//!
//! Clients treat an absent feature as level 0.

use kernel::served::Feature;

/// Each feature, with the level that this release has.
pub(crate) const FEATURES: [Feature; 2] = [
    // Consumer groups of the new protocol (KIP-848).
    Feature { name: "group.version", min: 1, max: 1, finalized: 1 },
    // Transactions (KIP-890): a client that knows level 2 adds no partitions and gets an epoch with each transaction. One
    // that does not is served as at level 1.
    Feature { name: "transaction.version", min: 1, max: 2, finalized: 2 },
];

/// The finalized features epoch; -1 means "unknown". A release with other features must increment it.
pub(crate) const EPOCH: i64 = 2;
