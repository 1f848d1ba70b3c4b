//! Reads a whole store and checks its consistency: its documents, the records of every batch, and, by queries for what contradicts
//! something else, its index.

use std::collections::HashMap;
use std::pin::pin;

use bytes::Bytes;
use futures_util::TryStreamExt;
use kernel::records::NO_TIMESTAMP;
use rules::documents::{Document, DocumentKind, Key, StoreLevel};
use tokio_postgres::{Error, Row};

use super::connect::Server;
use super::documents;
use super::errors::{Failure, failed};
use super::migrate;
use super::rows::{self, DividedBatch};
use super::session::Session;
use super::url::Target;
use crate::engines::gaps::{as_gap, check_stored};
use crate::engines::verified::{VerifyReport, verify_documents};
use crate::engines::{Progress, StoreError};

/// What is wrong of a kind is listed up to so many times.
const SHOWN_MAX: i64 = 100;

/// Checks read whole tables: the planner may choose how, which it must not elsewhere. All see the same state.
const SETTINGS: &str = "SET statement_timeout = 0; SET enable_seqscan = on; SET enable_hashjoin = on;
    SET enable_mergejoin = on; SET enable_bitmapscan = on; SET plan_cache_mode = auto;
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;";

/// The logs with their documents' offsets, and the batches that are in them.
macro_rules! with_logs {
    ($query:literal) => {
        concat!(
            "WITH known AS (SELECT split_part(convert_from(key, 'UTF8'), '/', 2)::uuid AS topic,
                split_part(convert_from(key, 'UTF8'), '/', 3)::int AS partition,
                (value::jsonb->>'log_start')::bigint AS starts, (value::jsonb->>'end')::bigint AS log_end
                FROM documents WHERE key >= 'partition/'::bytea AND key < 'partition0'::bytea),
            log AS (SELECT * FROM logs JOIN known USING (topic, partition)),
            entry AS (SELECT log.topic, log.partition, log.log_start, log.log_end, log.tail_start, b.*
                FROM log JOIN batches b ON b.log = log.id WHERE b.next_offset > log.log_start) ",
            $query
        )
    };
}

/// Each returns a sentence for each contradiction.
const CHECKS: [&str; 11] = [
    with_logs!(
        "SELECT format('partition/%s/%s has a document and no log', topic, partition)
        FROM known LEFT JOIN logs USING (topic, partition) WHERE logs.id IS NULL LIMIT $1"
    ),
    with_logs!(
        "SELECT format('partition/%s/%s has a log and no document', topic, partition)
        FROM logs LEFT JOIN known USING (topic, partition) WHERE known.log_end IS NULL LIMIT $1"
    ),
    with_logs!(
        "SELECT format('partition/%s/%s begins at offset %s, but its log at %s', topic, partition, starts, log_start)
        FROM log WHERE starts <> log_start LIMIT $1"
    ),
    with_logs!(
        "SELECT format('partition/%s/%s: the batch that ends at offset %s is followed by offset %s', topic, partition,
        next_offset, following) FROM (SELECT e.*, lead(base_offset, 1, log_end)
        OVER (PARTITION BY log ORDER BY base_offset) AS following FROM entry e) e
        WHERE following <> next_offset LIMIT $1"
    ),
    with_logs!(
        "SELECT format('partition/%s/%s begins at offset %s, after its log start offset %s', topic, partition, first,
        log_start) FROM (SELECT log.topic, log.partition, log.log_start, log.log_end, min(entry.base_offset)
        AS first FROM log LEFT JOIN entry ON entry.log = log.id GROUP BY 1, 2, 3, 4) f
        WHERE log_end > log_start AND (first IS NULL OR first > log_start) LIMIT $1"
    ),
    with_logs!(
        "SELECT format('partition/%s/%s says %s bytes, but its batches have %s', topic, partition, bytes, found)
        FROM (SELECT log.topic, log.partition, log.bytes, coalesce(sum(entry.bytes), 0) AS found
        FROM log LEFT JOIN entry ON entry.log = log.id GROUP BY 1, 2, 3) s WHERE found <> bytes LIMIT $1"
    ),
    with_logs!(
        "SELECT format('partition/%s/%s: the batch at offset %s is missing', topic, partition, base_offset)
        FROM entry LEFT JOIN batch_data d ON d.id = entry.data AND d.part = 0
        WHERE d.id IS NULL AND entry.header IS NULL LIMIT $1"
    ),
    "SELECT format('the bytes of a batch, number %s, are in no log', d.id) FROM batch_data d
        LEFT JOIN batches b ON b.data = d.id WHERE b.data IS NULL AND d.part = 0 LIMIT $1",
    "SELECT format('the record at offset %s of log %s is in no batch', r.record_offset, r.log) FROM record_rows r
        WHERE NOT EXISTS (SELECT FROM (SELECT next_offset, header FROM batches b WHERE b.log = r.log
        AND b.base_offset <= r.record_offset ORDER BY b.base_offset DESC LIMIT 1) b
        WHERE b.next_offset > r.record_offset AND b.header IS NOT NULL) LIMIT $1",
    with_logs!(
        "SELECT format('partition/%s/%s: a span of level %s at offset %s says something else than its batches',
        topic, partition, level, base_offset) FROM (SELECT log.topic, log.partition, s.*,
        (SELECT row(min(b.base_offset), max(b.next_offset), sum(b.bytes), max(b.max_timestamp), max(b.undated_ms))
        FROM batches b WHERE b.log = s.log AND b.base_offset >= s.base_offset AND b.base_offset < s.next_offset) AS found
        FROM log JOIN spans s ON s.log = log.id WHERE s.base_offset >= log.log_start) s
        WHERE found IS DISTINCT FROM row(base_offset, next_offset, bytes, max_timestamp, undated_ms) LIMIT $1"
    ),
    with_logs!(
        "SELECT format('partition/%s/%s: the spans of level %s end at offset %s, and not at %s', topic, partition, level,
        ends, tail_start) FROM (SELECT log.topic, log.partition, log.tail_start, s.level, max(s.next_offset) AS ends
        FROM log JOIN spans s ON s.log = log.id GROUP BY 1, 2, 3, 4) s WHERE ends <> tail_start LIMIT $1"
    ),
];

