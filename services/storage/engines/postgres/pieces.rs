//! Records that are read while the reply that has them is sent, piece by piece.
//!
//! A piece is one short read without a snapshot: nothing is held between two of them. The bytes of batches outlive their
//! log's start offset by `delete_delay`.
//!
//! Compaction may replace batches meanwhile. A reply goes on with new ones, each of them whole; and as it has announced how
//! many bytes follow, it ends with an error, and its connection with it, if these are fewer. It never has the beginning of
//! one batch and the end of another.

use std::sync::Weak;

use bytes::Bytes;
use kernel::records_later::{NextRecords, RecordSource};
use tokio_postgres::Row;

use super::errors::Failure;
use super::pool::Pool;
use super::session::Session;
use crate::engines::StoreError;

/// Batches of a piece.
const BATCHES_MAX: i32 = 8_192;

/// Whole batches of so many bytes, or a part of the first.
const PIECE: &str = "SELECT b.next_offset, b.bytes, b.data, CASE WHEN b.n = 1
    THEN substr(d.bytes, ($4::bigint)::int + 1, ($5::bigint)::int) ELSE d.bytes END
    FROM (SELECT *, row_number() OVER w AS n, sum(bytes) OVER w - $4::bigint AS upto
    FROM locate($1, $2, $3, $4::bigint + $5::bigint, $6) WINDOW w AS (ORDER BY base_offset)) b
    JOIN batch_data d ON d.id = b.data
    WHERE b.base_offset >= $2 AND (b.n = 1 OR b.upto <= $5::bigint) ORDER BY b.base_offset";

/// Where a reply has got to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    log: i64,
    /// The next batch.
    base: i64,
    /// The offset after the last batch.
    end: i64,
    /// Of a batch of which a part was sent: how much, and where its bytes are.
    begun: Option<(i64, i64)>,
}

impl Place {
    /// The batches of a log in a range of offsets.
    pub(super) fn new(log: i64, base: i64, end: i64) -> Self {
        Self { log, base, end, begun: None }
    }
}

/// The records of one partition in a reply.
pub(super) struct Source {
    place: Place,
    pool: Weak<Pool>,
}

impl Source {
    pub(super) fn new(place: Place, pool: Weak<Pool>) -> Self {
        Self { place, pool }
    }
}

impl RecordSource for Source {
    fn read(self: Box<Self>, bytes: usize) -> NextRecords {
        Box::pin(async move {
            let Self { place, pool } = *self;
            let open = pool.upgrade().ok_or_else(|| "the store is closed".to_owned())?;
            let bytes = i64::from(i32::try_from(bytes).unwrap_or(i32::MAX));
            let read = open.read(|session| async move { piece(&session, place, bytes).await }).await;
            let (records, place) = read.map_err(|error| error.0)?;
            let rest: Box<dyn RecordSource> = Box::new(Source { place, pool });
            Ok((records, rest))
        })
    }
}

/// Reads whole batches of at most `bytes` bytes, or a part of one that is larger.
async fn piece(session: &Session, place: Place, bytes: i64) -> Result<(Vec<Bytes>, Place), Failure> {
    let sent = place.begun.map_or(0, |(sent, _)| sent);
    let rows =
        session.query(PIECE, &[&place.log, &place.base, &place.end, &sent, &bytes, &BATCHES_MAX]).await;
    let rows = rows.map_err(|error| Failure::of("reading", &error))?;
    let mut at = place;
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        let read: &[u8] = row.get(3);
        records.push(Bytes::copy_from_slice(read));
        at = at.after(row, read.len() as i64)?;
    }
    if records.iter().all(Bytes::is_empty) {
        return Err(replaced().into());
    }
    Ok((records, at))
}

impl Place {
    /// The place after so many bytes of a row's batch.
    fn after(self, row: &Row, read: i64) -> Result<Self, StoreError> {
        let (next, length, data): (i64, i32, i64) = (row.get(0), row.get(1), row.get(2));
        let before = match self.begun {
            Some((_, begun)) if begun != data => return Err(replaced()),
            begun => begun.map_or(0, |(sent, _)| sent),
        };
        let sent = before + read;
        if sent < i64::from(length) {
            return Ok(Self { begun: Some((sent, data)), ..self });
        }
        Ok(Self { base: next, begun: None, ..self })
    }
}

fn replaced() -> StoreError {
    StoreError("batches of a reply were replaced by compaction or deleted while it was sent".to_owned())
}
