//! The features of Kafka that this broker has at some level (KIP-584).
//!
//! To clients a feature that is absent is at level 0: transactions are the old ones (transaction.version), and so on.

/// A feature, at the only level that it is served at.
pub(super) struct Feature {
    /// Kafka's name of it.
    pub(super) name: &'static str,
    /// Its level.
    pub(super) level: i16,
}

/// All of them.
pub(super) const FEATURES: [Feature; 1] = [
    // Groups of the consumer protocol (KIP-848).
    Feature { name: "group.version", level: 1 },
];

/// Clients take -1 for "the broker does not know yet". A release that has other features must count this up.
pub(super) const EPOCH: i64 = 1;
