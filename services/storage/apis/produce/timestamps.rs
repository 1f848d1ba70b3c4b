//! The timestamps that a topic takes: within a window around the broker's clock under CreateTime (KIP-937), and not
//! stamped by the producer under LogAppendTime.
//!
//! A batch's header names the latest timestamp of its records, and not the earliest. So a topic that bounds only how
//! far ahead a record may be, which is Kafka's default, is served by the header; batches are opened where one is
//! wrong, to name its records, and on topics with `message.timestamp.before.max.ms`. A header that names another
//! timestamp than its records have is the producer's own harm: lookups by time go by the header.

use kernel::ErrorCode;
use kernel::records::Batch;

use super::rejected::{NAMED_RECORDS_MAX, Rejected};
use crate::apis::common::decompress::{UNCOMPRESSED_BYTES_MAX, with_records};

/// Kafka's "no timestamp", which every topic takes.
const NO_TIMESTAMP: i64 = -1;

/// The timestamps that a topic takes now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// The broker's time.
    pub(super) now_ms: i64,
    /// How far behind it a timestamp may be.
    pub(super) before_max_ms: i64,
    /// How far ahead.
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

    /// The records outside, with Kafka's sentence for each. Its bounds wrap around in Java, and so they do here.
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

/// Checks a batch whose timestamps do not matter: it has none, or its topic has LogAppendTime.
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
