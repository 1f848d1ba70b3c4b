//! The features of Kafka that this broker has at some level (KIP-584).
//!
//! To clients a feature that is absent is at level 0: transactions are the old ones (transaction.version), and so on.

/// Kafka's name of each feature, and the only level that it is served at.
pub(crate) const FEATURES: [(&str, i16); 1] = [
    // Groups of the consumer protocol (KIP-848).
    ("group.version", 1),
];

/// Clients take -1 for "the broker does not know yet". A release that has other features must count this up.
pub(crate) const EPOCH: i64 = 1;
