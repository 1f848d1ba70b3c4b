//! A partition's records on their way: the open batch, what waits to be sent, what must be sent again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kernel::ErrorCode;
use kernel::records::{BatchBuilder, Codec, CodecError, NewRecord};
use tokio::time::Instant;

use super::super::error::Error;
use super::flight::Identity;
use super::{BACKOFF, Settings};

/// What one record takes in a batch beyond what it holds, at most: lengths, deltas, attributes.
const OVERHEAD_BYTES: usize = 32;

/// Records that travel together.
pub(super) struct Batch {
    builder: BatchBuilder,
    /// As it was sent first. It is sent again as it was, so that the broker can know it.
    encoded: Option<Bytes>,
    /// Its place among the batches of its partition.
    pub(super) order: u64,
    opened: Instant,
    pub(super) deadline: Instant,
    pub(super) pushed: Vec<std::time::Instant>,
    pub(super) bytes: usize,
}

/// One partition.
pub(super) struct Lane {
    pub(super) partition: i32,
    pub(super) leader: i32,
    open: Option<Batch>,
    ready: VecDeque<Batch>,
    /// By order. Goes before all else, one at a time.
    again: VecDeque<Batch>,
    /// The orders of what has been sent and is not answered.
    flying: Vec<u64>,
    next_order: u64,
    identity: Option<Identity>,
    next_sequence: i32,
    needs_identity: bool,
    rests_until: Option<Instant>,
}

impl Lane {
    pub(super) fn new(partition: i32, identity: Option<Identity>) -> Self {
        Self {
            partition,
            leader: -1,
            open: None,
            ready: VecDeque::new(),
            again: VecDeque::new(),
            flying: Vec::new(),
            next_order: 0,
            identity,
            next_sequence: 0,
            needs_identity: false,
            rests_until: None,
        }
    }

    /// Takes a record; whether that has made a batch full.
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

    /// The next batch to send, if its time has come.
    pub(super) fn take_due(&mut self, now: Instant, settings: &Settings, is_flushing: bool) -> Option<Batch> {
        if self.needs_identity || self.rests_until.is_some_and(|until| until > now) {
            return None;
        }
        if !self.again.is_empty() {
            return if self.flying.is_empty() { self.again.pop_front() } else { None };
        }
        if let Some(full) = self.ready.pop_front() {
            return Some(full);
        }
        self.open.take_if(|open| is_flushing || open.opened + settings.linger <= now)
    }

    /// When, after `now`, something becomes due by itself.
    pub(super) fn next_due(&self, now: Instant, settings: &Settings) -> Option<Instant> {
        let lingered = self.open.as_ref().map(|open| open.opened + settings.linger);
        let rested = self.rests_until.filter(|_| !self.is_idle());
        [lingered, rested].into_iter().flatten().filter(|due| *due > now).min()
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.has_content() && self.flying.is_empty()
    }

    /// Whether there is something that has still to be sent.
    pub(super) fn has_content(&self) -> bool {
        self.open.is_some() || !self.ready.is_empty() || !self.again.is_empty()
    }

    /// The bytes of a batch that is about to be sent.
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

    /// Notes that a batch has been sent.
    pub(super) fn took_off(&mut self, order: u64) {
        self.flying.push(order);
    }

    /// Notes that a batch has been answered.
    pub(super) fn landed(&mut self, order: u64) {
        self.flying.retain(|flying| *flying != order);
    }

    /// Keeps a batch that has landed with an error, to send it again; gives it back if it is lost.
    pub(super) fn failed(
        &mut self,
        batch: Batch,
        error: &Error,
        now: Instant,
        may_retry: bool,
    ) -> Option<Batch> {
        let follows_another = self.needs_identity
            || self.again.iter().any(|other| other.order < batch.order)
            || self.flying.iter().any(|order| *order < batch.order);
        // The broker saw a gap because an earlier batch is missing, which will come before this one.
        let is_gap = error.code() == Some(ErrorCode::OutOfOrderSequenceNumber) && follows_another;
        if may_retry && now < batch.deadline && (error.is_retriable() || is_gap) {
            let place = self.again.partition_point(|other| other.order < batch.order);
            self.again.insert(place, batch);
            self.rests_until = Some(now + BACKOFF);
            return None;
        }
        self.needs_identity |= self.identity.is_some();
        Some(batch)
    }

    /// Takes out what can no longer be waited for.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Batch> {
        let mut expired = Vec::new();
        for queue in [&mut self.again, &mut self.ready] {
            let (late, kept): (Vec<_>, Vec<_>) = queue.drain(..).partition(|batch| batch.deadline <= now);
            expired.extend(late);
            queue.extend(kept);
        }
        expired.extend(self.open.take_if(|open| open.deadline <= now));
        // A batch that was numbered and never arrives leaves a gap; one that was not does no harm.
        self.needs_identity |= self.identity.is_some() && expired.iter().any(|batch| batch.encoded.is_some());
        expired
    }

    /// Whether it is time to ask for a new producer id: all that was sent under the old one has landed.
    pub(super) fn awaits_identity(&self, now: Instant) -> bool {
        self.needs_identity
            && self.flying.is_empty()
            && self.has_content()
            && self.rests_until.is_none_or(|until| until <= now)
    }

    /// Goes on under a new producer id, whose sequence numbers begin at 0.
    pub(super) fn renew(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.needs_identity = false;
        for batch in &mut self.again {
            batch.encoded = None;
        }
    }

    /// Leaves the partition alone for a while.
    pub(super) fn rest(&mut self, until: Instant) {
        self.rests_until = Some(until);
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
