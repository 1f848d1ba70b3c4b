//! The latest offset of each key, in memory of a fixed size.
//!
//! Keys are kept as hashes of 16 bytes, as in Kafka: two keys with one hash would be taken for one, and a record would be
//! lost. Of 16 good bytes that never happens by chance; and because both hashes are keyed at random, nobody can choose
//! keys to make it happen.

use std::hash::{BuildHasher, Hasher, RandomState};

/// An entry: both hashes of a key, and its offset plus one. An offset of 0 is a free slot.
type Slot = [u64; 3];

const SLOT_BYTES: usize = size_of::<Slot>();

/// Maps keys to their latest offsets, by open addressing.
#[derive(Debug)]
pub struct OffsetMap {
    hashers: [RandomState; 2],
    slots: Vec<Slot>,
    keys: usize,
    keys_max: usize,
}

impl OffsetMap {
    /// An empty map in so much memory, which is taken at once but touched only as keys come. There is always room for one
    /// key.
    pub fn new(memory_bytes: usize) -> Self {
        let slots = (memory_bytes / SLOT_BYTES).max(2);
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            slots: vec![[0; 3]; slots],
            keys: 0,
            // Kafka's log.cleaner.io.buffer.load.factor is 0.9, too. So there is a free slot, at which every search ends.
            keys_max: (slots - slots.div_ceil(10)).max(1),
        }
    }

    /// The memory in which so many keys have room.
    pub fn bytes_for(keys: usize) -> usize {
        keys.saturating_add(keys / 9).saturating_add(2).saturating_mul(SLOT_BYTES)
    }

    /// Notes that a key has a record at an offset. Returns `false` if there is no room for another key; the offsets of
    /// keys that are there advance nevertheless.
    #[must_use]
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let [first, second] = self.hashes(key);
        let next = offset.max(0) as u64 + 1;
        let at = self.find(first, second);
        let [.., found] = &mut self.slots[at];
        if *found > 0 {
            *found = next.max(*found);
        } else if self.keys < self.keys_max {
            self.slots[at] = [first, second, next];
            self.keys += 1;
        } else {
            return false;
        }
        true
    }

    /// The latest offset of a key.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let [first, second] = self.hashes(key);
        let [.., found] = self.slots[self.find(first, second)];
        found.checked_sub(1).map(|offset| offset as i64)
    }

    /// Keys in the map.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The most keys that have room.
    pub fn keys_max(&self) -> usize {
        self.keys_max
    }

    fn hashes(&self, key: &[u8]) -> [u64; 2] {
        self.hashers.each_ref().map(|state| {
            let mut hasher = state.build_hasher();
            hasher.write(key);
            hasher.finish()
        })
    }

    /// The slot of a key, or the free one where it belongs.
    fn find(&self, first: u64, second: u64) -> usize {
        let slots = self.slots.len();
        let mut at = ((u128::from(first) * slots as u128) >> 64) as usize;
        loop {
            let [here, beside, next] = self.slots[at];
            if next == 0 || (here, beside) == (first, second) {
                return at;
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::tests::Dice;
    use super::*;

    #[test]
    fn all_keys_have_room_in_the_memory_for_them() {
        for keys in (0..2_000).chain([1 << 20, (1 << 20) + 7]) {
            let bytes = OffsetMap::bytes_for(keys);
            let slots = bytes / SLOT_BYTES;
            assert!(slots - slots.div_ceil(10) >= keys, "{keys} in {slots} slots");
            assert!(bytes <= 28 * keys + 3 * SLOT_BYTES, "{keys} in {bytes} bytes");
        }
        let mut map = OffsetMap::new(OffsetMap::bytes_for(500));
        assert!((0..500_u32).all(|key| map.put(&key.to_be_bytes(), 1)));
    }

    #[test]
    fn it_is_full_at_nine_tenths_and_still_knows_its_keys() {
        let mut map = OffsetMap::new(1_000 * SLOT_BYTES + 23);
        assert_eq!(map.keys_max(), 900);
        let key = |index: i64| index.to_be_bytes();
        for index in 0..900 {
            assert!(map.put(&key(index), index));
        }
        assert!(!map.put(&key(900), 900));
        assert_eq!((map.keys(), map.get(&key(900))), (900, None));
        assert!(map.put(&key(5), 1_000), "a key that is there needs no room");
        assert!(map.put(&key(6), 2), "an earlier offset");
        assert_eq!(
            (map.get(&key(5)), map.get(&key(6)), map.get(&key(899))),
            (Some(1_000), Some(6), Some(899))
        );
    }

    #[test]
    fn one_key_has_room_in_any_memory() {
        for bytes in [0, 1, SLOT_BYTES, 2 * SLOT_BYTES, 3 * SLOT_BYTES] {
            let mut map = OffsetMap::new(bytes);
            assert_eq!(map.get(b"a"), None);
            assert!(map.put(b"a", 0));
            assert_eq!(map.get(b"a"), Some(0));
            assert_eq!(map.get(b""), None);
            let second = map.put(b"", 1);
            assert_eq!(second, bytes == 3 * SLOT_BYTES);
        }
    }

    #[test]
    fn it_is_a_map() {
        for seed in 0..50 {
            let mut dice = Dice::seeded(seed);
            let mut map = OffsetMap::new((2 + dice.roll(300) as usize) * SLOT_BYTES);
            let mut expected: HashMap<Vec<u8>, i64> = HashMap::new();
            for _ in 0..600 {
                let key = vec![b'k'; dice.roll(400) as usize];
                let offset = dice.roll(1_000) as i64;
                let has_room = expected.contains_key(&key) || expected.len() < map.keys_max();
                assert_eq!(map.put(&key, offset), has_room);
                if has_room {
                    let latest = expected.entry(key).or_insert(offset);
                    *latest = offset.max(*latest);
                }
            }
            assert_eq!(map.keys(), expected.len());
            for length in 0..400 {
                let key = vec![b'k'; length];
                assert_eq!(map.get(&key), expected.get(&key).copied(), "seed {seed}");
            }
        }
    }
}
