//! Gathers what is to be replaced, in small steps.
//!
//! Consecutive batches that change are a run. Those of which nothing is left become one batch without records; one that is
//! there from an earlier step or pass takes part in that like any other, so that there is never more than one between two
//! batches that have records.

use kernel::records::{Batch, HEADER_BYTES, NO_PRODUCER_ID, NO_TIMESTAMP};
use rules::commands::{CleanedBatch, CleanedRun, Payload};

use super::filter::Kept;
use super::gap::gap;

/// Old batches, bytes of them, and bytes of new ones in a step. Whoever makes it durable has no other work for as long.
const BATCHES_MAX: usize = 512;
const OLD_BYTES_MAX: usize = 4 << 20;
const BYTES_MAX: usize = 1 << 20;

/// What is to be replaced in the next step.
#[derive(Debug, Default)]
pub struct Runs {
    whole: Vec<CleanedRun>,
    open: Option<OpenRun>,
    old_batches: usize,
    old_bytes: usize,
    new_bytes: usize,
}

/// A run to which the next batch may be added.
#[derive(Debug)]
struct OpenRun {
    run: CleanedRun,
    /// Where the offsets begin that have no batch yet, and the leader epoch of the last of them.
    gap: Option<(i64, i32)>,
    /// Whether all that it replaces is one batch without records, by the same.
    is_same: bool,
}

impl OpenRun {
    fn at(from: i64) -> Self {
        Self { run: CleanedRun { from, until: from, batches: Vec::new() }, gap: None, is_same: false }
    }

    fn fill(&mut self) {
        if let Some((from, leader_epoch)) = self.gap.take() {
            let batches = gap(from, self.run.until, leader_epoch).into_iter();
            self.run.batches.extend(batches.map(|(base_offset, next_offset, bytes)| CleanedBatch {
                base_offset,
                next_offset,
                max_timestamp: NO_TIMESTAMP,
                has_records: false,
                payload: Payload(bytes),
            }));
        }
    }
}

impl Runs {
    /// Takes the next batch, and what stays of it.
    pub fn push(&mut self, batch: &Batch, kept: Kept) {
        let bytes = match kept {
            Kept::Same => {
                self.close();
                return;
            }
            Kept::Rewritten(bytes) => Some(bytes),
            Kept::Gone => None,
        };
        let (base_offset, next_offset) = (batch.base_offset(), batch.next_offset());
        // A log has no gaps; if it had one, nothing is put there.
        if self.open.as_ref().is_some_and(|open| open.run.until != base_offset) {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| OpenRun::at(base_offset));
        open.is_same = open.run.until == open.run.from && bytes.is_none() && is_gap(batch);
        open.run.until = next_offset;
        self.old_batches += 1;
        self.old_bytes += batch.bytes().len();
        match bytes {
            Some(bytes) => {
                self.new_bytes += bytes.len();
                // What stood before it is filled up to it.
                open.run.until = base_offset;
                open.fill();
                open.run.until = next_offset;
                let mut rest = bytes.clone();
                let header = Batch::split_first(&mut rest);
                let has_records = header.as_ref().is_some_and(|batch| batch.record_count() > 0);
                let latest = header.filter(|_| has_records).map(|batch| batch.max_timestamp());
                open.run.batches.push(CleanedBatch {
                    base_offset,
                    next_offset,
                    max_timestamp: latest.unwrap_or(NO_TIMESTAMP),
                    has_records,
                    payload: Payload(bytes),
                });
            }
            None => {
                let from = open.gap.map_or(base_offset, |(from, _)| from);
                open.gap = Some((from, batch.leader_epoch()));
            }
        }
    }

    /// Whether enough is gathered for a step.
    pub fn is_enough(&self) -> bool {
        self.old_batches >= BATCHES_MAX || self.old_bytes >= OLD_BYTES_MAX || self.new_bytes >= BYTES_MAX
    }

    /// Takes out what is gathered. A batch without records at its end is begun anew: what follows may become part of it.
    pub fn take(&mut self) -> Vec<CleanedRun> {
        let end = self.open.as_ref().and_then(|open| Some((open.gap?, open.run.until)));
        self.close();
        if let Some(((from, leader_epoch), until)) = end {
            // Of several, each with as many offsets as one can have, the last one.
            let last = gap(from, until, leader_epoch).last().map_or(from, |(base, ..)| *base);
            let mut open = OpenRun::at(last);
            open.run.until = until;
            open.gap = Some((last, leader_epoch));
            open.is_same = true;
            self.open = Some(open);
        }
        (self.old_batches, self.old_bytes, self.new_bytes) = (0, 0, 0);
        std::mem::take(&mut self.whole)
    }

