//! Look-ups in the index of one log: by time, for retention and for compaction. Each is made within one snapshot.

use std::sync::Arc;

use kernel::TopicPartition;
use rules::documents::{DocumentKind, PartitionDocument};
use tokio_postgres::Error;
use uuid::Uuid;

use super::documents;
use super::errors::Failure;
use super::index::{Known, Searched, Span, Step, Want, look};
use super::session::Session;
use crate::engines::searched::{IsOver, Searched as Seen};
use crate::engines::{DirtyLook, ReadFrom, RetentionLimits, RetentionLook};

const LOG: &str = "SELECT id, bytes, tail_start FROM logs WHERE topic = $1 AND partition = $2";

const SIZES: &str = "SELECT coalesce(l.bytes, 0) FROM unnest($1::uuid[], $2::int[])
    WITH ORDINALITY AS s(topic, partition, n) LEFT JOIN logs l ON l.topic = s.topic AND l.partition = s.partition
    ORDER BY s.n";

const NOT_COPIED: &str = "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox_rejected)";

/// A partition of one moment.
pub(super) struct Log {
    document: PartitionDocument,
    bytes: u64,
    searched: Searched,
}

impl Log {
    /// Reads it, within a snapshot; `None` if it does not exist.
    async fn load(session: &Session, at: TopicPartition) -> Result<Option<Self>, Failure> {
        let found = documents::get(session, &[PartitionDocument::key(&at)]).await?;
        let document =
            found.first().and_then(|document| document.as_ref()?.get::<PartitionDocument>()).copied();
        let rows = session.query(LOG, &[&at.topic.0, &at.partition]).await.map_err(reading)?;
        Ok(document.zip(rows.first()).map(|(document, row)| {
            let (bytes, end): (i64, i64) = (row.get(1), document.end);
            let searched = Searched { log: row.get(0), tail_start: row.get(2), end };
            Self { document, bytes: bytes as u64, searched }
        }))
    }
}

fn reading(error: Error) -> Failure {
    Failure::of("reading", &error)
}

/// Total size of each partition's batches; 0 if it does not exist.
pub(super) async fn sizes(session: &Session, partitions: &[TopicPartition]) -> Result<Vec<u64>, Failure> {
    let (topics, numbers): (Vec<Uuid>, Vec<i32>) =
        partitions.iter().map(|at| (at.topic.0, at.partition)).unzip();
    let rows = session.query(SIZES, &[&topics, &numbers]).await.map_err(reading)?;
    Ok(rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect())
}

/// What retention does to a partition; `None` if it does not exist.
pub(super) async fn retention(
    session: &Session,
    at: TopicPartition,
    limits: &RetentionLimits,
    now_ms: i64,
) -> Result<Option<RetentionLook>, Failure> {
    let Some(Log { document, bytes, searched }) = Log::load(session, at).await? else { return Ok(None) };
    let looked = look(session, searched.log, |known| {
        limits.look(&document, bytes, now_ms, |from, is_over| search(searched, known, from, is_over))
    });
    looked.await.map(Some).map_err(reading)
}

/// How much of a partition is dirty; `None` if it does not exist.
pub(super) async fn dirty(
    session: &Session,
    at: TopicPartition,
    young_after_ms: Option<i64>,
) -> Result<Option<DirtyLook>, Failure> {
    let Some(Log { document, searched, .. }) = Log::load(session, at).await? else { return Ok(None) };
    let looked = look(session, searched.log, |known| {
        DirtyLook::of(&document, young_after_ms, |from, is_over| search(searched, known, from, is_over))
    });
    looked.await.map(Some).map_err(reading)
}

/// Searches a log's index, for a look that all engines share.
fn search(log: Searched, known: &Known, from: i64, is_over: &mut IsOver<'_>) -> Result<Option<Seen>, Want> {
    let seen = |span: &Span| Seen { times: span.times, bytes: span.bytes as u64, next: span.next };
    let found = log.search(known, from, &mut |span| {
        if is_over(&seen(span)) { Step::Over } else { Step::Into }
    })?;
    Ok(found.map(|span| seen(&span)))
}

/// The offset of the batch that a look-up is for; `None` if there is none, or no such partition.
pub(super) async fn find(
    session: &Session,
    at: TopicPartition,
    from: ReadFrom,
) -> Result<Option<i64>, Failure> {
    let Some(Log { document, searched, .. }) = Log::load(session, at).await? else { return Ok(None) };
    let log_start = document.log_start;
    let found = match from {
        ReadFrom::Offset(offset) => return Ok(Some(offset)),
        ReadFrom::Timestamp(time) => {
            look(session, searched.log, |known| first_since(searched, known, (log_start, i64::MIN), time))
                .await
        }
        ReadFrom::MaxTimestamp => {
            look(session, searched.log, |known| latest(searched, known, log_start)).await
        }
    };
    Ok(found.map_err(reading)?.map(|span| span.base.max(log_start)))
}

/// The first batch with a record of this timestamp or later, of those that begin at an offset or later.
fn first_since(
    log: Searched,
    known: &Known,
    (log_start, from): (i64, i64),
    time: i64,
) -> Result<Option<Span>, Want> {
    log.search(known, log_start, &mut |span| {
        if span.times.is_before(time) || span.base < from { Step::Over } else { Step::Into }
    })
}

/// The first batch with the greatest timestamp, of those that begin at the log start offset or later.
fn latest(log: Searched, known: &Known, log_start: i64) -> Result<Option<Span>, Want> {
    let mut latest = None;
    // None but the first begins before the log start offset.
    log.search(known, log_start, &mut |span| {
        if span.base >= log_start {
            latest = latest.max(span.times.latest);
        }
        Step::Over
    })?;
    match latest {
        Some(time) => first_since(log, known, (log_start, log_start), time),
        None => Ok(None),
    }
}

/// What `yagura store copy` leaves behind.
pub(super) async fn not_copied(session: Arc<Session>) -> Result<Vec<(u64, &'static str)>, Failure> {
    let counting = |error: Error| Failure::of("counting what is in", &error);
    let rows = session.query(NOT_COPIED, &[]).await.map_err(counting)?;
    let count = |column: usize| rows.first().map_or(0, |row| row.get::<_, i64>(column).unsigned_abs());
    let all = [
        (count(0), "positions of readers by SQL (yagura.poll): they begin anew"),
        (count(1), "messages that no log has taken (yagura.outbox_rejected)"),
    ];
    Ok(all.into_iter().filter(|(count, _)| *count > 0).collect())
}
