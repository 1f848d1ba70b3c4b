//! Typed ids, so that a partition number cannot be passed where a node id belongs.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A topic's id (KIP-516): it names one life of a topic, while the name may be deleted and created again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// "No id": what requests by name carry.
    pub const ZERO: TopicId = TopicId(Uuid::nil());
}

impl fmt::Display for TopicId {
    /// As Kafka's tools print it: unpadded URL-safe base64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = self.0.as_u128();
        // 22 digits of 6 bits hold the 128 bits, the last digit being padded with four zero bits.
        for digit in 0..22u32 {
            let shift = 122i32 - 6 * digit as i32;
            let sextet = if shift >= 0 { bits >> shift } else { bits << -shift } & 63;
            write!(f, "{}", char::from(ALPHABET[sextet as usize]))?;
        }
        Ok(())
    }
}

/// One partition of one life of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number, from 0.
    pub partition: i32,
}

/// A broker's node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i32);

/// An idempotent producer's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProducerId(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_is_printed_as_kafka_prints_it() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        // Kafka's Uuid.ONE_UUID and METADATA_TOPIC_ID are (0, 1).
        assert_eq!(TopicId(Uuid::from_u128(1)).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(TopicId(Uuid::from_u128(u128::MAX)).to_string(), "_____________________w");
    }
}
