//! Checks the records of a batch as Kafka's LogValidator does, and works out the times that its header must have.
//!
//! Producers misstate the greatest timestamp (an old Go client leaves it out, a Node client takes that of the last
//! record), and retention and look-ups by time go by it. So it is taken from the records, like Kafka takes it.
//!
//! A compacted topic takes no record without a key: nothing would ever tell whether it can go.

use kernel::records::{BadRecords, Batch, Codec, NO_TIMESTAMP, RecordTimes};

use super::checks::PartitionName;
use super::rejected::{NAMED_RECORDS_MAX, Rejected};
use super::timestamps::{Window, not_stamped};
use crate::apis::common::decompress::walk_records;
use crate::settings::CheckRecords;

/// Records that a topic does not accept, by their place, with the reason.
#[derive(Default)]
struct Refusals {
    records: Vec<(i32, String)>,
    /// Whether a timestamp is among the reasons: then that is the batch's.
    has_timestamps: bool,
}

impl Refusals {
    fn add(&mut self, index: i32, reason: impl FnOnce() -> String) {
        if self.records.len() < NAMED_RECORDS_MAX {
            self.records.push((index, reason()));
        }
    }
}

/// How the records of a batch are checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordChecks {
    pub(super) check_records: CheckRecords,
    /// The timestamps that the topic accepts; `None` if it has LogAppendTime, which replaces them.
    pub(super) window: Option<Window>,
    /// Whether the topic is compacted.
    pub(super) is_compacted: bool,
}

impl RecordChecks {
    /// Checks a batch whose header was checked.
    pub(super) async fn check(self, batch: &Batch, name: PartitionName<'_>) -> Result<RecordTimes, Rejected> {
        if !self.must_open(batch) {
            let latest = batch.max_timestamp();
            let times = RecordTimes { latest: (latest >= 0).then_some(latest), has_undated: latest < 0 };
            return self.check_type(batch).map(|()| times);
        }
        let keyless = if self.is_compacted {
            format!("Compacted topic cannot accept message without key in topic partition {name}.")
        } else {
            String::new()
        };
        let walk = move |batch: &Batch, bytes_max| self.walk(batch, bytes_max, &keyless);
        let (times, Refusals { records, has_timestamps }) = walk_records(batch, walk).await??;
        if records.is_empty() {
            return self.check_type(batch).map(|()| times);
        }
        Err(if has_timestamps { Rejected::timestamps(records) } else { Rejected::records(records) })
    }

    /// Uncompressed records are always checked: that costs little. Compressed ones also where only they can tell whether
    /// the topic accepts their timestamps.
    fn must_open(self, batch: &Batch) -> bool {
        let is_plain = batch.codec() == Some(Codec::None);
        let is_known = self.window.is_none_or(|window| window.is_satisfied_by_header(batch));
        self.check_records == CheckRecords::Full || is_plain || !is_known || self.is_compacted
    }

    /// The times of the records, and those that the topic does not accept, with Kafka's message for each.
    fn walk(
        self,
        batch: &Batch,
        bytes_max: usize,
        keyless: &str,
    ) -> Result<(RecordTimes, Refusals), BadRecords> {
        let mut refused = Refusals::default();
        // To Kafka, all records of a batch that claims LogAppendTime have the time of its header.
        let claimed = batch.has_append_time().then(|| batch.max_timestamp());
        let times = batch.walk(bytes_max, |record| {
            // Kafka looks at the timestamp of a record only if it has a key.
            if self.is_compacted && !record.has_key {
                refused.add(record.index, || keyless.to_owned());
                return;
            }
            let Some(window) = self.window else { return };
            let timestamp = claimed.unwrap_or(record.timestamp);
            if !window.holds(timestamp) {
                refused.has_timestamps = true;
                refused.add(record.index, || window.refusal(timestamp, record.index));
            }
        })?;
        Ok((times, refused))
    }

    /// Producers must not claim LogAppendTime. Kafka minds only where it does not look at the timestamps themselves.
    fn check_type(self, batch: &Batch) -> Result<(), Rejected> {
        let is_dated = batch.max_timestamp() != NO_TIMESTAMP;
        if self.window.is_some() && is_dated { Ok(()) } else { not_stamped(batch) }
    }
}
