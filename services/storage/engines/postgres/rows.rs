//! Records as rows: a batch is divided when it is appended, and made again when it is read.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use kernel::records::StoredHeader;
use kernel::records::rows::{Joined, RowRecord, RowRef, Rows, divide};
use tokio_postgres::{Error, Row};

use super::errors::Failure;
use super::session::Session;
use crate::engines::StoreError;

/// What is more when it is decompressed is kept as it was sent: a writer has all of it in memory.
const DIVIDED_BYTES_MAX: usize = 8 << 20;
/// The attribute bit of markers, which are no records.
const CONTROL: i16 = 0x20;
/// Bytes that are sent at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// A value of so many bytes goes to the socket without being copied before.
const LARGE_VALUE_BYTES: usize = 8 << 10;

const COPY: &str = "COPY record_rows (log, record_offset, timestamp_ms, appended_ms, key, value, headers)
    FROM STDIN (FORMAT BINARY)";
const INSERT: &str =
    "INSERT INTO record_rows SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[],
    $5::bytea[], $6::bytea[], $7::bytea[])";
const READ: &str = "SELECT s.n, r.record_offset, r.timestamp_ms, r.key, r.value, r.headers
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS s(log, first, upto, n)
    JOIN record_rows r ON r.log = s.log AND r.record_offset >= s.first AND r.record_offset < s.upto
    ORDER BY s.n, r.record_offset";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 1] = [INSERT];

/// Divides a batch into rows; `None` if it is kept as it was sent.
pub(super) fn rows_of(batch: &Bytes, header: &StoredHeader) -> Option<Rows> {
    if header.attributes & CONTROL != 0 {
        return None;
    }
    divide(batch, header, DIVIDED_BYTES_MAX).ok()
}

/// Batches that are written as rows, with their logs.
pub(super) type Divided = Vec<(i64, Rows)>;

/// Copies the rows of batches.
pub(super) async fn copy(session: &Session, divided: &Divided) -> Result<(), Error> {
    let sink = session.copy_in(COPY).await?;
    let mut sink = std::pin::pin!(sink);
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES + LARGE_VALUE_BYTES);
    super::copy::begin(&mut buffer);
    for (log, rows) in divided {
        for record in &rows.records {
            if let Some(large) = put_row(&mut buffer, *log, rows.append_time, record) {
                sink.feed(buffer.split().freeze()).await?;
                sink.feed(large.clone()).await?;
            }
            super::copy::put(&mut buffer, record.headers.as_deref());
            if buffer.len() >= CHUNK_BYTES {
                sink.feed(buffer.split().freeze()).await?;
            }
        }
    }
    super::copy::end(&mut buffer);
    sink.feed(buffer.freeze()).await?;
    sink.finish().await.map(drop)
}

/// Puts a row, but for its headers. A large value is not put but returned.
fn put_row<'a>(
    buffer: &mut BytesMut,
    log: i64,
    append_time: Option<i64>,
    record: &'a RowRecord,
) -> Option<&'a Bytes> {
    const COLUMNS: i16 = 7;
    buffer.put_i16(COLUMNS);
    for number in [log, record.offset, record.timestamp] {
        super::copy::put(buffer, Some(&number.to_be_bytes()));
    }
    super::copy::put(buffer, append_time.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    super::copy::put(buffer, record.key.as_deref());
    match &record.value {
        Some(value) if value.len() >= LARGE_VALUE_BYTES => {
            buffer.put_i32(value.len() as i32);
            Some(value)
        }
        value => {
            super::copy::put(buffer, value.as_deref());
            None
        }
    }
}

/// Inserts the rows of batches, if there are any.
pub(super) async fn insert(session: &Session, divided: &Divided) -> Result<(), Error> {
    if divided.is_empty() {
        return Ok(());
    }
    let all =
        || divided.iter().flat_map(|(log, rows)| rows.records.iter().map(move |record| (*log, rows, record)));
    let logs: Vec<i64> = all().map(|(log, ..)| log).collect();
    let offsets: Vec<i64> = all().map(|(.., record)| record.offset).collect();
    let times: Vec<i64> = all().map(|(.., record)| record.timestamp).collect();
    let appended: Vec<Option<i64>> = all().map(|(_, rows, _)| rows.append_time).collect();
    let keys: Vec<Option<&[u8]>> = all().map(|(.., record)| record.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = all().map(|(.., record)| record.value.as_deref()).collect();
    let headers: Vec<Option<&[u8]>> = all().map(|(.., record)| record.headers.as_deref()).collect();
    session.execute(INSERT, &[&logs, &offsets, &times, &appended, &keys, &values, &headers]).await.map(drop)
}

/// A batch that is made again of its rows.
#[derive(Debug, Clone)]
pub(super) struct DividedBatch {
    pub(super) log: i64,
    pub(super) base: i64,
    pub(super) next: i64,
    pub(super) bytes: usize,
    pub(super) header: Bytes,
}

/// Reads batches that are kept as rows, by their log and first offset. One whose rows are not those that it was divided into is an
/// error by itself.
pub(super) async fn read(
    session: &Session,
    batches: &[DividedBatch],
) -> Result<HashMap<(i64, i64), Result<Bytes, StoreError>>, Failure> {
    if batches.is_empty() {
        return Ok(HashMap::new());
    }
    let column = |value: fn(&DividedBatch) -> i64| batches.iter().map(value).collect::<Vec<i64>>();
    let (logs, bases) = (column(|batch| batch.log), column(|batch| batch.base));
    let rows = session.query(READ, &[&logs, &bases, &column(|batch| batch.next)]).await;
    let rows = rows.map_err(|error| Failure::of("reading", &error))?;
    let mut rows = rows.iter().peekable();
    let mut joined = HashMap::with_capacity(batches.len());
    for (number, batch) in (1_i64..).zip(batches) {
        let own = std::iter::from_fn(|| rows.next_if(|row| row.get::<_, i64>(0) == number));
        joined.insert((batch.log, batch.base), join(batch, own));
    }
    Ok(joined)
}

fn join<'a>(batch: &DividedBatch, rows: impl Iterator<Item = &'a Row>) -> Result<Bytes, StoreError> {
    let changed = |why| {
        StoreError(format!(
            "the batch at offset {} of log {} cannot be made of its rows: {why}; something other than Yagura has changed them",
            batch.base, batch.log
        ))
    };
    let mut joined = Joined::new(&batch.header, batch.bytes).map_err(changed)?;
    for row in rows {
        let (offset, timestamp) = (row.get(1), row.get(2));
        joined.push(&RowRef { offset, timestamp, key: row.get(3), value: row.get(4), headers: row.get(5) });
    }
    joined.finish().map_err(changed)
}
