//! The leader epochs of a partition (KIP-320).

use kernel::TopicPartition;
use serde::{Deserialize, Serialize};

use super::kind::{DocumentKind, LockRoot};

/// Limit on the epochs that are kept. Forgetting the oldest does no harm: it ended where the oldest known one begins, or
/// before.
const EPOCHS_MAX: usize = 64;

/// Where each leader epoch of a partition begins, oldest first. It is not in the partition's own document, which every
/// append writes. A partition that was appended to with one epoch only may have none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochHistory(Vec<EpochStart>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct EpochStart {
    epoch: i32,
    /// The offset of its first record.
    start: i64,
}

impl EpochHistory {
    /// Adds an epoch, which must be later than all others.
    pub(crate) fn begin(&mut self, epoch: i32, start: i64) {
        self.0.push(EpochStart { epoch, start });
    }

    /// Whether it has no epoch.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets epochs that end before the log starts, and those that are too many.
    pub(crate) fn trim(&mut self, log_start: i64) {
        let ended = self.0.iter().skip(1).take_while(|next| next.start <= log_start).count();
        self.0.drain(..ended.max(self.0.len().saturating_sub(EPOCHS_MAX)));
    }

    /// Where an epoch that is not the last one ended, as Kafka tells it: the epoch, or the last one before it that has
    /// records, and the offset after its last record. `None` if no later epoch is known.
    pub fn end_of(&self, epoch: i32) -> Option<(i32, i64)> {
        let later = self.0.iter().position(|known| known.epoch > epoch)?;
        let last = later.checked_sub(1).map_or(epoch, |at| self.0[at].epoch);
        Some((last, self.0[later].start))
    }

    /// The epoch of the record at an offset; `None` if it is before all that are known.
    pub fn at(&self, offset: i64) -> Option<i32> {
        self.0.iter().rev().find(|known| known.start <= offset).map(|known| known.epoch)
    }
}

/// By partition.
impl DocumentKind for EpochHistory {
    const PREFIX: &'static str = "leader-epochs";
    type Key = TopicPartition;

    fn lock_root(at: &TopicPartition) -> LockRoot {
        LockRoot::Partition(*at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(starts: &[(i32, i64)]) -> EpochHistory {
        let mut history = EpochHistory::default();
        starts.iter().for_each(|(epoch, start)| history.begin(*epoch, *start));
        history
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let history = history(&[(3, 10), (5, 20), (9, 50)]);
        let ends = [(2, (2, 10)), (3, (3, 20)), (4, (3, 20)), (5, (5, 50)), (8, (5, 50))];
        for (epoch, end) in ends {
            assert_eq!(history.end_of(epoch), Some(end), "{epoch}");
        }
        assert_eq!((history.end_of(9), history.end_of(10)), (None, None));
        assert_eq!(
            [9, 10, 19, 20, 99].map(|offset| history.at(offset)),
            [None, Some(3), Some(3), Some(5), Some(9)]
        );
    }

    #[test]
    fn it_is_trimmed_with_the_log_and_bounded() {
        let starts = [(3, 10), (5, 20), (9, 50)];
        for (log_start, left) in [(0, 3), (10, 3), (19, 3), (20, 2), (49, 2), (50, 1), (99, 1)] {
            let mut trimmed = history(&starts);
            trimmed.trim(log_start);
            assert_eq!(trimmed, history(&starts[3 - left..]), "from {log_start}");
        }
        let mut long = EpochHistory::default();
        for epoch in 0..500 {
            long.begin(epoch, i64::from(epoch));
            long.trim(0);
        }
        assert_eq!((long.0.len(), long.0[0].epoch), (EPOCHS_MAX, 500 - EPOCHS_MAX as i32));
        EpochHistory::default().trim(7);
    }
}
