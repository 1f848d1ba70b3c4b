//! The index over the batches of a log, and searches in it.
//!
//! 256 consecutive batches have a span, which says where it ends, the greatest timestamp in it and its bytes; 16 spans have a
//! span above them, and so on. What follows the last span is the tail. A search steps over as much at a time as it can, so
//! that its cost grows with the logarithm of the log. It is made within one snapshot.

use std::collections::HashMap;

use tokio_postgres::{Error, Row};

use super::session::Session;
use crate::engines::resident::Times;

/// Batches of a span. Few in unit tests, so that a short log has all levels.
pub(super) const BLOCK_BATCHES: i32 = if cfg!(test) { 3 } else { 256 };
/// Spans under a span.
pub(super) const FAN_OUT: i32 = if cfg!(test) { 2 } else { 16 };
/// Levels of spans, as `schema.sql` has them.
pub(super) const LEVELS: i16 = 5;

const NEXT_SPAN: &str =
    "SELECT min(base_offset) FROM spans WHERE log = $1 AND level = $2 AND base_offset >= $3";
const SPANS: &str = "SELECT base_offset, next_offset, bytes, max_timestamp, undated_ms FROM spans
    WHERE log = $1 AND level = $2 AND base_offset >= $3 AND base_offset < $4 ORDER BY base_offset";
/// From the batch that holds an offset on.
const ENTRIES: &str = "SELECT base_offset, next_offset, bytes::bigint, max_timestamp, undated_ms FROM batches
    WHERE log = $1 AND base_offset >= coalesce((SELECT max(base_offset) FROM batches
    WHERE log = $1 AND base_offset <= $2), $2) AND base_offset < $3 ORDER BY base_offset";

/// A batch, or several consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The first offset.
    pub(super) base: i64,
    /// The offset after the last record.
    pub(super) next: i64,
    /// Bytes of the batches.
    pub(super) bytes: i64,
    pub(super) times: Times,
}

impl Span {
    /// Reads the columns of a batch or span, the first of a row.
    pub(super) fn of(row: &Row) -> Self {
        let times = Times::read(row.get(3), row.get(4));
        Self { base: row.get(0), next: row.get(1), bytes: row.get(2), times }
    }
}

/// What a search does at a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on after the span.
    Over,
    /// It looks into the span; if that is one batch, this is what it searched for.
    Into,
}

/// A log that is searched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Searched {
    /// Its id.
    pub(super) log: i64,
    /// Where its spans end.
    pub(super) tail_start: i64,
    /// Where it ends.
    pub(super) end: i64,
}

/// What was read of the index of a log.
#[derive(Default)]
pub(super) struct Known {
    /// Where the first span of a level begins, at or after an offset.
    next: HashMap<(i16, i64), Option<i64>>,
    /// The spans of a level that begin in a range of offsets; of level 0, the batches that have some of it.
    spans: HashMap<(i16, i64, i64), Vec<Span>>,
}

/// What a search has to know before it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Next { level: i16, at: i64 },
    Spans { level: i16, from: i64, until: i64 },
}

/// Makes a look at a log, which may search it several times. It is made again and again, each time with what it lacked before:
/// a few times for each level. So whatever searches need not know that they wait.
pub(super) async fn look<T>(
    session: &Session,
    log: i64,
    look: impl Fn(&Known) -> Result<T, Want>,
) -> Result<T, Error> {
    let mut known = Known::default();
    loop {
        match look(&known) {
            Ok(found) => return Ok(found),
            Err(want) => known.read(session, log, want).await?,
        }
    }
}

impl Known {
    async fn read(&mut self, session: &Session, log: i64, want: Want) -> Result<(), Error> {
        match want {
            Want::Next { level, at } => {
                let rows = session.query(NEXT_SPAN, &[&log, &level, &at]).await?;
                self.next.insert((level, at), rows.first().and_then(|row| row.get(0)));
            }
            Want::Spans { level, from, until } => {
                let rows = match level {
                    0 => session.query(ENTRIES, &[&log, &from, &until]).await?,
                    _ => session.query(SPANS, &[&log, &level, &from, &until]).await?,
                };
                self.spans.insert((level, from, until), rows.iter().map(Span::of).collect());
            }
        }
        Ok(())
    }
}

impl Searched {
    /// Searches from an offset on. `step` sees spans in offset order, the first of which may be the batch that holds the
    /// offset; those that it looks into, it sees again in parts.
    ///
    /// It climbs while it goes: to the end of the span that holds the offset, from there in spans to where one above them
    /// begins, and so on, and then down again where `step` looks into a span. It sees a few spans of each level.
    pub(super) fn search(
        self,
        known: &Known,
        from: i64,
        step: &mut dyn FnMut(&Span) -> Step,
    ) -> Result<Option<Span>, Want> {
        let (mut at, spans_end) = (from, self.tail_start.min(self.end));
        for level in 0..=LEVELS {
            if at >= spans_end {
                break;
            }
            let next = if level == LEVELS { None } else { next_span(known, level + 1, at)? };
            let until = next.unwrap_or(spans_end).min(spans_end);
            if at < until
                && let Some(found) = search_level(known, level, (at, until), step)?
            {
                return Ok(Some(found));
            }
            at = at.max(until);
        }
        if at >= self.end { Ok(None) } else { search_level(known, 0, (at, self.end), step) }
    }
}

fn next_span(known: &Known, level: i16, at: i64) -> Result<Option<i64>, Want> {
    known.next.get(&(level, at)).copied().ok_or(Want::Next { level, at })
}

/// Searches a range that the spans of a level fill.
fn search_level(
    known: &Known,
    level: i16,
    (from, until): (i64, i64),
    step: &mut dyn FnMut(&Span) -> Step,
) -> Result<Option<Span>, Want> {
    let spans = known.spans.get(&(level, from, until)).ok_or(Want::Spans { level, from, until })?;
    // What is newer than the caller's view of the log is not looked at.
    for span in spans.iter().filter(|span| span.next > from) {
        let is_newer = span.next > until;
        if level == 0 {
            if !is_newer && step(span) == Step::Into {
                return Ok(Some(*span));
            }
        } else if is_newer || step(span) == Step::Into {
            let found = search_level(known, level - 1, (span.base, span.next.min(until)), step)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}
