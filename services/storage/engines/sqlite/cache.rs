//! A bounded cache of what can be read again.
//!
//! What has not been used since it was last looked at goes first (second chance). Each insertion removes a few entries at
//! most, so that nobody waits for a large clean-up.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

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
        while self.bytes > self.bytes_max || self.queue.len() > 2 * self.entries.len() + 16 {
            self.look_at_next();
        }
    }

    fn look_at_next(&mut self) {
        let Some((key, turn)) = self.queue.pop_front() else { return };
        match self.entries.get_mut(&key) {
            Some(entry) if entry.turn == turn && (entry.is_used || self.bytes <= self.bytes_max) => {
                entry.is_used = false;
                self.queue.push_back((key, turn));
            }
            Some(entry) if entry.turn == turn => drop(self.remove(&key)),
            _ => {}
        }
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
            assert!(cache.queue.len() <= 2 * cache.entries.len() + 17);
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
        assert!(cache.queue.len() < 20);
    }
}
