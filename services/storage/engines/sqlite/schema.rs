//! The schema of the file, format 3.
//!
//! - `journal` has one row per commit, in the order of commits: the changed documents, what happened to logs, and the
//!   small batches. A commit writes a row and, for large batches, their rows in `batches`: what it writes does not grow
//!   with the number of partitions that it touches. The journal is folded into the other tables from time to time, in
//!   the order of their keys ([`super::fold`]).
//! - `documents` are small JSON values under ordered keys; long ones are in `texts` ([`super::texts`]).
//! - `batches` has one row per record batch under a key that packs partition number and base offset, so that an append
//!   goes to the end of its partition and a read is one range scan; a separate index, or a blob in a WITHOUT ROWID
//!   table, halves the speed.
//! - `logs`, `blocks` and `spans` are the index over batches ([`super::index`]).
//! - `garbage` lists rows to delete, so that trimming a log is one small write however large the log is.

use rusqlite::{Error, ErrorCode, ffi};

use crate::engines::StoreError;

/// "YGRA": distinguishes a Yagura store from any other SQLite file.
pub(super) const APPLICATION_ID: i32 = 0x5947_5241;
/// Incremented when older releases can no longer read the file.
pub(super) const FORMAT: i32 = 3;

/// Makes a file of format 2 one of format 3, whatever its size.
pub(super) const FROM_FORMAT_2: &str = "ALTER TABLE spans ADD COLUMN undated_ms INTEGER NOT NULL DEFAULT -1;";

