//! Whether a partition is to be cleaned now, and which part of it.
//!
//! As in Kafka, a partition is cleaned if more of it is dirty than `min.cleanable.dirty.ratio`, or if a dirty record is
//! older than `max.compaction.lag.ms`. Records that are younger than `min.compaction.lag.ms`, and those behind the last
//! stable offset, are not cleaned and do not count.

use std::ops::Range;

/// The topic's configs that say when a partition is cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleaningLimits {
    /// `min.compaction.lag.ms`: how long a record is at least left as it is.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: after how long a record is cleaned in any case.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`, from 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
}

impl CleaningLimits {
    /// Batches with a greatest timestamp after this are too young to be cleaned; `None` if none is.
    pub fn young_after_ms(&self, now_ms: i64) -> Option<i64> {
        (self.min_compaction_lag_ms > 0).then(|| now_ms.saturating_sub(self.min_compaction_lag_ms))
    }
}

/// The first dirty batch that is too young to be cleaned, which nothing after it is cleaned before either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YoungBatch {
    /// Its first offset.
    pub base_offset: i64,
    /// Its greatest timestamp, in ms since the epoch.
    pub max_timestamp: i64,
}

/// The offsets of a partition that say what of it can be cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirtyLog {
    /// The log start offset.
    pub log_start: i64,
    /// How far the log is clean, see [`Cleaning::clean_end`](super::Cleaning::clean_end); 0 if it was never cleaned.
    pub clean_end: i64,
    /// The last stable offset.
    pub last_stable: i64,
    /// The log end offset.
    pub log_end: i64,
    /// The first batch from `clean_end` on that is younger than the limit.
    pub young: Option<YoungBatch>,
}

impl DirtyLog {
    /// The dirty offsets that may be cleaned now.
    pub fn cleanable(&self) -> Range<i64> {
        // What was noted of a log that has lost its end says nothing about this one.
        let clean_end = if self.clean_end > self.log_end { self.log_start } else { self.clean_end };
        let start = clean_end.max(self.log_start);
        let young = self.young.map_or(i64::MAX, |young| young.base_offset);
        start..self.last_stable.min(young).max(start)
    }
}

/// How much of a partition is dirty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirtySizes {
    /// Bytes of the batches before the cleanable offsets.
    pub clean_bytes: u64,
    /// Bytes of the batches in them.
    pub dirty_bytes: u64,
    /// The earliest timestamp among the latter, in ms since the epoch; `None` if none has one.
    pub oldest_dirty_ms: Option<i64>,
}

impl DirtySizes {
    /// The part that is dirty, from 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        let bytes = self.clean_bytes + self.dirty_bytes;
        if bytes == 0 { 0.0 } else { self.dirty_bytes as f64 / bytes as f64 }
    }
}

/// What is to be done about a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// To clean these dirty offsets now.
    Clean(Range<i64>),
    /// To look again at a time in ms since the epoch, if there is one, and when the last stable offset has advanced.
    Wait(Option<i64>),
}

