//! Records that are read while the reply that has them is sent.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::records_later::{NextRecords, RecordSource};
use parking_lot::Mutex;

use super::State;
use super::log::Place;
use super::segment::Segment;

/// How long segments of deleted records are kept for replies that are being sent.
const KEPT: Duration = Duration::from_secs(60);

/// Segments whose records were deleted. They are kept only while there are replies that may have them.
#[derive(Default)]
pub(super) struct Deleted {
    /// By the log's id and the segment's number.
    segments: HashMap<(u64, u64), Segment>,
    since: VecDeque<(Instant, (u64, u64))>,
    /// Cloned into each reply.
    replies: Arc<()>,
}

impl Deleted {
    /// Keeps segments for the replies that are being sent.
    pub(super) fn keep(&mut self, log: u64, segments: impl IntoIterator<Item = (u64, Segment)>) {
        if Arc::strong_count(&self.replies) == 1 {
            return;
        }
        let now = Instant::now();
        for (number, segment) in segments {
            self.segments.insert((log, number), segment);
            self.since.push_back((now, (log, number)));
        }
    }

    /// Frees segments that were kept long enough.
    pub(super) fn purge(&mut self) {
        while let Some((_, key)) = self.since.front().filter(|(since, _)| since.elapsed() > KEPT) {
            self.segments.remove(key);
            self.since.pop_front();
        }
    }

    /// Reads these places of a log.
    pub(super) fn source(
        &self,
        partition: TopicPartition,
        log: u64,
        places: VecDeque<Place>,
        state: Weak<Mutex<State>>,
    ) -> Source {
        Source { partition, log, places, state, _reply: Arc::clone(&self.replies) }
    }
}

/// The records of one partition in a reply.
pub(super) struct Source {
    partition: TopicPartition,
    log: u64,
    places: VecDeque<Place>,
    state: Weak<Mutex<State>>,
    _reply: Arc<()>,
}

impl RecordSource for Source {
    fn read(mut self: Box<Self>, bytes: usize) -> NextRecords {
        let read = self.next(bytes);
        Box::pin(std::future::ready(
            read.map(|bytes| -> (Vec<Bytes>, Box<dyn RecordSource>) { (vec![bytes], self) }),
        ))
    }
}

impl Source {
    fn next(&mut self, bytes: usize) -> Result<Bytes, String> {
        let state = self.state.upgrade().ok_or("the store is closed")?;
        let place = self.places.front_mut().ok_or("nothing is left to read")?;
        let from = place.range.start;
        let until = place.range.end.min(from.saturating_add(bytes));
        if let Some(own) = &place.own {
            let piece = own.slice(from..until);
            place.range.start = until;
            if place.range.is_empty() {
                self.places.pop_front();
            }
            return Ok(piece);
        }
        let state = state.lock();
        let log = state.logs.get(&self.partition).filter(|log| log.id == self.log);
        let segment = log.and_then(|log| log.segment(place.segment));
        let segment = segment.or_else(|| state.deleted.segments.get(&(self.log, place.segment)));
        let segment =
            segment.ok_or("a reply took longer to be read by its client than deleted records are kept")?;
        let piece = Bytes::copy_from_slice(&segment.bytes()[from..until]);
        place.range.start = until;
        if place.range.is_empty() {
            self.places.pop_front();
        }
        Ok(piece)
    }
}
