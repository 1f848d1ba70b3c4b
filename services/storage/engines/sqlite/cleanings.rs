//! Which logs have had batches replaced, for readers that look at the index and at the file one after the other.
//!
//! Nothing but compaction changes what was stored. A reader that finds something amiss asks whether that happened meanwhile,
//! before it takes it for damage. A count is odd while a commit is under way, because the file has the change before memory
//! has it.

use std::collections::HashMap;
use std::time::Duration;

use kernel::TopicPartition;
use parking_lot::Mutex;

/// How long a reader waits for a commit that is under way.
const WAIT: Duration = Duration::from_millis(1);

/// A count for each partition that was cleaned since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Cleanings(Mutex<HashMap<TopicPartition, u64>>);

impl Cleanings {
    /// Before a commit replaces batches.
    pub(super) fn begin(&self, at: TopicPartition) {
        let mut counts = self.0.lock();
        let count = counts.entry(at).or_default();
        *count |= 1;
    }

    /// Once memory has what the file has, also if that is what it was before.
    pub(super) fn end(&self, at: TopicPartition) {
        if let Some(count) = self.0.lock().get_mut(&at).filter(|count| !count.is_multiple_of(2)) {
            *count += 1;
        }
    }

    /// The partition was deleted.
    pub(super) fn forget(&self, at: TopicPartition) {
        self.0.lock().remove(&at);
    }

    /// How it is now.
    pub(super) fn count(&self, at: TopicPartition) -> u64 {
        self.0.lock().get(&at).copied().unwrap_or(0)
    }

    /// Whether batches were, or were being, replaced since it was so.
    pub(super) fn have_changed(&self, at: TopicPartition, since: u64) -> bool {
        self.count(at) != since || !since.is_multiple_of(2)
    }

    /// The same. If so, it may be tried again at once.
    pub(super) fn wait_if_changed(&self, at: TopicPartition, since: u64) -> bool {
        if !self.count(at).is_multiple_of(2) {
            std::thread::sleep(WAIT);
        }
        self.have_changed(at, since)
    }
}

#[cfg(test)]
mod tests {
    use kernel::TopicId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_commit_under_way_and_one_that_has_ended_are_noticed() {
        let at = TopicPartition { topic: TopicId(Uuid::from_u128(1)), partition: 0 };
        let cleanings = Cleanings::default();
        let before = cleanings.count(at);
        assert!(!cleanings.have_changed(at, before));
        cleanings.begin(at);
        cleanings.begin(at);
        let within = cleanings.count(at);
        assert!(cleanings.have_changed(at, before) && cleanings.have_changed(at, within));
        cleanings.end(at);
        assert!(cleanings.have_changed(at, before) && cleanings.have_changed(at, within));
        assert!(!cleanings.have_changed(at, cleanings.count(at)));
        cleanings.end(at);
        assert!(!cleanings.have_changed(at, 2), "it had ended");
    }
}
