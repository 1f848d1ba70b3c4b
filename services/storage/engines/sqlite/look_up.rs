//! Look-ups in the index of one log: by time, for retention and for compaction. Each sees the file of one moment.

use kernel::TopicPartition;
use rusqlite::Connection;

use super::index::{Span, Step};
use super::logs::Log;
use super::reader::{Keep, Reader};
use super::schema::failed;
use crate::engines::searched::{IsOver, Searched};
use crate::engines::{DirtyLook, ReadFrom, RetentionLimits, RetentionOutcome, StoreError};

impl Reader {
    /// What retention does to a partition.
    pub(super) fn retention(
        &self,
        at: TopicPartition,
        limits: &RetentionLimits,
        now_ms: i64,
    ) -> RetentionOutcome {
        // Many partitions may be looked at, which would push out of the cache what is in use.
        let (log, _snapshot) = self.snapshot(at, Keep::Nothing)?;
        let Some((document, log)) = log else { return Ok(None) };
        limits.look(&document, log.bytes, now_ms, |from, is_over| self.search(&log, from, is_over)).map(Some)
    }

    /// How much of a partition is dirty.
    pub(super) fn dirty(
        &self,
        at: TopicPartition,
        young_after_ms: Option<i64>,
    ) -> Result<Option<DirtyLook>, StoreError> {
        let (log, _snapshot) = self.snapshot(at, Keep::Nothing)?;
        let Some((document, log)) = log else { return Ok(None) };
        DirtyLook::of(&document, young_after_ms, |from, is_over| self.search(&log, from, is_over)).map(Some)
    }

    /// Searches a log's index, for a look that all engines share.
    fn search(&self, log: &Log, from: i64, is_over: &mut IsOver<'_>) -> Result<Option<Searched>, StoreError> {
        let searched = |span: &Span| Searched { times: span.times, bytes: span.bytes, next: span.next };
        let found = log.search(&self.connection, from, &mut |span: &Span| {
            if is_over(&searched(span)) { Step::Over } else { Step::Into }
        });
        found.map(|found| found.map(|span| searched(&span))).map_err(|error| failed("reading", &error))
    }
}

/// The batch that a look-up is for.
pub(super) fn find(
    connection: &Connection,
    log: &Log,
    log_start: i64,
    wanted: ReadFrom,
) -> rusqlite::Result<Option<Span>> {
    // A search begins at the batch that holds its first offset, and none but that begins before it.
    let (time, from) = match wanted {
        ReadFrom::Timestamp(time) => (time, i64::MIN),
        ReadFrom::Offset(_) | ReadFrom::MaxTimestamp => {
            let mut latest = None;
            log.search(connection, log_start, &mut |span| {
                if span.base >= log_start {
                    latest = latest.max(span.times.latest);
                }
                Step::Over
            })?;
            let Some(latest) = latest else { return Ok(None) };
            (latest, log_start)
        }
    };
    let is_over = |span: &Span| span.times.is_before(time) || span.base < from;
    log.search(connection, log_start, &mut |span| if is_over(span) { Step::Over } else { Step::Into })
}
