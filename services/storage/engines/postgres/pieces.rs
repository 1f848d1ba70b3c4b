//! Records that are read while the reply that has them is sent, piece by piece.
//!
//! A piece is one short read: no snapshot and nothing else is held between two of them. The bytes of batches outlive their
//! log's start offset by `delete_delay`.
//!
//! Compaction may replace batches meanwhile. A reply goes on with new ones, each of them whole; and as it has announced how
//! many bytes follow, it ends with an error, and its connection with it, if these are fewer. It never has the beginning of
//! one batch and the end of another.

use std::pin::pin;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use kernel::records_later::{NextRecords, RecordSource};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio_postgres::{Error, Row};

use super::errors::Failure;
use super::metrics::Purpose;
use super::parts::PART_BYTES;
use super::pool::Pool;
use super::rows::{self, DividedBatch};
use super::session::{Params, Session};
use crate::engines::StoreError;

/// Batches of a piece.
const BATCHES_MAX: i32 = 8_192;

/// Whole batches of so many bytes, or some parts of the first; of those that are kept as rows, the headers.
const PIECE: &str = "SELECT b.base_offset, b.next_offset, b.bytes, b.data, b.header, d.part, d.bytes
    FROM (SELECT *, row_number() OVER w AS n, sum(bytes) OVER w - $4::bigint AS upto
    FROM locate($1, $2, $3, $4::bigint + $5::bigint, $6) WINDOW w AS (ORDER BY base_offset)) b
    LEFT JOIN batch_data d ON d.id = b.data
    AND (b.n > 1 OR (d.part >= $7 AND (d.part < $8 OR b.upto <= $5::bigint)))
    WHERE b.base_offset >= $2 AND (b.n = 1 OR b.upto <= $5::bigint) ORDER BY b.base_offset, d.part";

/// Where a reply has got to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    log: i64,
    /// The next batch.
    base: i64,
    /// The offset after the last batch.
    end: i64,
    /// Of a batch of which some parts were read: the number of its bytes, and the next part.
    begun: Option<(i64, i32)>,
    /// Of a batch that is made of rows: how many of its bytes were read.
    sent_of_rows: usize,
    /// What was read and is not sent yet.
    left: Bytes,
}

impl Place {
    /// The batches of a log in a range of offsets.
    pub(super) fn new(log: i64, base: i64, end: i64) -> Self {
        Self { log, base, end, begun: None, sent_of_rows: 0, left: Bytes::new() }
    }
}

/// The records of one partition in a reply.
pub(super) struct Source {
    next: Next,
    pool: Weak<Pool>,
}

/// What comes next of a reply.
enum Next {
    At(Place),
    /// It is being read while what precedes it is sent: else the server would wait for the client, and the client for the server.
    Coming(JoinHandle<Result<Ahead, StoreError>>),
}

/// A piece that was read ahead.
struct Ahead {
    place: Place,
    _permit: OwnedSemaphorePermit,
}

impl Source {
    pub(super) fn new(place: Place, pool: Weak<Pool>) -> Self {
        Self { next: Next::At(place), pool }
    }
}

impl RecordSource for Source {
    fn read(self: Box<Self>, bytes: usize) -> NextRecords {
        Box::pin(async move {
            let Self { next, pool } = *self;
            let open = pool.upgrade().ok_or_else(|| "the store is closed".to_owned())?;
            let found = match next {
                Next::At(place) if !place.left.is_empty() => Ok(place),
                Next::At(place) => read(&open, place, bytes).await,
                Next::Coming(ahead) => match ahead.await {
                    Ok(ahead) => ahead.map(|ahead| ahead.place),
                    Err(error) => Err(StoreError(format!("reading ahead was cut off: {error}"))),
                },
            };
            let mut place = found.map_err(|error| error.0)?;
            let records = place.left.split_to(bytes.min(place.left.len()));
            let rest: Box<dyn RecordSource> = Box::new(Source { next: after(open, place, bytes), pool });
            Ok((vec![records], rest))
        })
    }
}

/// What comes next, which is read ahead if it may be.
fn after(pool: Arc<Pool>, place: Place, bytes: usize) -> Next {
    if !place.left.is_empty() || place.base >= place.end {
        return Next::At(place);
    }
    match pool.may_read_ahead() {
        Some(permit) => Next::Coming(tokio::spawn(async move {
            let place = read(&pool, place, bytes).await?;
            Ok(Ahead { place, _permit: permit })
        })),
        None => Next::At(place),
    }
}

