//! The timestamps that a topic accepts: within a window around the broker's clock under CreateTime (KIP-937),
//! and not marked as LogAppendTime by the producer.
//!
//! A batch header has the maximum timestamp of its records, not the minimum. So for a topic that limits only
//! future timestamps, Kafka's default, the header is enough. Batches are decompressed if the header is out of
//! range, to name the records, and on topics with `message.timestamp.before.max.ms`. A wrong maximum in a
//! header harms only lookups by timestamp, which use the header.

use kernel::ErrorCode;
use kernel::records::Batch;

use super::rejected::{NAMED_RECORDS_MAX, Rejected};
use crate::apis::common::decompress::{UNCOMPRESSED_BYTES_MAX, with_records};

/// Kafka's "no timestamp", which every topic accepts.
const NO_TIMESTAMP: i64 = -1;

/// The timestamps that a topic accepts now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The broker's time.
    pub(super) now_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub(super) before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub(super) after_max_ms: i64,
}

impl Window {
    fn holds(&self, timestamp: i64) -> bool {
        let ahead = i128::from(timestamp) - i128::from(self.now_ms);
        timestamp == NO_TIMESTAMP
            || (-i128::from(self.before_max_ms)..=i128::from(self.after_max_ms)).contains(&ahead)
    }

    fn is_bounded_by_header(&self) -> bool {
        self.before_max_ms == i64::MAX
    }

    /// The records out of range, with Kafka's message for each. The bounds wrap around, as in Java.
    fn outside(&self, batch: &Batch) -> Result<Vec<(i32, String)>, Rejected> {
        let earliest = self.now_ms.wrapping_sub(self.before_max_ms);
        let latest = self.now_ms.wrapping_add(self.after_max_ms);
        let mut outside = Vec::new();
        for (index, record) in (0..).zip(batch.records(UNCOMPRESSED_BYTES_MAX)?) {
            let record = record.map_err(Rejected::invalid)?;
            if self.holds(record.timestamp) || outside.len() == NAMED_RECORDS_MAX {
                continue;
            }
            let (timestamp, offset) = (record.timestamp, record.offset);
            let message = format!(
                "Timestamp {timestamp} of message with offset {offset} is out of range. The timestamp should be within [{earliest}, {latest}]"
            );
            outside.push((index, message));
        }
        Ok(outside)
    }
}

/// Checks a batch of a CreateTime topic.
pub(super) async fn check(batch: &Batch, window: Window) -> Result<(), Rejected> {
    let latest = batch.max_timestamp();
    if latest == NO_TIMESTAMP {
        check_not_stamped(batch)?;
    }
    let latest_fits = window.holds(latest);
    if latest_fits && window.is_bounded_by_header() {
        return Ok(());
    }
    let outside = with_records(batch, move |batch| window.outside(batch)).await??;
    match (outside.is_empty(), latest_fits) {
        (true, true) => Ok(()),
        (false, _) => Err(Rejected::timestamps(outside)),
        (true, false) => {
            let message =
                format!("The batch names {latest} as its latest timestamp, which none of its records has.");
            Err(Rejected::new(ErrorCode::InvalidTimestamp, message))
        }
    }
}

/// Checks a batch whose timestamps are not used: it has none, or its topic has LogAppendTime.
pub(super) fn check_not_stamped(batch: &Batch) -> Result<(), Rejected> {
    if !batch.has_append_time() {
        return Ok(());
    }
    let named = (0..batch.record_count()).take(NAMED_RECORDS_MAX);
    let blame = |index| {
        let message = format!(
            "Invalid timestamp type in message {index}. Producer should not set timestamp type to LogAppendTime."
        );
        (index, message)
    };
    Err(Rejected::timestamps(named.map(blame).collect()))
}
