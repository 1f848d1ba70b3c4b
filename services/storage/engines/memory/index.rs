//! An index over the batches of a log: what 16, 256, 4,096 ... consecutive batches are together.
//!
//! A search steps over as many batches at a time as it can, so that its cost grows with the logarithm of the log.

use std::collections::VecDeque;
use std::ops::Range;

use crate::engines::resident::Times;

/// Batches in a span, and spans in a span of the next level.
const FAN_OUT: u64 = 16;
/// Levels: the largest spans cover a million batches, and a search steps from one of them to the next.
const LEVELS: u32 = 5;

/// What one or more batches are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) times: Times,
    /// Bytes of the batches.
    pub(super) bytes: u64,
    /// The offset after the last of them.
    pub(super) next: i64,
}

impl Span {
    /// This span and the one after it.
    fn and(self, after: Self) -> Self {
        Self { times: self.times.and(after.times), bytes: self.bytes + after.bytes, next: after.next }
    }
}

/// Spans over numbered batches; each level has those that are aligned to its size.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The number of the next batch.
    end: u64,
    levels: [Level; LEVELS as usize],
}

#[derive(Debug, Default)]
struct Level {
    /// The number of the first span.
    first: u64,
    spans: VecDeque<Span>,
}

/// Batches in a span of a level.
const fn size(level: usize) -> u64 {
    FAN_OUT.pow(level as u32 + 1)
}

impl Index {
    /// Adds the next batch.
    pub(super) fn push(&mut self, batch: Span) {
        for (level, Level { spans, .. }) in self.levels.iter_mut().enumerate() {
            match spans.back_mut().filter(|_| !self.end.is_multiple_of(size(level))) {
                Some(last) => *last = last.and(batch),
                None => spans.push_back(batch),
            }
        }
        self.end += 1;
    }

    /// Works out anew the spans that hold some of these batches, which have changed; `batch` gives one of them, `None` if it is
    /// not there any more. It looks at no more than 16 batches or spans for each span.
    pub(super) fn refresh(&mut self, changed: &Range<u64>, batch: impl Fn(u64) -> Option<Span>) {
        if changed.is_empty() {
            return;
        }
        for level in 0..LEVELS as usize {
            let (below, these) = self.levels.split_at_mut(level);
            let Some(Level { first, spans }) = these.first_mut() else { return };
            let under = below.last();
            for number in changed.start / size(level)..=(changed.end - 1) / size(level) {
                let index = number.checked_sub(*first).and_then(|index| usize::try_from(index).ok());
                let Some(span) = index.and_then(|index| spans.get_mut(index)) else { continue };
                let children = number * FAN_OUT..(number + 1) * FAN_OUT;
                let child = |child: u64| match under {
                    None => batch(child),
                    Some(under) => under.spans.get((child.checked_sub(under.first)?) as usize).copied(),
                };
                // Of those that were trimmed nothing is looked for.
                if let Some(joined) = children.filter_map(child).reduce(Span::and) {
                    *span = joined;
                }
            }
        }
    }

    /// Forgets the spans that end at or before a batch.
    pub(super) fn trim(&mut self, start: u64) {
        for (level, Level { first, spans }) in self.levels.iter_mut().enumerate() {
            while (*first + 1) * size(level) <= start && spans.pop_front().is_some() {
                *first += 1;
            }
        }
    }

    /// The first batch from a number on that `is_over` does not hold for; `batch` gives one that is not in a whole span.
    pub(super) fn search(
        &self,
        from: u64,
        batch: impl Fn(u64) -> Span,
        mut is_over: impl FnMut(&Span) -> bool,
    ) -> Option<u64> {
        let mut at = from;
        'search: while at < self.end {
            for (level, Level { first, spans }) in self.levels.iter().enumerate().rev() {
                let is_aligned = at.is_multiple_of(size(level));
                let span = if is_aligned { spans.get((at / size(level) - first) as usize) } else { None };
                if span.is_some_and(&mut is_over) {
                    at = (at + size(level)).min(self.end);
                    continue 'search;
                }
            }
            if !is_over(&batch(at)) {
                return Some(at);
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_what_a_scan_finds_in_few_steps() {
        let (mut index, mut all) = (Index::default(), Vec::new());
        let mut state = 7_u64;
        for number in 0..100_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let max_timestamp = number as i64 + (state >> 58) as i64;
            let next = number as i64 + 1;
            let span = Span { times: Times::read(max_timestamp, -1), bytes: state >> 60, next };
            index.push(span);
            all.push(span);
        }
        for start in [0, 1, 255, 256, 5_000, 65_536, 99_999] {
            index.trim(start);
            for wanted in [0, 5, 4_999, 50_000, 99_990, 100_100] {
                let mut steps = 0;
                let found = index.search(
                    start,
                    |number| all[number as usize],
                    |span| {
                        steps += 1;
                        span.times.is_before(wanted)
                    },
                );
                let scanned = (start..100_000).find(|number| !all[*number as usize].times.is_before(wanted));
                assert_eq!(found, scanned, "{wanted} from {start}");
                assert!(steps < 400, "{steps} steps");
            }
            let mut bytes = 0;
            index.search(
                start,
                |number| all[number as usize],
                |span| {
                    bytes += span.bytes;
                    true
                },
            );
            assert_eq!(bytes, all[start as usize..].iter().map(|span| span.bytes).sum::<u64>());
        }
    }

    #[test]
    fn what_has_changed_is_as_if_it_had_been_so_from_the_beginning() {
        let span = |number: u64, bytes| Span {
            times: Times::read((number * 7 % 101) as i64, -1),
            bytes,
            next: number as i64 + 1,
        };
        let mut all: Vec<Span> = (0..5_000).map(|number| span(number, 10)).collect();
        let built = |all: &[Span]| {
            let mut index = Index::default();
            all.iter().for_each(|span| index.push(*span));
            index
        };
        let mut index = built(&all);
        for changed in [0..1, 15..17, 100..600, 4_990..5_000, 255..256] {
            for number in changed.clone() {
                all[number as usize] = Span { times: Times::default(), ..span(number, number % 3) };
            }
            index.refresh(&changed, |number| all.get(number as usize).copied());
            let expected = built(&all);
            for (level, expected) in index.levels.iter().zip(&expected.levels) {
                assert_eq!(level.spans, expected.spans, "{changed:?}");
            }
        }
    }
}
