//! The Kafka features that this broker supports, and their levels (KIP-584).
//!
//! Clients treat an absent feature as level 0. So `transaction.version` is 0, the old transaction protocol.

/// Kafka's name of each feature and its only supported level.
pub(crate) const FEATURES: [(&str, i16); 1] = [
    // Consumer groups of the new protocol (KIP-848).
    ("group.version", 1),
];

/// The finalized features epoch; -1 means "unknown". A release with other features must increment it.
pub(crate) const EPOCH: i64 = 1;
