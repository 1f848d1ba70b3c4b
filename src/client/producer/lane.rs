//! A partition's pending records: the open batch, batches to send, and batches to retry.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kernel::ErrorCode;
use kernel::records::{BatchBuilder, Codec, CodecError, NewRecord};
use tokio::time::Instant;

use super::super::error::Error;
use super::flight::Identity;
use super::{BACKOFF, Settings};

/// The maximum overhead of a record in a batch: lengths, deltas, attributes.
const OVERHEAD_BYTES: usize = 32;

/// A batch of records.
pub(super) struct Batch {
    builder: BatchBuilder,
    /// The bytes first sent. Retries send the same bytes, so that the broker can detect a duplicate.
    encoded: Option<Bytes>,
    /// Its position in the order of its partition's batches.
    pub(super) order: u64,
    opened: Instant,
    pub(super) deadline: Instant,
    pub(super) pushed: Vec<std::time::Instant>,
    pub(super) bytes: usize,
}

/// The queue of one partition.
pub(super) struct Lane {
    pub(super) partition: i32,
    pub(super) leader: i32,
    open: Option<Batch>,
    ready: VecDeque<Batch>,
    /// Batches to retry, by order. Sent before all others, one at a time.
    retries: VecDeque<Batch>,
    /// The orders of the batches in flight.
    in_flight: Vec<u64>,
    next_order: u64,
    identity: Option<Identity>,
    next_sequence: i32,
    needs_identity: bool,
    backoff_until: Option<Instant>,
}

impl Lane {
    pub(super) fn new(partition: i32, identity: Option<Identity>) -> Self {
        Self {
            partition,
            leader: -1,
            open: None,
            ready: VecDeque::new(),
            retries: VecDeque::new(),
            in_flight: Vec::new(),
            next_order: 0,
            identity,
            next_sequence: 0,
            needs_identity: false,
            backoff_until: None,
        }
    }

    /// Appends a record; returns whether that has filled a batch.
    pub(super) fn push(&mut self, record: NewRecord<'_>, bytes: usize, settings: &Settings) -> bool {
        let mut has_filled = false;
        let fits =
            |open: &Batch| open.builder.record_bytes() + bytes + OVERHEAD_BYTES <= settings.batch_bytes;
        if let Some(full) = self.open.take_if(|open| !fits(open)) {
            self.ready.push_back(full);
            has_filled = true;
        }
        let order = self.next_order;
        let open = self.open.get_or_insert_with(|| Batch::new(order, settings));
        if open.pushed.is_empty() {
            self.next_order += 1;
        }
        open.builder.push(record);
        open.pushed.push(std::time::Instant::now());
        open.bytes += bytes;
        has_filled
    }

    /// The next batch to send, if it is due.
    pub(super) fn take_due(&mut self, now: Instant, settings: &Settings, is_flushing: bool) -> Option<Batch> {
        if self.needs_identity || self.backoff_until.is_some_and(|until| until > now) {
            return None;
        }
        if !self.retries.is_empty() {
            return if self.in_flight.is_empty() { self.retries.pop_front() } else { None };
        }
        if let Some(full) = self.ready.pop_front() {
            return Some(full);
        }
        self.open.take_if(|open| is_flushing || open.opened + settings.linger <= now)
    }

    /// When, after `now`, a timer makes something due.
    pub(super) fn next_due(&self, now: Instant, settings: &Settings) -> Option<Instant> {
        let lingered = self.open.as_ref().map(|open| open.opened + settings.linger);
        let rested = self.backoff_until.filter(|_| !self.is_idle());
        [lingered, rested].into_iter().flatten().filter(|due| *due > now).min()
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.has_content() && self.in_flight.is_empty()
    }

    /// Whether there are unsent batches.
    pub(super) fn has_content(&self) -> bool {
        self.open.is_some() || !self.ready.is_empty() || !self.retries.is_empty()
    }

