//! Postgres' binary format of `COPY`.

use bytes::{BufMut, BytesMut};

/// Bytes that are sent at a time.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Puts what precedes all rows: the signature, no flags, no extension.
pub(super) fn begin(buffer: &mut BytesMut) {
    buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
    buffer.put_i32(0);
    buffer.put_i32(0);
}

/// Puts a column, after its length.
pub(super) fn put(buffer: &mut BytesMut, column: Option<&[u8]>) {
    match column {
        Some(column) => {
            buffer.put_i32(column.len() as i32);
            buffer.put_slice(column);
        }
        None => buffer.put_i32(-1),
    }
}

/// Puts what follows all rows.
pub(super) fn end(buffer: &mut BytesMut) {
    buffer.put_i16(-1);
}
