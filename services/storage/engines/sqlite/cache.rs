//! A bounded cache of what can be read again.
//!
//! What has not been used since it was last looked at goes first (second chance). An insertion looks at a few entries only: if all
//! of them are in use, one of them goes nevertheless, so that nobody waits for a long search.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Entries that an insertion passes over because they are in use.
const PASSED_MAX: usize = 8;

/// Values by key, up to a number of bytes.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys in the order in which they are looked at; a key whose turn is not its entry's is left over.
    queue: VecDeque<(K, u64)>,
    turn: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    turn: u64,
    is_used: bool,
}

impl<K: Hash + Eq + Clone, V> Cache<K, V> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), queue: VecDeque::new(), turn: 0, bytes: 0, bytes_max }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        entry.is_used = true;
        Some(&entry.value)
    }

    /// Adds a value that takes `bytes`, in place of an earlier one. A value larger than a quarter of the cache is not kept.
    pub(super) fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.bytes_max / 4 {
            return;
        }
        self.turn += 1;
        self.bytes += bytes;
        self.queue.push_back((key.clone(), self.turn));
        self.entries.insert(key, Entry { value, bytes, turn: self.turn, is_used: false });
        let mut passed = 0;
        while self.bytes > self.bytes_max {
            passed += usize::from(self.look_at_next(passed < PASSED_MAX));
        }
        // Left-overs of keys that were replaced: two for each that is added, until they are gone.
        for _ in 0..2 {
            if self.queue.len() > self.entries.len() {
                self.look_at_next(true);
            }
        }
    }

    /// Removes the next entry unless it is in use and may be passed over; returns whether it was.
    fn look_at_next(&mut self, may_pass: bool) -> bool {
        let Some((key, turn)) = self.queue.pop_front() else { return false };
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.turn == turn) else { return false };
        let is_passed = may_pass && (entry.is_used || self.bytes <= self.bytes_max);
        if is_passed {
            entry.is_used &= self.bytes <= self.bytes_max;
            self.queue.push_back((key, turn));
        } else {
            self.remove(&key);
        }
        is_passed
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        Some(entry.value)
    }

    /// Removes those that `keep` does not hold for.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        let gone: Vec<K> = self.entries.keys().filter(|key| !keep(key)).cloned().collect();
        gone.iter().for_each(|key| drop(self.remove(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bytes_and_keeps_what_is_used() {
        let mut cache = Cache::new(1_000);
        for number in 0..10_000 {
            cache.insert(number, number, 10);
            assert_eq!(cache.get(&0).copied(), Some(0), "after {number}");
            assert!(cache.bytes <= 1_000 && cache.entries.len() <= 100);
            assert!(cache.queue.len() <= cache.entries.len() + 1);
        }
        assert_eq!(cache.get(&9_999), Some(&9_999));
        assert_eq!(cache.get(&5), None);
        cache.insert(1, 1, 251);
        assert_eq!(cache.get(&1), None, "it is too large");
        cache.retain(|key| *key == 0);
        assert_eq!((cache.bytes, cache.entries.len()), (10, 1));
    }

    #[test]
    fn a_value_that_is_replaced_again_and_again_leaves_nothing_behind() {
        let mut cache = Cache::new(1_000);
        for number in 0..1_000 {
            cache.insert("key", number, 10);
        }
        assert_eq!((cache.get(&"key").copied(), cache.bytes), (Some(999), 10));
        assert!(cache.queue.len() < 4);
    }
}
