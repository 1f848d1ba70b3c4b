//! Records as rows: a batch is divided when it is appended, and made again when it is read.

use std::collections::HashMap;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use kernel::records::StoredHeader;
use kernel::records::rows::{Joined, RowRecord, RowRef, Rows, divide};
use tokio_postgres::{Error, Row};

use super::copy;
use super::errors::Failure;
use super::session::Session;
use crate::engines::StoreError;

/// What is more when it is decompressed is kept as it was sent: a writer has all of it in memory.
const DIVIDED_BYTES_MAX: usize = 8 << 20;
/// The same for more records: each takes some memory beside its bytes.
const DIVIDED_RECORDS_MAX: u32 = 65_536;
/// The attribute bit of markers, which are no records.
const CONTROL: i16 = 0x20;
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
    let count = batch.get(57..61).and_then(|count| count.try_into().ok()).map_or(0, u32::from_be_bytes);
    if header.attributes & CONTROL != 0 || batch.len() > DIVIDED_BYTES_MAX || count > DIVIDED_RECORDS_MAX {
        return None;
    }
    divide(batch, header, DIVIDED_BYTES_MAX).ok()
}

/// Batches that are written as rows, with their logs.
pub(super) type Divided = Vec<(i64, Rows)>;

/// Copies the rows of batches.
pub(super) async fn copy_all(session: &Session, divided: &Divided) -> Result<(), Error> {
    let sink = session.copy_in(COPY).await?;
    let mut sink = std::pin::pin!(sink);
    let mut buffer = BytesMut::with_capacity(copy::CHUNK_BYTES + LARGE_VALUE_BYTES);
    copy::begin(&mut buffer);
    for (log, rows) in divided {
        for record in &rows.records {
            if let Some(large) = put_row(&mut buffer, *log, rows.append_time, record) {
                sink.feed(buffer.split().freeze()).await?;
                sink.feed(large.clone()).await?;
            }
            copy::put(&mut buffer, record.headers.as_deref());
            if buffer.len() >= copy::CHUNK_BYTES {
                sink.feed(buffer.split().freeze()).await?;
            }
        }
    }
    copy::end(&mut buffer);
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
        copy::put(buffer, Some(&number.to_be_bytes()));
    }
    copy::put(buffer, append_time.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    copy::put(buffer, record.key.as_deref());
    match &record.value {
        Some(value) if value.len() >= LARGE_VALUE_BYTES => {
            buffer.put_i32(value.len() as i32);
            Some(value)
        }
        value => {
            copy::put(buffer, value.as_deref());
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
    let reading = |error: Error| Failure::of("reading", &error);
    let rows = session.stream(READ, &[&logs, &bases, &column(|batch| batch.next)]).await;
    let mut rows = pin!(rows.map_err(reading)?);
    let (mut joined, mut next) =
        (HashMap::with_capacity(batches.len()), rows.try_next().await.map_err(reading)?);
    for (number, batch) in (1_i64..).zip(batches) {
        let mut joining = Joined::new(&batch.header, batch.bytes);
        while let Some(row) = next.take_if(|row| row.get::<_, i64>(0) == number) {
            if let Ok(joining) = &mut joining {
                push(joining, &row);
            }
            next = rows.try_next().await.map_err(reading)?;
        }
        let bytes = joining.and_then(Joined::finish).map_err(|why| changed(batch, &why));
        joined.insert((batch.log, batch.base), bytes);
    }
    Ok(joined)
}

fn push(joined: &mut Joined, row: &Row) {
    let (offset, timestamp) = (row.get(1), row.get(2));
    joined.push(&RowRef { offset, timestamp, key: row.get(3), value: row.get(4), headers: row.get(5) });
}

fn changed(batch: &DividedBatch, why: &str) -> StoreError {
    StoreError(format!(
        "the batch at offset {} of log {} cannot be made of its rows: {why}; something other than Yagura has changed them",
        batch.base, batch.log
    ))
}