const COUNT: &str = "SELECT count(*) FROM batches b JOIN logs l ON l.id = b.log";
const DOCUMENTS: &str = "SELECT key, value FROM documents ORDER BY key";
const BATCHES: &str = "SELECT format('partition/%s/%s', l.topic, l.partition), b.base_offset, b.next_offset,
    b.max_timestamp, (SELECT string_agg(d.bytes, ''::bytea ORDER BY d.part) FROM batch_data d WHERE d.id = b.data),
    b.log, b.bytes, b.header FROM logs l JOIN batches b ON b.log = l.id ORDER BY l.id, b.base_offset";

/// Checks the store that a URL names, after `://`: that documents can be read and fit together, every batch's CRC and records,
/// that offsets are dense, and that the index says of each batch what it is. `progress` gets the batches done and the total.
///
/// # Errors
/// The store cannot be read.
pub async fn verify(place: &str, progress: &mut Progress<'_>) -> Result<VerifyReport, StoreError> {
    let server = Server::new(Target::parse(place).map_err(StoreError)?)?;
    let session = server.connect().await?;
    migrate::expect(&session, server.schema()).await?;
    check_level(&session).await?;
    let rows = server.connect().await?;
    run(&session, &rows, progress).await.map_err(|error| failed("checking", &error))
}

/// A release that cannot read the store would take what it does not know for damage.
async fn check_level(session: &Session) -> Result<(), StoreError> {
    let found = documents::get(session, &[StoreLevel::key(&())]).await.map_err(Failure::error)?;
    let found = found.first().and_then(Option::as_ref).and_then(|found| found.get::<StoreLevel>());
    StoreLevel::of(found).map(drop).map_err(|wrong| StoreError(wrong.to_string()))
}

async fn run(session: &Session, rows: &Session, progress: &mut Progress<'_>) -> Result<VerifyReport, Error> {
    session.run(SETTINGS).await?;
    // Records are read beside the batches, from the same state.
    let snapshot: String = session.client.query_one("SELECT pg_export_snapshot()", &[]).await?.get(0);
    rows.run(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{snapshot}'"
    ))
    .await?;
    let mut report = VerifyReport::default();
    verify_documents(&documents(session, &mut report).await?, &mut report);
    for check in CHECKS {
        let rows = session.client.query(check, &[&SHOWN_MAX]).await?;
        rows.iter().for_each(|row| report.fault(row.get(0)));
    }
    let total: i64 = session.client.query_one(COUNT, &[]).await?.get(0);
    let none: [&str; 0] = [];
    let mut batches = pin!(session.client.query_raw(BATCHES, none).await?);
    while let Some(row) = batches.try_next().await? {
        let bytes = bytes_of(rows, &row).await.map_err(|failure| failure.error());
        check_batch(&row, bytes, &mut report);
        progress(report.batches, total as u64);
    }
    Ok(report)
}

async fn documents(session: &Session, report: &mut VerifyReport) -> Result<HashMap<Key, Document>, Error> {
    let none: [&str; 0] = [];
    let mut rows = pin!(session.client.query_raw(DOCUMENTS, none).await?);
    let mut all = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        report.documents += 1;
        match documents::parse(&row) {
            Ok((key, document)) => drop(all.insert(key, document)),
            Err(error) => report.fault(error.0),
        }
    }
    Ok(all)
}

/// The bytes of a batch, which may be made of rows.
async fn bytes_of(session: &Session, row: &Row) -> Result<Bytes, Failure> {
    if let Some(bytes) = row.get::<_, Option<&[u8]>>(4) {
        return Ok(Bytes::copy_from_slice(bytes));
    }
    let (bytes, header): (i32, Option<&[u8]>) = (row.get(6), row.get(7));
    let header = Bytes::copy_from_slice(header.unwrap_or_default());
    let (log, base, next) = (row.get(5), row.get(1), row.get(2));
    let batch = DividedBatch { log, base, next, bytes: bytes as usize, header };
    let mut joined = rows::read(session, &[batch]).await?;
    let missing = || Err(StoreError("it is missing".to_owned()));
    Ok(joined.remove(&(log, base)).unwrap_or_else(missing)?)
}

fn check_batch(row: &Row, bytes: Result<Bytes, StoreError>, report: &mut VerifyReport) {
    let (key, base, next, latest): (&str, i64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    let checked = bytes.map_err(|error| error.0).and_then(|data| {
        report.batches += 1;
        report.bytes += data.len() as u64;
        as_gap(&data).map_or_else(|| check_stored(&data).map(|(batch, _)| batch), Ok)
    });
    let batch = match checked {
        Ok(batch) => batch,
        Err(error) => return report.fault(format!("{key}, the batch at offset {base}: {error}")),
    };
    report.records += u64::try_from(batch.record_count()).unwrap_or(0);
    // One without records has no time, whatever its header says.
    let found = if batch.record_count() == 0 { NO_TIMESTAMP } else { batch.max_timestamp() };
    let own = (batch.base_offset(), batch.next_offset(), found);
    if own != (base, next, latest) {
        report.fault(format!(
            "{key}, the batch at offset {base}: it has offsets {} to {} and the timestamp {found}, in the index {base} to {next} and {latest}",
            own.0, own.1
        ));
    }
}
