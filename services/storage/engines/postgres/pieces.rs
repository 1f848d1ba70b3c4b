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
use super::rows::{self, DividedBatch};
use super::session::Session;
use crate::engines::StoreError;

/// Batches of a piece.
const BATCHES_MAX: i32 = 8_192;

/// Whole batches of so many bytes, or a part of the first; of those that are kept as rows, the headers.
const PIECE: &str = "SELECT b.base_offset, b.next_offset, b.bytes, b.data, b.header, CASE WHEN b.n = 1
    THEN substr(d.bytes, ($4::bigint)::int + 1, ($5::bigint)::int) ELSE d.bytes END
    FROM (SELECT *, row_number() OVER w AS n, sum(bytes) OVER w - $4::bigint AS upto
    FROM locate($1, $2, $3, $4::bigint + $5::bigint, $6) WINDOW w AS (ORDER BY base_offset)) b
    LEFT JOIN batch_data d ON d.id = b.data
    WHERE b.base_offset >= $2 AND (b.n = 1 OR b.upto <= $5::bigint) ORDER BY b.base_offset";

/// Where a reply has got to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    log: i64,
    /// The next batch.
    base: i64,
    /// The offset after the last batch.
    end: i64,
    begun: Begun,
}

/// The next batch, if a part of it was sent.
#[derive(Debug, Clone)]
enum Begun {
    No,
    /// How much, and where its bytes are.
    Data(i64, i64),
    /// One that was made of rows: what is left of it, and the offset after it.
    Joined(Bytes, i64),
}

impl Place {
    /// The batches of a log in a range of offsets.
    pub(super) fn new(log: i64, base: i64, end: i64) -> Self {
        Self { log, base, end, begun: Begun::No }
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
            let Self { mut place, pool } = *self;
            if let Some(records) = place.take_joined(bytes) {
                let rest: Box<dyn RecordSource> = Box::new(Source { place, pool });
                return Ok((vec![records], rest));
            }
            let open = pool.upgrade().ok_or_else(|| "the store is closed".to_owned())?;
            let read = open.snapshot(|session| {
                let place = place.clone();
                async move { piece(&session, place, bytes).await }
            });
            let (records, place) = read.await.map_err(|error| error.0)?;
            let rest: Box<dyn RecordSource> = Box::new(Source { place, pool });
            Ok((records, rest))
        })
    }
}

/// Reads whole batches of at most `bytes` bytes, or a part of one that is larger.
async fn piece(session: &Session, place: Place, bytes: usize) -> Result<(Vec<Bytes>, Place), Failure> {
    let sent = if let Begun::Data(sent, _) = place.begun { sent } else { 0 };
    let most = i64::from(i32::try_from(bytes).unwrap_or(i32::MAX));
    let rows = session.query(PIECE, &[&place.log, &place.base, &place.end, &sent, &most, &BATCHES_MAX]).await;
    let rows = rows.map_err(|error| Failure::of("reading", &error))?;
    let divided: Vec<DividedBatch> = rows.iter().filter_map(|row| divided(place.log, row)).collect();
    let mut joined = rows::read(session, &divided).await?;
    let mut at = place;
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        let (base, next): (i64, i64) = (row.get(0), row.get(1));
        match joined.remove(&(at.log, base)) {
            Some(batch) => {
                at = at.after_joined(batch?, next)?;
                records.extend(at.take_joined(bytes));
            }
            None => {
                let read: Option<&[u8]> = row.get(5);
                records.push(Bytes::copy_from_slice(read.ok_or_else(replaced)?));
                at = at.after(row, read.map_or(0, |read| read.len() as i64))?;
            }
        }
    }
    if records.iter().all(Bytes::is_empty) {
        return Err(replaced().into());
    }
    Ok((records, at))
}

/// The batch of a row that is made of rows.
fn divided(log: i64, row: &Row) -> Option<DividedBatch> {
    let (bytes, header): (i32, Option<&[u8]>) = (row.get(2), row.get(4));
    let header = Bytes::copy_from_slice(header?);
    Some(DividedBatch { log, base: row.get(0), next: row.get(1), bytes: bytes as usize, header })
}

impl Place {
    /// The place after so many bytes of a row's batch.
    fn after(self, row: &Row, read: i64) -> Result<Self, StoreError> {
        let (next, length, data): (i64, i32, i64) = (row.get(1), row.get(2), row.get(3));
        let before = match self.begun {
            Begun::No => 0,
            Begun::Data(sent, begun) if begun == data => sent,
            Begun::Data(..) | Begun::Joined(..) => return Err(replaced()),
        };
        let sent = before + read;
        if sent < i64::from(length) {
            return Ok(Self { begun: Begun::Data(sent, data), ..self });
        }
        Ok(Self { base: next, begun: Begun::No, ..self })
    }

    /// The place at the beginning of a batch that was made of rows.
    fn after_joined(self, batch: Bytes, next: i64) -> Result<Self, StoreError> {
        match self.begun {
            Begun::No => Ok(Self { begun: Begun::Joined(batch, next), ..self }),
            Begun::Data(..) | Begun::Joined(..) => Err(replaced()),
        }
    }

    /// Takes bytes of a batch that was made of rows, if one is begun.
    fn take_joined(&mut self, bytes: usize) -> Option<Bytes> {
        let Begun::Joined(left, next) = &mut self.begun else { return None };
        let (taken, next) = (left.split_to(bytes.min(left.len())), *next);
        if left.is_empty() {
            (self.base, self.begun) = (next, Begun::No);
        }
        Some(taken)
    }
}

fn replaced() -> StoreError {
    StoreError("batches of a reply were replaced by compaction or deleted while it was sent".to_owned())
}