    fn close(&mut self) {
        if let Some(mut open) = self.open.take()
            && !open.is_same
        {
            open.fill();
            self.whole.push(open.run);
        }
    }
}

/// Whether a batch has nothing but offsets.
fn is_gap(batch: &Batch) -> bool {
    let is_bare = batch.bytes().len() == HEADER_BYTES && batch.record_count() == 0;
    is_bare && batch.producer_id() == NO_PRODUCER_ID && !batch.is_control()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kernel::records::{BatchBuilder, Codec, NewRecord, StoredHeader, settle};

    use super::*;

    /// A batch of one record at an offset.
    fn batch(offset: i64) -> Batch {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(NewRecord { timestamp: 5, value: Some(b"v"), ..NewRecord::default() });
        let mut bytes = builder.build().unwrap().to_vec();
        let header = StoredHeader { base_offset: offset, leader_epoch: 3, attributes: 0, max_timestamp: 5 };
        settle(&mut bytes, &header);
        Batch::split_first(&mut Bytes::from(bytes)).unwrap()
    }

    /// Where a run starts and ends, and the same with `has_records` of each of its batches.
    type Span = (i64, i64, Vec<(i64, i64, bool)>);

    fn spans(runs: &[CleanedRun]) -> Vec<Span> {
        let of = |batch: &CleanedBatch| (batch.base_offset, batch.next_offset, batch.has_records);
        runs.iter().map(|run| (run.from, run.until, run.batches.iter().map(of).collect())).collect()
    }

    fn rewritten(offset: i64) -> Kept {
        Kept::Rewritten(batch(offset).bytes().clone())
    }

    #[test]
    fn consecutive_batches_that_go_become_one() {
        let mut runs = Runs::default();
        for offset in 0..3 {
            runs.push(&batch(offset), Kept::Gone);
        }
        runs.push(&batch(3), rewritten(3));
        runs.push(&batch(4), Kept::Same);
        runs.push(&batch(5), rewritten(5));
        runs.push(&batch(6), Kept::Gone);
        runs.push(&batch(7), Kept::Same);
        let expected = [(0, 4, vec![(0, 3, false), (3, 4, true)]), (5, 7, vec![(5, 6, true), (6, 7, false)])];
        assert_eq!(spans(&runs.take()), expected);
        assert!(runs.take().is_empty());
    }

    #[test]
    fn a_batch_without_records_at_the_end_of_a_step_takes_in_what_follows() {
        let mut runs = Runs::default();
        runs.push(&batch(0), Kept::Gone);
        runs.push(&batch(1), Kept::Gone);
        assert_eq!(spans(&runs.take()), [(0, 2, vec![(0, 2, false)])]);
        assert!(runs.take().is_empty(), "it is there already");
        runs.push(&batch(2), Kept::Gone);
        assert_eq!(spans(&runs.take()), [(0, 3, vec![(0, 3, false)])]);
        runs.push(&batch(3), Kept::Same);
        assert!(runs.take().is_empty());
    }

    #[test]
    fn what_is_a_gap_already_is_not_replaced_by_itself() {
        let (.., bytes) = gap(0, 5, 3).remove(0);
        let empty = Batch::split_first(&mut bytes.clone()).unwrap();
        let mut runs = Runs::default();
        runs.push(&empty, Kept::Gone);
        runs.push(&batch(5), Kept::Same);
        assert!(runs.take().is_empty());
        runs.push(&empty, Kept::Gone);
        runs.push(&batch(5), Kept::Gone);
        assert_eq!(spans(&runs.take()), [(0, 6, vec![(0, 6, false)])]);
    }

    #[test]
    fn a_step_is_bounded() {
        let mut runs = Runs::default();
        for offset in 0..BATCHES_MAX as i64 {
            assert!(!runs.is_enough());
            runs.push(&batch(offset), Kept::Gone);
        }
        assert!(runs.is_enough());
        assert_eq!(runs.take().len(), 1);
        assert!(!runs.is_enough());
    }
}
