//! Requests that ask for the same thing again and again.

use std::collections::HashSet;
use std::hash::Hash;

/// Repeated elements of a request that are answered, as Kafka answers them.
const REPEATS_MAX: usize = 16;

/// The elements of a request, without all but a few of those that repeat others. No client repeats itself, and an element
/// of some bytes may ask for megabytes: an answer to each would be as many times as large as all that is stored.
pub(crate) fn without_repeats<T, K: Hash + Eq>(elements: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::with_capacity(elements.len());
    let mut repeats = 0;
    let mut is_answered = |element: &T| {
        if seen.insert(key(element)) {
            return true;
        }
        repeats += 1;
        repeats <= REPEATS_MAX
    };
    elements.into_iter().filter(|element| is_answered(element)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_repeats_stay() {
        assert_eq!(without_repeats(vec![1, 2, 1, 3], |number| *number), [1, 2, 1, 3]);
        let mut many = vec![7; 250_000];
        many.extend([8, 9, 8]);
        let left = without_repeats(many, |number| *number);
        assert_eq!(left.len(), 1 + REPEATS_MAX + 2, "each once, and some again");
        assert_eq!(left[left.len() - 2..], [8, 9]);
    }
}