    /// Encodes a batch for sending.
    pub(super) fn encode(&mut self, batch: &mut Batch) -> Result<Bytes, CodecError> {
        if let Some(encoded) = &batch.encoded {
            return Ok(encoded.clone());
        }
        if let Some(identity) = self.identity {
            let builder = std::mem::replace(&mut batch.builder, BatchBuilder::new(Codec::None));
            batch.builder = builder.producer(identity.id, identity.epoch, self.next_sequence);
            self.next_sequence = sequence_after(self.next_sequence, batch.builder.count());
        }
        let encoded = batch.builder.build()?;
        batch.encoded = Some(encoded.clone());
        Ok(encoded)
    }

    /// Marks a batch as in flight.
    pub(super) fn sent(&mut self, order: u64) {
        self.in_flight.push(order);
    }

    /// Marks a batch as no longer in flight.
    pub(super) fn acknowledged(&mut self, order: u64) {
        self.in_flight.retain(|sent| *sent != order);
    }

    /// Queues a failed batch for retry, or returns it if it cannot be retried.
    pub(super) fn failed(
        &mut self,
        batch: Batch,
        error: &Error,
        now: Instant,
        may_retry: bool,
    ) -> Option<Batch> {
        let follows_another = self.needs_identity
            || self.retries.iter().any(|other| other.order < batch.order)
            || self.in_flight.iter().any(|order| *order < batch.order);
        // The broker saw a gap because an earlier batch is missing, which will be retried before this one.
        let is_gap = error.code() == Some(ErrorCode::OutOfOrderSequenceNumber) && follows_another;
        if may_retry && now < batch.deadline && (error.is_retriable() || is_gap) {
            let place = self.retries.partition_point(|other| other.order < batch.order);
            self.retries.insert(place, batch);
            self.backoff_until = Some(now + BACKOFF);
            return None;
        }
        self.needs_identity |= self.identity.is_some();
        Some(batch)
    }

    /// Removes the batches whose delivery timeout has expired.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Batch> {
        let mut expired = Vec::new();
        for queue in [&mut self.retries, &mut self.ready] {
            let (late, kept): (Vec<_>, Vec<_>) = queue.drain(..).partition(|batch| batch.deadline <= now);
            expired.extend(late);
            queue.extend(kept);
        }
        expired.extend(self.open.take_if(|open| open.deadline <= now));
        // A batch with a sequence number that is never delivered leaves a gap; one without does not.
        self.needs_identity |= self.identity.is_some() && expired.iter().any(|batch| batch.encoded.is_some());
        expired
    }

    /// Whether to request a new producer id: nothing sent under the old one is in flight.
    pub(super) fn awaits_identity(&self, now: Instant) -> bool {
        self.needs_identity
            && self.in_flight.is_empty()
            && self.has_content()
            && self.backoff_until.is_none_or(|until| until <= now)
    }

    /// Continues under a new producer id, whose sequence numbers begin at 0.
    pub(super) fn renew(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.needs_identity = false;
        for batch in &mut self.retries {
            batch.encoded = None;
        }
    }

    /// Backs off until this time.
    pub(super) fn rest(&mut self, until: Instant) {
        self.backoff_until = Some(until);
    }
}

impl Batch {
    fn new(order: u64, settings: &Settings) -> Self {
        let now = Instant::now();
        Self {
            builder: BatchBuilder::new(settings.codec),
            encoded: None,
            order,
            opened: now,
            deadline: now + settings.delivery_timeout.max(Duration::from_millis(1)),
            pushed: Vec::new(),
            bytes: 0,
        }
    }
}

/// The sequence number after `count` records; it wraps to 0 after the largest, as Kafka's does.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_as_kafkas_do() {
        assert_eq!(sequence_after(5, 3), 8);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        // DefaultRecordBatch.incrementSequence(Integer.MAX_VALUE - 1, 5).
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    }

    #[test]
    fn a_large_record_has_a_batch_of_its_own() {
        let settings = Settings { batch_bytes: 200, ..Settings::default() };
        let mut lane = Lane::new(0, None);
        for size in [50, 50, 1_000, 50] {
            let value = vec![0; size];
            let record = NewRecord { value: Some(&value), ..NewRecord::default() };
            lane.push(record, size, &settings);
        }
        let counts: Vec<i32> = std::iter::from_fn(|| {
            lane.take_due(Instant::now(), &settings, true).map(|batch| batch.builder.count())
        })
        .collect();
        assert_eq!(counts, [2, 1, 1]);
    }
}
