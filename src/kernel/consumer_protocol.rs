//! The embedded consumer protocol of JoinGroup and SyncGroup: subscriptions and assignments (KIP-429,
//! KIP-792).
//!
//! The classic protocol treats these bytes as opaque, so they are untrusted: every count is checked against
//! the remaining bytes before anything is allocated for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The latest version in Kafka 4.1. Later versions start with the same fields.
const VERSION_MAX: i16 = 3;
/// First version with the member's owned partitions.
const OWNED_FROM: i16 = 1;

/// Partitions by topic name.
pub type NamedPartitions = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// A consumer's subscription.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerSubscription {
    /// The topics that it subscribes to.
    pub topics: BTreeSet<Arc<str>>,
    /// The partitions that it owns.
    pub owned: NamedPartitions,
}

/// The version prefix, clamped to the known versions.
pub fn version(bytes: &Bytes) -> i16 {
    match **bytes {
        [high, low, ..] => i16::from_be_bytes([high, low]).clamp(0, VERSION_MAX),
        _ => 0,
    }
}

/// Reads a subscription; `None` if it is not one.
pub fn read_subscription(bytes: &Bytes) -> Option<ConsumerSubscription> {
    let mut rest = Reader(bytes.clone());
    let version = rest.version()?;
    let mut topics = BTreeSet::new();
    for _ in 0..rest.count()? {
        topics.insert(rest.text()?);
    }
    rest.skip_bytes()?;
    let owned = if version >= OWNED_FROM { rest.partitions()? } else { NamedPartitions::new() };
    Some(ConsumerSubscription { topics, owned })
}

/// Reads an assignment; `None` if it is not one.
pub fn read_assignment(bytes: &Bytes) -> Option<NamedPartitions> {
    let mut rest = Reader(bytes.clone());
    rest.version()?;
    rest.partitions()
}

/// Writes an assignment without user data.
pub fn write_assignment(version: i16, partitions: &NamedPartitions) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    bytes.put_i32(partitions.len() as i32);
    for (topic, of_topic) in partitions {
        // No topic has a name longer than 249 bytes.
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(of_topic.len() as i32);
        of_topic.iter().for_each(|partition| bytes.put_i32(*partition));
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// The unread bytes.
struct Reader(Bytes);

impl Reader {
    fn version(&mut self) -> Option<i16> {
        let version = self.0.try_get_i16().ok()?;
        (version >= 0).then_some(version)
    }

    /// The number of elements that follow; each takes at least two bytes.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.0.try_get_i32().ok()?).ok()?;
        (count <= self.0.remaining() / 2).then_some(count)
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::try_from(self.0.try_get_i16().ok()?).ok()?;
        let bytes = (length <= self.0.remaining()).then(|| self.0.split_to(length))?;
        std::str::from_utf8(&bytes).ok().map(Arc::from)
    }

    /// User data, which may be null.
    fn skip_bytes(&mut self) -> Option<()> {
        let length = self.0.try_get_i32().ok()?;
        let length = usize::try_from(length.max(0)).ok()?;
        (length <= self.0.remaining()).then(|| self.0.advance(length))
    }

    fn partitions(&mut self) -> Option<NamedPartitions> {
        let mut partitions = NamedPartitions::new();
        for _ in 0..self.count()? {
            let of_topic = partitions.entry(self.text()?).or_default();
            for _ in 0..self.count()? {
                of_topic.insert(self.0.try_get_i32().ok()?);
            }
        }
        Some(partitions)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    use super::*;

    fn subscription(version: i16) -> Bytes {
        let owned = TopicPartition::default()
            .with_topic(TopicName(StrBytes::from_static_str("a")))
            .with_partitions(vec![1, 2]);
        let topics = ["a", "b"].map(StrBytes::from_static_str).to_vec();
        let mut subscription = ConsumerProtocolSubscription::default().with_topics(topics);
        if version >= OWNED_FROM {
            subscription = subscription.with_owned_partitions(vec![owned]);
        }
        let mut bytes = BytesMut::new();
        bytes.put_i16(version);
        subscription.encode(&mut bytes, version).unwrap();
        bytes.freeze()
    }

    #[test]
    fn subscriptions_of_every_version_are_read() {
        for version in 0..=VERSION_MAX {
            let read = read_subscription(&subscription(version)).unwrap();
            assert_eq!(read.topics, BTreeSet::from([Arc::from("a"), Arc::from("b")]));
            assert_eq!(read.owned.get("a").map(BTreeSet::len), (version >= OWNED_FROM).then_some(2));
        }
    }

    #[test]
    fn what_is_cut_short_or_bent_is_no_subscription_and_allocates_nothing() {
        let whole = subscription(1);
        for length in 0..whole.len() {
            assert_eq!(read_subscription(&whole.slice(..length)), None, "{length} bytes");
        }
        for at in 2..whole.len() - 3 {
            let mut bent = whole.to_vec();
            bent[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
            // Any result is fine, as long as nothing is allocated for two thousand million topics.
            let _ = read_subscription(&Bytes::from(bent));
        }
        assert_eq!(read_assignment(&Bytes::from_static(b"share 0")), None);
    }

    #[test]
    fn assignments_are_read_as_they_were_written() {
        let partitions = NamedPartitions::from([
            (Arc::from("a"), BTreeSet::from([0, 7])),
            (Arc::from("b"), BTreeSet::new()),
        ]);
        for version in 0..=VERSION_MAX {
            let written = write_assignment(version, &partitions);
            assert_eq!(read_assignment(&written).as_ref(), Some(&partitions));
            let decoded = ConsumerProtocolAssignment::decode(&mut written.slice(2..), version).unwrap();
            assert_eq!(decoded.assigned_partitions[0].partitions, [0, 7]);
        }
    }
}
