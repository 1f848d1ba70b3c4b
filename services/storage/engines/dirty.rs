//! How much of a log is dirty: what compaction goes by. Shared by all engines.

use rules::documents::PartitionDocument;

use super::searched::{IsOver, Searched};
use crate::compaction::{DirtyLog, DirtySizes, YoungBatch};

/// What a look at a log has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirtyLook {
    /// The offsets that say what of it can be cleaned.
    pub log: DirtyLog,
    /// How much of it is dirty.
    pub sizes: DirtySizes,
}

impl DirtyLook {
    /// Looks at a log, some of whose batches may be too young; `search` begins at the batch that holds an offset. A few
    /// searches, however long the log is.
    pub(in crate::engines) fn of<E>(
        document: &PartitionDocument,
        young_after_ms: Option<i64>,
        mut search: impl FnMut(i64, &mut IsOver<'_>) -> Result<Option<Searched>, E>,
    ) -> Result<Self, E> {
        let mut log = DirtyLog {
            log_start: document.log_start,
            clean_end: document.cleaning.map_or(0, |cleaning| cleaning.clean_end),
            last_stable: document.last_stable(),
            log_end: document.end,
            young: None,
        };
        let from = log.cleanable().start;
        if let Some(young_after_ms) = young_after_ms {
            let is_young =
                |batches: &Searched| batches.times.youngest().is_some_and(|time| time > young_after_ms);
            let (mut base_offset, last_stable) = (from, log.last_stable);
            let found = search(from, &mut |batches| {
                let is_over = !is_young(batches) && batches.next <= last_stable;
                base_offset = if is_over { batches.next } else { base_offset };
                is_over
            })?;
            let max_timestamp = found.filter(is_young).and_then(|young| young.times.youngest());
            log.young = max_timestamp.map(|max_timestamp| YoungBatch { base_offset, max_timestamp });
        }
        let until = log.cleanable().end;
        let (mut clean_bytes, mut dirty_bytes) = (0, 0);
        search(log.log_start, &mut |batches| {
            let is_clean = batches.next <= from;
            clean_bytes += if is_clean { batches.bytes } else { 0 };
            is_clean
        })?;
        search(from, &mut |batches| {
            let is_dirty = batches.next <= until;
            dirty_bytes += if is_dirty { batches.bytes } else { 0 };
            is_dirty
        })?;
        let oldest =
            search(from, &mut |batches| batches.times.youngest().is_none() && batches.next <= until)?;
        let oldest_dirty_ms = oldest.filter(|oldest| oldest.next <= until);
        let oldest_dirty_ms = oldest_dirty_ms.and_then(|oldest| oldest.times.youngest());
        Ok(Self { log, sizes: DirtySizes { clean_bytes, dirty_bytes, oldest_dirty_ms } })
    }
}