async fn read(pool: &Pool, place: Place, bytes: usize) -> Result<Place, StoreError> {
    let read = |session: Arc<Session>| {
        let place = place.clone();
        async move { piece(&session, place, bytes).await }
    };
    pool.snapshot(Purpose::Pieces, read).await
}

/// Reads whole batches of at most `bytes` bytes, or some of one that is larger: a part at least.
async fn piece(session: &Session, mut place: Place, bytes: usize) -> Result<Place, Failure> {
    let (read, divided) = place.parts(session, bytes).await?;
    // The connection answers one statement after the other: the one before has ended.
    place.left = if divided.is_empty() { read } else { place.join(session, &divided, bytes).await? };
    if place.left.is_empty() { Err(replaced().into()) } else { Ok(place) }
}

/// The batch of a row, if it is made of rows.
fn batch_of_rows(log: i64, row: &Row) -> Option<DividedBatch> {
    let (bytes, header): (i32, Option<&[u8]>) = (row.get(2), row.get(4));
    let header = Bytes::copy_from_slice(header?);
    Some(DividedBatch { log, base: row.get(0), next: row.get(1), bytes: bytes as usize, header })
}

impl Place {
    /// Reads the parts of batches that come next, or which batches come next that are made of rows.
    async fn parts(
        &mut self,
        session: &Session,
        bytes: usize,
    ) -> Result<(Bytes, Vec<DividedBatch>), Failure> {
        let reading = |error: Error| Failure::of("reading", &error);
        let first = self.begun.map_or(0, |(_, part)| part);
        let last = first + i32::try_from(bytes.div_ceil(PART_BYTES)).unwrap_or(i32::MAX / 2);
        let sent = i64::from(first) * PART_BYTES as i64;
        let most = i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        let range: Params<'_> =
            &[&self.log, &self.base, &self.end, &sent, &most, &BATCHES_MAX, &first, &last];
        let mut rows = pin!(session.stream(PIECE, range).await.map_err(reading)?);
        let (mut read, mut divided) = (BytesMut::new(), Vec::new());
        while let Some(row) = rows.try_next().await.map_err(reading)? {
            match batch_of_rows(self.log, &row) {
                Some(batch) if read.is_empty() => divided.push(batch),
                None if divided.is_empty() => self.add(&row, &mut read, bytes + PART_BYTES)?,
                // What is kept in the other way is for the next piece.
                Some(_) | None => break,
            }
        }
        Ok((read.freeze(), divided))
    }

    /// Adds the part of a row, which follows those before. The first makes so much room.
    fn add(&mut self, row: &Row, read: &mut BytesMut, room: usize) -> Result<(), StoreError> {
        let (base, next, length): (i64, i64, i32) = (row.get(0), row.get(1), row.get(2));
        let (data, part, bytes): (i64, Option<i32>, Option<&[u8]>) = (row.get(3), row.get(5), row.get(6));
        let (Some(part), Some(bytes)) = (part, bytes) else { return Err(replaced()) };
        let (expected, next_part) = self.begun.unwrap_or((data, 0));
        if base != self.base || data != expected || part != next_part || self.sent_of_rows > 0 {
            return Err(replaced());
        }
        read.reserve(if read.is_empty() { room } else { 0 });
        read.extend_from_slice(bytes);
        let is_whole = part as usize * PART_BYTES + bytes.len() >= length as usize;
        (self.base, self.begun) = if is_whole { (next, None) } else { (base, Some((data, part + 1))) };
        Ok(())
    }

    /// Batches that are made of rows, or a part of the first. That is made anew for each of its parts: a reply that waits for
    /// its client must not hold all of it.
    async fn join(
        &mut self,
        session: &Session,
        divided: &[DividedBatch],
        bytes: usize,
    ) -> Result<Bytes, Failure> {
        let (mut joined, mut read) = (rows::read(session, divided).await?, BytesMut::new());
        for batch in divided {
            if self.begun.is_some() || batch.base != self.base {
                return Err(replaced().into());
            }
            let whole = joined.remove(&(batch.log, batch.base)).ok_or_else(replaced)??;
            let until = whole.len().min(self.sent_of_rows.saturating_add(bytes));
            read.extend_from_slice(whole.get(self.sent_of_rows..until).ok_or_else(replaced)?);
            if until < whole.len() {
                self.sent_of_rows = until;
                break;
            }
            (self.base, self.sent_of_rows) = (batch.next, 0);
        }
        Ok(read.freeze())
    }
}

fn replaced() -> StoreError {
    StoreError("batches of a reply were replaced by compaction or deleted while it was sent".to_owned())
}
