//! The bytes of batches that are kept as they were sent, in parts that fit into a page of the server.

use std::collections::HashMap;
use std::pin::pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::Error;

use super::copy;
use super::session::Session;

/// The length of all parts but the last: a page has 8,192 bytes, and its header, that of a row and the other columns take 72.
pub(super) const PART_BYTES: usize = 8_100;

const INSERT: &str = "INSERT INTO batch_data SELECT * FROM unnest($1::bigint[], $2::int[], $3::bytea[])";
const COPY: &str = "COPY batch_data (id, part, bytes) FROM STDIN (FORMAT BINARY)";
const READ: &str = "SELECT id, bytes FROM batch_data WHERE id = ANY($1::bigint[]) ORDER BY id, part";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 1] = [INSERT];

/// Batches with their numbers, each in two pieces.
pub(super) type Data = Vec<(i64, [Bytes; 2])>;

/// Calls `each` with the parts of a batch: their numbers, and the one or two pieces that they are made of.
fn parts([head, rest]: &[Bytes; 2], mut each: impl FnMut(i32, &[u8], &[u8])) {
    let length = head.len() + rest.len();
    for (number, from) in (0..).zip((0..length).step_by(PART_BYTES)) {
        let until = (from + PART_BYTES).min(length);
        let of_head = &head[from.min(head.len())..until.min(head.len())];
        let of_rest = &rest[from.saturating_sub(head.len())..until.saturating_sub(head.len())];
        each(number, of_head, of_rest);
    }
}

/// Copies batches.
pub(super) async fn copy(session: &Session, data: &Data) -> Result<(), Error> {
    const COLUMNS: i16 = 3;
    let sink = session.copy_in(COPY).await?;
    let mut sink = pin!(sink);
    let mut buffer = BytesMut::new();
    copy::begin(&mut buffer);
    for (id, batch) in data {
        parts(batch, |number, head, rest| {
            buffer.put_i16(COLUMNS);
            copy::put(&mut buffer, Some(&id.to_be_bytes()));
            copy::put(&mut buffer, Some(&number.to_be_bytes()));
            buffer.put_i32((head.len() + rest.len()) as i32);
            buffer.put_slice(head);
            buffer.put_slice(rest);
        });
        if buffer.len() >= copy::CHUNK_BYTES {
            sink.feed(buffer.split().freeze()).await?;
        }
    }
    copy::end(&mut buffer);
    sink.feed(buffer.freeze()).await?;
    sink.finish().await.map(drop)
}

/// Inserts batches.
pub(super) async fn insert(session: &Session, data: &Data) -> Result<(), Error> {
    let (mut ids, mut numbers, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for (id, batch) in data {
        parts(batch, |number, head, rest| {
            ids.push(*id);
            numbers.push(number);
            bytes.push([head, rest].concat());
        });
    }
    session.execute(INSERT, &[&ids, &numbers, &bytes]).await.map(drop)
}

/// Reads batches, by their numbers.
pub(super) async fn read(session: &Session, ids: &[i64]) -> Result<HashMap<i64, Bytes>, Error> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut found = HashMap::<i64, BytesMut>::new();
    let mut rows = pin!(session.stream(READ, &[&ids]).await?);
    while let Some(row) = rows.try_next().await? {
        found.entry(row.get(0)).or_default().extend_from_slice(row.get(1));
    }
    Ok(found.into_iter().map(|(id, bytes)| (id, bytes.freeze())).collect())
}
