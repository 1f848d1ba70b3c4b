//! The schema of the file.
//!
//! Two tables hold all data. `batches` has one row per record batch under a key that packs partition number
//! and base offset, so that an append goes to the end of its partition and a read is one range scan; a
//! separate index, or a blob in a WITHOUT ROWID table, halves the speed. `documents` are small JSON values.
//! `garbage` lists rows to delete, so that trimming a log is one small write however large the log is.

use crate::engines::StoreError;

/// "YGRA": distinguishes a Yagura store from any other SQLite file.
pub(super) const APPLICATION_ID: i32 = 0x5947_5241;
/// Incremented when older releases can no longer read the file.
pub(super) const FORMAT: i32 = 1;

pub(super) const CREATE: &str = "
    CREATE TABLE documents (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE batches (
        id INTEGER PRIMARY KEY,         -- partition number << 43 | base offset
        next_offset INTEGER NOT NULL,   -- offset after the last record
        max_timestamp INTEGER NOT NULL, -- ms since the Unix epoch
        bytes INTEGER NOT NULL,         -- length of data
        data BLOB NOT NULL              -- one record batch of format 2
    );
    CREATE TABLE garbage (
        number INTEGER NOT NULL,        -- partition number
        before_offset INTEGER NOT NULL, -- batches that end at or before this offset go
        PRIMARY KEY (number, before_offset)
    ) WITHOUT ROWID;
";

const OFFSET_BITS: u32 = 43;
/// Offsets have 43 bits of the key: 8.8 trillion records per partition.
pub(super) const OFFSET_MAX: i64 = (1 << OFFSET_BITS) - 1;
/// Limit on the partitions ever created in one store: their numbers have the remaining 20 bits.
pub(super) const PARTITION_NUMBERS_MAX: u32 = 1 << 20;

/// The row id of a partition's batch with this base offset.
pub(super) fn pack(number: u32, offset: i64) -> i64 {
    i64::from(number) << OFFSET_BITS | offset
}

/// Partition number and base offset of a row id.
pub(super) fn unpack(id: i64) -> (u32, i64) {
    ((id >> OFFSET_BITS) as u32, id & OFFSET_MAX)
}

/// The range of all row ids of a partition.
pub(super) fn rows_of(number: u32) -> (i64, i64) {
    (pack(number, 0), pack(number, OFFSET_MAX))
}

/// The operator's error message when an SQLite operation fails.
pub(super) fn failed(doing: &str, error: &rusqlite::Error) -> StoreError {
    let code = error.sqlite_error_code();
    let remedy = match code {
        Some(rusqlite::ErrorCode::DiskFull) => {
            "; make room on the disk, or raise the limit on the file's size"
        }
        Some(rusqlite::ErrorCode::SystemIoFailure) => {
            "; look at the disk's free space and health, and at limits on file sizes"
        }
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
            "; the file is damaged: stop the broker and run `yagura store verify` on it"
        }
        Some(rusqlite::ErrorCode::ReadOnly) => "; make the file and its folder writable",
        _ => "",
    };
    StoreError(format!("the store failed {doing}: {error}{remedy}"))
}
