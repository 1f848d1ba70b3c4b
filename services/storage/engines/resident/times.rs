//! How old batches are, for look-ups by time and for retention.

use kernel::records::{HEADER_BYTES, NO_TIMESTAMP};
use rules::commands::BatchFacts;

/// The times of one or more batches. A time that is not there is `None` and never a number that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engines) struct Times {
    /// The greatest timestamp of a record, in ms since the Unix epoch. Look-ups by time go by it.
    pub(in crate::engines) latest: Option<i64>,
    /// When the last batch with a record without a timestamp was appended: such records are as old as that.
    pub(in crate::engines) undated: Option<i64>,
}

impl Times {
    /// The times of a batch that was appended at this time.
    pub(in crate::engines) fn of(batch: &BatchFacts, appended_ms: i64) -> Self {
        if batch.bytes as usize == HEADER_BYTES {
            // One that a cleaner has emptied, as a copy of a store has it.
            return Self { latest: None, undated: some_time(batch.max_timestamp).or(some_time(appended_ms)) };
        }
        let undated = if batch.has_undated { some_time(appended_ms) } else { None };
        Self { latest: some_time(batch.max_timestamp), undated }
    }

    /// The times of a batch from which a cleaner has removed records. Of those without a timestamp only this knows when they
    /// were appended. A batch without records is not found by time, but is still as old as it was: retention stops at what it
    /// does not know the age of.
    pub(in crate::engines) fn replaced(self, max_timestamp: i64, has_records: bool) -> Self {
        if !has_records {
            return Self { latest: None, undated: self.youngest() };
        }
        Self { latest: some_time(max_timestamp), undated: self.undated }
    }

    /// The times as they are stored: -1 stands for none.
    pub(in crate::engines) fn read(latest: i64, undated: i64) -> Self {
        Self { latest: some_time(latest), undated: some_time(undated) }
    }

    /// What [`Times::read`] reads.
    pub(in crate::engines) fn written(self) -> (i64, i64) {
        (self.latest.unwrap_or(NO_TIMESTAMP), self.undated.unwrap_or(NO_TIMESTAMP))
    }

    /// The times of these batches and others.
    pub(in crate::engines) fn and(self, other: Self) -> Self {
        Self { latest: self.latest.max(other.latest), undated: self.undated.max(other.undated) }
    }

    /// Whether no record has this timestamp or a later one.
    pub(in crate::engines) fn is_before(self, time: i64) -> bool {
        self.latest.is_none_or(|latest| latest < time)
    }

    /// What retention goes by: the youngest record. `None` for batches without timestamps that an earlier release has
    /// stored, which did not keep when they were appended.
    pub(in crate::engines) fn youngest(self) -> Option<i64> {
        self.latest.max(self.undated)
    }
}

fn some_time(time: i64) -> Option<i64> {
    (time >= 0).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_without_records_is_as_old_as_it_was() {
        let times = Times::read(5, 9).replaced(-1, false);
        assert_eq!((times.latest, times.youngest()), (None, Some(9)));
        assert_eq!(times.replaced(-1, false), times);
        assert_eq!(Times::read(5, 9).replaced(4, true), Times::read(4, 9));
    }

    #[test]
    fn no_time_is_not_the_earliest_one() {
        let none = Times::read(-1, -1);
        assert_eq!((none, none.written()), (Times::default(), (-1, -1)));
        assert!(none.is_before(0) && none.is_before(i64::MIN));
        assert_eq!(none.youngest(), None);
        let (dated, undated) = (Times::read(5, -1), Times::read(-1, 9));
        assert_eq!(none.and(dated), dated);
        assert_eq!(undated.youngest(), Some(9));
        let both = dated.and(undated);
        assert_eq!((both.latest, both.youngest(), both.written()), (Some(5), Some(9), (5, 9)));
        assert!(!both.is_before(5) && both.is_before(6), "what has no timestamp is not found by time");
    }
}
