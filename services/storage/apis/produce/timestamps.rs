//! The timestamps that a topic accepts: within a window around the broker's clock under CreateTime (KIP-937),
//! and not marked as LogAppendTime by the producer.

use kernel::records::{Batch, NO_TIMESTAMP};

use super::rejected::{NAMED_RECORDS_MAX, Rejected};

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
    /// Whether a timestamp is accepted. Every topic accepts records without one.
    pub(super) fn holds(&self, timestamp: i64) -> bool {
        let ahead = i128::from(timestamp) - i128::from(self.now_ms);
        timestamp == NO_TIMESTAMP
            || (-i128::from(self.before_max_ms)..=i128::from(self.after_max_ms)).contains(&ahead)
    }

    /// Whether the header of a batch shows that all its timestamps are accepted: it has only the greatest.
    pub(super) fn is_satisfied_by_header(&self, batch: &Batch) -> bool {
        self.before_max_ms == i64::MAX && self.holds(batch.max_timestamp())
    }

    /// Kafka's message for a record that is not accepted. The bounds wrap around, as in Java.
    pub(super) fn refusal(&self, timestamp: i64, index: i32) -> String {
        let earliest = self.now_ms.wrapping_sub(self.before_max_ms);
        let latest = self.now_ms.wrapping_add(self.after_max_ms);
        format!(
            "Timestamp {timestamp} of message with offset {index} is out of range. The timestamp should be within [{earliest}, {latest}]"
        )
    }
}

/// Checks that a batch does not claim LogAppendTime.
pub(super) fn not_stamped(batch: &Batch) -> Result<(), Rejected> {
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