pub(super) const CREATE: &str = "
    CREATE TABLE documents (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID; -- see texts.rs, too
    CREATE TABLE journal (
        seq INTEGER PRIMARY KEY,
        changes BLOB NOT NULL,          -- documents and logs, see journal.rs
        batches BLOB NOT NULL           -- the small batches, one after the other
    );
    CREATE TABLE batches (
        id INTEGER PRIMARY KEY,         -- partition number << 43 | base offset
        data BLOB NOT NULL              -- one record batch of format 2
    );
    CREATE TABLE logs (
        key TEXT PRIMARY KEY NOT NULL,  -- the key of the partition's document
        number INTEGER NOT NULL,        -- partition number
        seq INTEGER NOT NULL,           -- the last journal row that is in this row
        log_start INTEGER NOT NULL,
        bytes INTEGER NOT NULL,         -- of all batches from log_start on
        tail_start INTEGER NOT NULL,    -- offset after the last block
        tail BLOB NOT NULL              -- entries of the batches that are not in a block yet, see index.rs
    ) WITHOUT ROWID;
    CREATE TABLE blocks (
        id INTEGER PRIMARY KEY,         -- partition number << 43 | first offset
        entries BLOB NOT NULL
    );
    CREATE TABLE spans (
        level INTEGER NOT NULL,         -- 1: a block; 2: up to 16 of level 1; and so on
        id INTEGER NOT NULL,            -- partition number << 43 | first offset
        next_offset INTEGER NOT NULL,
        max_timestamp INTEGER NOT NULL, -- ms since the Unix epoch; -1: no record has one
        bytes INTEGER NOT NULL,
        children INTEGER NOT NULL,
        undated_ms INTEGER NOT NULL DEFAULT -1, -- when the last batch with a record without a timestamp was appended
        PRIMARY KEY (level, id)
    ) WITHOUT ROWID;
    CREATE TABLE garbage (
        number INTEGER NOT NULL,        -- partition number
        before_offset INTEGER NOT NULL, -- batches that end at or before this offset go; 2^63-1: the whole log
        seq INTEGER NOT NULL,           -- the journal row that made it garbage
        since_ms INTEGER,               -- when maintenance first saw it
        PRIMARY KEY (number, before_offset)
    ) WITHOUT ROWID;
    CREATE INDEX garbage_by_time ON garbage (since_ms);
    CREATE TABLE numbers (number INTEGER PRIMARY KEY); -- partition numbers that were given back
    CREATE TABLE counters (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO counters VALUES ('next_number', 0), ('folded_seq', 0);
";

/// Page size and vacuum mode, which can be set only before the first page is written. Chosen by measurement: large batches
/// are written and read as fast as with pages of 64 KiB, a third faster than with 16 KiB, and a lone small batch writes
/// half as much.
pub(super) const PAGES: &str = "PRAGMA page_size=32768; PRAGMA auto_vacuum=INCREMENTAL;";
/// The same size.
pub(super) const PAGE_BYTES: u64 = 32_768;
/// Smaller batches are written to the journal first: they would each rewrite a page of their partition.
pub(super) const SMALL_BATCH_BYTES: usize = 16 << 10;

const OFFSET_BITS: u32 = 43;
/// Offsets have 43 bits of the key: 8.8 trillion records per partition.
pub(super) const OFFSET_MAX: i64 = (1 << OFFSET_BITS) - 1;
/// Limit on the partitions in one store: their numbers have the remaining 20 bits.
pub(super) const PARTITION_NUMBERS_MAX: u32 = 1 << 20;
/// `before_offset` of a log that was deleted.
pub(super) const WHOLE_LOG: i64 = i64::MAX;

/// The row id of a partition's batch with this base offset.
pub(super) fn pack(number: u32, offset: i64) -> i64 {
    i64::from(number) << OFFSET_BITS | offset
}

/// The offset in a row id.
pub(super) fn offset_of(id: i64) -> i64 {
    id & OFFSET_MAX
}

/// The partition number in a row id.
pub(super) fn number_of(id: i64) -> u32 {
    (id >> OFFSET_BITS) as u32
}

/// The range of all row ids of a partition.
pub(super) fn rows_of(number: u32) -> (i64, i64) {
    (pack(number, 0), pack(number, OFFSET_MAX))
}

/// The advice where a damaged file is met, but for `store verify` itself. No other error ends with it.
pub(super) const VERIFY_ADVICE: &str =
    "; the file is damaged: `yagura store verify` names what is, `yagura store salvage` copies all else";

/// Whether something in the file is damaged, or the disk cannot read it. Another part of the file may be sound.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    const UNREADABLE: [i32; 4] = [
        ffi::SQLITE_IOERR_READ,
        ffi::SQLITE_IOERR_SHORT_READ,
        ffi::SQLITE_IOERR_CORRUPTFS,
        ffi::SQLITE_IOERR_DATA,
    ];
    match error {
        Error::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
            ErrorCode::SystemIoFailure => UNREADABLE.contains(&failure.extended_code),
            _ => false,
        },
        // A value is not what it was written as.
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}

/// The same of an operator's message.
pub(super) fn is_about_damage(error: &StoreError) -> bool {
    error.0.ends_with(VERIFY_ADVICE)
}

/// The operator's error message when an SQLite operation fails.
pub(super) fn failed(doing: &str, error: &rusqlite::Error) -> StoreError {
    let code = error.sqlite_error_code();
    let remedy = match code {
        _ if is_damage(error) => VERIFY_ADVICE,
        Some(ErrorCode::DiskFull) => "; make room on the disk, or raise the limit on the file's size",
        Some(ErrorCode::SystemIoFailure) => {
            "; look at the disk's free space and health, and at limits on file sizes"
        }
        Some(ErrorCode::ReadOnly) => "; make the file and its folder writable",
        _ => "",
    };
    StoreError(format!("the store failed {doing}: {error}{remedy}"))
}

/// An error for a value in the file that cannot be read.
pub(super) fn damaged(what: impl Into<String>) -> rusqlite::Error {
    let failure = ffi::Error { code: ErrorCode::DatabaseCorrupt, extended_code: ffi::SQLITE_CORRUPT };
    rusqlite::Error::SqliteFailure(failure, Some(what.into()))
}