/// What is to be done about a partition now.
pub fn plan(log: &DirtyLog, sizes: &DirtySizes, limits: &CleaningLimits, now_ms: i64) -> Plan {
    let cleanable = log.cleanable();
    let has_dirty = !cleanable.is_empty() && sizes.dirty_bytes > 0;
    let oldest_ms = sizes.oldest_dirty_ms.filter(|_| has_dirty);
    // Beyond the end of time stands for never.
    let overdue_ms = oldest_ms.and_then(|oldest_ms| oldest_ms.checked_add(limits.max_compaction_lag_ms));
    let overdue_ms = overdue_ms.and_then(|last_ms| last_ms.checked_add(1));
    let is_overdue = overdue_ms.is_some_and(|overdue_ms| overdue_ms <= now_ms);
    if has_dirty && (is_overdue || sizes.dirty_ratio() > limits.min_cleanable_dirty_ratio) {
        return Plan::Clean(cleanable);
    }
    let old_ms = log.young.and_then(|young| young.max_timestamp.checked_add(limits.min_compaction_lag_ms));
    Plan::Wait(overdue_ms.into_iter().chain(old_ms).min())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: DirtyLog =
        DirtyLog { log_start: 10, clean_end: 50, last_stable: 90, log_end: 100, young: None };
    const SIZES: DirtySizes = DirtySizes { clean_bytes: 500, dirty_bytes: 500, oldest_dirty_ms: Some(1_000) };
    const LIMITS: CleaningLimits = CleaningLimits {
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        min_cleanable_dirty_ratio: 0.5,
    };

    #[test]
    fn what_is_clean_open_or_young_is_not_cleaned() {
        assert_eq!(LOG.cleanable(), 50..90);
        assert_eq!(DirtyLog { clean_end: 0, ..LOG }.cleanable(), 10..90, "never cleaned");
        assert_eq!(DirtyLog { clean_end: 101, ..LOG }.cleanable(), 10..90, "the end was lost");
        assert_eq!(DirtyLog { last_stable: 50, ..LOG }.cleanable(), 50..50);
        assert_eq!(DirtyLog { last_stable: 20, ..LOG }.cleanable(), 50..50, "never backwards");
        let young = |base_offset| Some(YoungBatch { base_offset, max_timestamp: 7 });
        assert_eq!(DirtyLog { young: young(60), ..LOG }.cleanable(), 50..60);
        assert_eq!(DirtyLog { young: young(95), ..LOG }.cleanable(), 50..90);
        assert_eq!(LIMITS.young_after_ms(5_000), None);
        assert_eq!(
            CleaningLimits { min_compaction_lag_ms: 300, ..LIMITS }.young_after_ms(5_000),
            Some(4_700)
        );
    }

    #[test]
    fn it_is_cleaned_when_more_than_the_ratio_is_dirty() {
        assert_eq!(plan(&LOG, &SIZES, &LIMITS, 5_000), Plan::Wait(None), "not more than half");
        let more = DirtySizes { dirty_bytes: 501, ..SIZES };
        assert_eq!(plan(&LOG, &more, &LIMITS, 5_000), Plan::Clean(50..90));
        let at_once = CleaningLimits { min_cleanable_dirty_ratio: 0.0, ..LIMITS };
        assert_eq!(plan(&LOG, &SIZES, &at_once, 5_000), Plan::Clean(50..90));
        let nothing = DirtySizes { dirty_bytes: 0, oldest_dirty_ms: None, ..SIZES };
        assert_eq!(plan(&LOG, &nothing, &at_once, 5_000), Plan::Wait(None));
        assert_eq!(plan(&DirtyLog { last_stable: 50, ..LOG }, &more, &at_once, 5_000), Plan::Wait(None));
        let never = CleaningLimits { min_cleanable_dirty_ratio: 1.0, ..LIMITS };
        assert_eq!(plan(&LOG, &DirtySizes { clean_bytes: 0, ..SIZES }, &never, 5_000), Plan::Wait(None));
        let empty = DirtySizes { clean_bytes: 0, dirty_bytes: 0, oldest_dirty_ms: None };
        assert!(empty.dirty_ratio() < f64::EPSILON);
    }

    #[test]
    fn it_is_cleaned_when_a_dirty_record_is_too_old() {
        let limits = CleaningLimits { max_compaction_lag_ms: 600, ..LIMITS };
        assert_eq!(plan(&LOG, &SIZES, &limits, 1_600), Plan::Wait(Some(1_601)));
        assert_eq!(plan(&LOG, &SIZES, &limits, 1_601), Plan::Clean(50..90));
        let undated = DirtySizes { oldest_dirty_ms: None, ..SIZES };
        assert_eq!(plan(&LOG, &undated, &limits, 1_601), Plan::Wait(None));
        let open = DirtyLog { last_stable: 50, ..LOG };
        assert_eq!(plan(&open, &SIZES, &limits, 1_601), Plan::Wait(None), "an open transaction holds it");
    }

    #[test]
    fn a_young_batch_is_looked_at_when_it_is_old_enough() {
        let limits = CleaningLimits { min_compaction_lag_ms: 300, max_compaction_lag_ms: 600, ..LIMITS };
        let young = |base_offset| Some(YoungBatch { base_offset, max_timestamp: 1_200 });
        let log = DirtyLog { young: young(50), ..LOG };
        let nothing = DirtySizes { dirty_bytes: 0, oldest_dirty_ms: None, ..SIZES };
        assert_eq!(plan(&log, &nothing, &limits, 1_499), Plan::Wait(Some(1_500)));
        assert_eq!(limits.young_after_ms(1_500), Some(1_200), "it is not after that then");
        let log = DirtyLog { young: young(60), ..LOG };
        assert_eq!(plan(&log, &SIZES, &limits, 1_300), Plan::Wait(Some(1_500)), "what comes first");
        assert_eq!(plan(&log, &SIZES, &limits, 1_700), Plan::Clean(50..60));
    }
}
