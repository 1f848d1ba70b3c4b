//! Changes an input at random: bits, bytes, numbers at their edges, ranges, words, and parts of another input.
#![allow(clippy::ptr_arg)] // All changes have one signature, whether they change the length or not.

use crate::random::Random;

/// Numbers at which readers go wrong: zero, the edges of each width, lengths and counts beyond any input.
const EDGES: [i64; 24] = [
    0,
    1,
    2,
    -1,
    -2,
    3,
    4,
    7,
    8,
    16,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3fff,
    0x4000,
    i16::MAX as i64,
    i16::MIN as i64,
    0xffff,
    0x0010_0000,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

/// Most changes of one input at once.
const CHANGES_MAX: usize = 6;

/// Changes inputs, deterministically by its seed.
pub(crate) struct Mutator {
    random: Random,
    words: Vec<Vec<u8>>,
    bytes_max: usize,
}

type Change = fn(&mut Mutator, &mut Vec<u8>, &[u8]);

/// Those that stand twice are made twice as often.
const CHANGES: [Change; 19] = [
    Mutator::flip_bit,
    Mutator::flip_bit,
    Mutator::set_byte,
    Mutator::set_byte,
    Mutator::add_to_byte,
    Mutator::set_number,
    Mutator::set_number,
    Mutator::set_varint,
    Mutator::delete,
    Mutator::delete,
    Mutator::duplicate,
    Mutator::insert_random,
    Mutator::repeat_byte,
    Mutator::truncate,
    Mutator::put_word,
    Mutator::put_word,
    Mutator::cross_over,
    Mutator::insert_from_other,
    Mutator::append_other,
];

impl Mutator {
    /// A mutator whose inputs have at most `bytes_max` bytes.
    pub(crate) fn new(seed: u64, words: Vec<Vec<u8>>, bytes_max: usize) -> Self {
        Self { random: Random::new(seed), words, bytes_max }
    }

    /// What decides everything else about a run of this seed.
    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Changes an input in a few ways; `other` is one to take parts from.
    pub(crate) fn mutate(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.random.below(CHANGES_MAX) {
            let change = CHANGES[self.random.below(CHANGES.len())];
            change(self, input, other);
        }
        input.truncate(self.bytes_max);
    }

    /// A place in the input, if it has any.
    fn place(&mut self, input: &[u8]) -> Option<usize> {
        (!input.is_empty()).then(|| self.random.below(input.len()))
    }

    /// A range in the input; empty if the input is.
    fn range(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.random.below(input.len());
        start..start + self.random.length(input.len() - start)
    }

    fn insert(&mut self, input: &mut Vec<u8>, bytes: &[u8]) {
        let at = self.random.below(input.len() + 1);
        drop(input.splice(at..at, bytes.iter().copied()));
    }

    /// Writes bytes over those at a place, or between them.
    fn put(&mut self, input: &mut Vec<u8>, bytes: &[u8]) {
        if bytes.len() > input.len() || self.random.one_in(3) {
            return self.insert(input, bytes);
        }
        let at = self.random.below(input.len() - bytes.len() + 1);
        input[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn flip_bit(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        if let Some(at) = self.place(input) {
            input[at] ^= 1 << self.random.below(8);
        }
    }

    fn set_byte(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        if let Some(at) = self.place(input) {
            input[at] = self.random.roll() as u8;
        }
    }

    fn add_to_byte(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        if let Some(at) = self.place(input) {
            let step = self.random.below(16) as u8 + 1;
            let is_up = self.random.one_in(2);
            input[at] = if is_up { input[at].wrapping_add(step) } else { input[at].wrapping_sub(step) };
        }
    }

    fn edge(&mut self) -> i64 {
        let edge = EDGES[self.random.below(EDGES.len())];
        if self.random.one_in(4) { edge.wrapping_add(self.random.below(5) as i64 - 2) } else { edge }
    }

    /// An edge in one, two, four or eight bytes; Kafka's numbers are big-endian, those of codecs little-endian.
    fn set_number(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        let width = 1 << self.random.below(4);
        let edge = self.edge();
        if self.random.one_in(6) {
            self.put(input, &edge.to_le_bytes()[..width]);
        } else {
            self.put(input, &edge.to_be_bytes()[8 - width..]);
        }
    }

    fn set_varint(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        let (mut rest, mut bytes) = (self.edge() as u64, Vec::new());
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        self.put(input, &bytes);
    }

    fn delete(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        let range = self.range(input);
        input.drain(range);
    }

    fn duplicate(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        let range = self.range(input);
        let part = input[range].to_vec();
        let times = 1 + self.random.below(4);
        self.insert(input, &part.repeat(times));
    }

    fn insert_random(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        let length = self.random.length(64);
        let bytes: Vec<u8> = (0..length).map(|_| self.random.roll() as u8).collect();
        self.insert(input, &bytes);
    }

    fn repeat_byte(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        let (byte, length) = (self.random.roll() as u8, self.random.length(256));
        self.insert(input, &vec![byte; length]);
    }

    fn truncate(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        if self.random.one_in(4) {
            input.truncate(self.random.below(input.len() + 1));
        }
    }

    fn put_word(&mut self, input: &mut Vec<u8>, _: &[u8]) {
        if !self.words.is_empty() {
            let word = self.words[self.random.below(self.words.len())].clone();
            self.put(input, &word);
        }
    }

    /// The beginning of the one, and the end of the other.
    fn cross_over(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let (end, from) = (self.random.below(input.len() + 1), self.random.below(other.len() + 1));
        input.truncate(end);
        input.extend_from_slice(&other[from..]);
    }

    fn insert_from_other(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let range = self.range(other);
        self.put(input, &other[range]);
    }

    fn append_other(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        input.extend_from_slice(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutated(seed: u64) -> Vec<Vec<u8>> {
        let mut mutator = Mutator::new(seed, vec![b"word".to_vec()], 200);
        let mut input = b"the input".to_vec();
        (0..2000)
            .map(|_| {
                mutator.mutate(&mut input, b"another one");
                input.clone()
            })
            .collect()
    }

    #[test]
    fn inputs_follow_from_the_seed_alone() {
        assert_eq!(mutated(3), mutated(3));
        assert_ne!(mutated(3), mutated(4));
    }

    #[test]
    fn inputs_are_bounded_and_have_words_and_parts_of_others() {
        let has = |input: &[u8], part: &[u8]| input.windows(part.len()).any(|window| window == part);
        let inputs = mutated(5);
        assert!(inputs.iter().all(|input| input.len() <= 200));
        assert!(inputs.iter().any(|input| has(input, b"word")));
        assert!(inputs.iter().any(|input| has(input, b"another")));
    }

    #[test]
    fn every_change_can_be_made_to_nothing() {
        let mut mutator = Mutator::new(1, Vec::new(), 64);
        for change in CHANGES {
            for _ in 0..50 {
                change(&mut mutator, &mut Vec::new(), &[]);
            }
        }
    }
}
