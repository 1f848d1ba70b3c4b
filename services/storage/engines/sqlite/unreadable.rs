//! What could not be read of the file: logged once in a while, and remembered.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use kernel::TopicPartition;
use parking_lot::Mutex;
use tracing::warn;

use crate::engines::StoreError;

/// How long a partition that cannot be read is not logged again.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// How many partitions are remembered.
const REMEMBERED_MAX: usize = 1_000;
/// How many batches of each.
const DAMAGED_MAX: usize = 16;

/// The partitions that could not be read.
#[derive(Default)]
pub(super) struct Unreadable(Mutex<HashMap<TopicPartition, Trouble>>);

#[derive(Default)]
struct Trouble {
    logged: Option<Instant>,
    /// The first offsets of batches that were promised to a client and could not be read.
    damaged: BTreeSet<i64>,
}

impl Unreadable {
    /// Logs that a partition cannot be read, once a minute however many clients try.
    pub(super) fn log(&self, partition: TopicPartition, failure: &StoreError) {
        self.with(partition, |trouble| {
            let now = Instant::now();
            if trouble.logged.is_none_or(|last| now - last >= LOG_PAUSE) {
                trouble.logged = Some(now);
                warn!(?partition, "{failure}; readers of this part of the partition get KAFKA_STORAGE_ERROR");
            }
        });
    }

    /// Remembers a batch that cannot be read, so that later reads stop before it.
    pub(super) fn remember(&self, partition: TopicPartition, offset: i64) {
        self.with(partition, |trouble| {
            if trouble.damaged.len() < DAMAGED_MAX {
                trouble.damaged.insert(offset);
            }
        });
    }

    /// The first batch of a partition in a range of offsets that is known not to be readable.
    pub(super) fn damaged_in(&self, partition: TopicPartition, offsets: Range<i64>) -> Option<i64> {
        self.0.lock().get(&partition)?.damaged.range(offsets).next().copied()
    }

    fn with(&self, partition: TopicPartition, act: impl FnOnce(&mut Trouble)) {
        let mut all = self.0.lock();
        if all.len() == REMEMBERED_MAX && !all.contains_key(&partition) {
            all.clear();
        }
        act(all.entry(partition).or_default());
    }
}
