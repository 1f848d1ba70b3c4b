//! Rendezvous hashing: who of the brokers gets what, so that one that joins or goes moves only its share.
//!
//! All brokers of a store must agree, those of another release too, so that these functions never change.

use kernel::{NodeId, TopicPartition};

/// What is given to a broker, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given(u64);

impl Given {
    /// A partition.
    pub(crate) fn partition(at: TopicPartition) -> Self {
        let (high, low) = at.topic.0.as_u64_pair();
        // The sign of a partition's number does not matter: none is negative.
        Self(mix(mix(high ^ mix(low)) ^ at.partition as u64))
    }

    /// Something by its name, of some kind.
    pub(crate) fn named(kind: &str, name: &str) -> Self {
        // FNV-1a, of 64 bits, with a character between the two that is in no kind.
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let bytes = kind.bytes().chain([0]).chain(name.bytes());
        Self(mix(bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))))
    }

    /// Who of these has it.
    pub(crate) fn among(self, nodes: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
        nodes.into_iter().max_by_key(|node| (mix(self.0 ^ mix(node.0 as u64)), *node))
    }
}

/// The last step of SplitMix64, which spreads each bit over all.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use kernel::TopicId;
    use uuid::Uuid;

    use super::*;

    fn all() -> Vec<Given> {
        let partitions = (0..50).flat_map(|topic| {
            (0..20).map(move |partition| {
                let topic = TopicId(Uuid::from_u128(topic));
                Given::partition(TopicPartition { topic, partition })
            })
        });
        partitions.chain((0..1_000).map(|number| Given::named("group", &format!("g{number}")))).collect()
    }

    #[test]
    fn everybody_gets_about_the_same_and_moves_only_its_share() {
        let nodes: Vec<NodeId> = (1..=5).map(NodeId).collect();
        let before: Vec<NodeId> = all().iter().filter_map(|given| given.among(nodes.clone())).collect();
        let mut counts = HashMap::<NodeId, usize>::new();
        before.iter().for_each(|node| *counts.entry(*node).or_default() += 1);
        assert!(counts.len() == 5 && counts.values().all(|count| (320..480).contains(count)), "{counts:?}");
        let gone = NodeId(3);
        for (given, was) in all().into_iter().zip(before) {
            let now = given.among(nodes.iter().copied().filter(|node| *node != gone)).unwrap();
            assert!(was == gone || now == was, "what another has stays");
        }
    }

    #[test]
    fn it_is_the_same_in_every_release() {
        let topic = TopicId(Uuid::from_u128(7));
        let partition = |partition| Given::partition(TopicPartition { topic, partition });
        let given =
            [partition(0), partition(1), Given::named("group", "g"), Given::named("transaction", "g")];
        let nodes = || (1..=9).map(NodeId);
        let ids = given.map(|given| given.among(nodes()).unwrap().0);
        assert_eq!(ids, [1, 9, 5, 1]);
        assert_eq!(given[0].among([]), None);
    }
}
