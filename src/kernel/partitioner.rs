//! Chooses a partition as Kafka's own producer does: by key hash, or sticky without a key.
//!
//! A key's partition is murmur2 of the key, so that records of one key written by any client share a
//! partition. Records without a key stick to one partition until a batch's worth has been sent there
//! (KIP-480, KIP-794): spreading them one by one would make every batch small.

use std::hash::{BuildHasher, RandomState};

/// The state of the sticky partitioner.
#[derive(Debug)]
pub struct Partitioner {
    sticky_bytes: usize,
    partition: usize,
    bytes_there: usize,
    random: RandomState,
    draws: u64,
}

impl Partitioner {
    /// Keeps a partition for `sticky_bytes` of records without keys.
    pub fn new(sticky_bytes: usize) -> Self {
        let mut partitioner =
            Self { sticky_bytes, partition: 0, bytes_there: 0, random: RandomState::new(), draws: 0 };
        partitioner.partition = partitioner.draw();
        partitioner
    }

    /// The partition, of `count`, for a record with this key and of this size; `count` is 1 or more.
    pub fn choose(&mut self, key: Option<&[u8]>, record_bytes: usize, count: usize) -> usize {
        if let Some(key) = key {
            return (murmur2(key) & 0x7fff_ffff) as usize % count;
        }
        if self.bytes_there >= self.sticky_bytes {
            self.bytes_there = 0;
            // A random one other than the last, so that producers do not move in lockstep and each switch
            // changes the partition.
            self.partition = self.partition % count + 1 + self.draw() % count.saturating_sub(1).max(1);
        }
        self.bytes_there += record_bytes;
        self.partition % count
    }

    fn draw(&mut self) -> usize {
        self.draws += 1;
        // 32 bits, so that arithmetic on the number cannot overflow.
        self.random.hash_one(self.draws) as u32 as usize
    }
}

/// MurmurHash2 as Kafka's `Utils.murmur2` computes it, with Kafka's seed.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    for (index, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_the_values_of_kafkas_own_test() {
        let known: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (bytes, expected) in known {
            assert_eq!(murmur2(bytes) as i32, expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_key_goes_where_kafka_puts_it() {
        let mut partitioner = Partitioner::new(1);
        let known: [(&[u8], usize); 4] =
            [(b"21", 0), (b"foobar", 6), (b"a-little-bit-long-string", 2), (b"abc", 7)];
        for (key, partition) in known {
            assert_eq!(partitioner.choose(Some(key), 10, 10), partition, "{key:?}");
        }
    }

    #[test]
    fn without_a_key_a_batch_stays_together_and_all_partitions_get_their_turn() {
        let mut partitioner = Partitioner::new(100);
        let mut seen = [0; 4];
        let mut last = None;
        for _ in 0..1_000 {
            let run: Vec<usize> = (0..10).map(|_| partitioner.choose(None, 10, 4)).collect();
            assert!(run.iter().all(|partition| *partition == run[0]), "100 bytes stay together");
            assert_ne!(last, Some(run[0]), "then another partition follows");
            last = Some(run[0]);
            seen[run[0]] += 1;
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }

    #[test]
    fn a_topic_of_one_partition_needs_no_luck() {
        let mut partitioner = Partitioner::new(1);
        assert!((0..100).all(|_| partitioner.choose(None, 10, 1) == 0));
    }
}
