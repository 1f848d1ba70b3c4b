//! Knows whether the store is still this process's.
//!
//! A lock can be lost sight of: on a file system that has none, or by a process that does not ask for it. So each opening
//! writes a token into the file, and each transaction that writes looks whether it is still there. A process that finds
//! another one's token writes nothing any more, and ends.
//!
//! A store can also lose its name: what is written to a file that was removed, replaced or moved away is found by nobody.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension, ffi};
use tracing::warn;

use super::lock::StoreLock;
use super::reserve;
use super::schema::failed;
use crate::engines::StoreError;

/// How often commits look where the path leads.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The token of this process.
#[derive(Debug)]
pub(super) struct Ownership {
    /// `None` in a file that never had one, on a disk that is full.
    token: Option<i64>,
    looked: Instant,
}

impl Ownership {
    /// Makes the store this process's.
    pub(super) fn take_over(connection: &Connection, path: &Path) -> Result<Self, StoreError> {
        let mut written = write_token(connection);
        if written.is_err() {
            roll_back(connection)?;
            // On a full disk the reserve is there for this.
            if reserve::let_go_before_opening(path) {
                written = write_token(connection);
            }
        }
        let token = match written {
            Ok(token) => Some(token),
            Err(error) => {
                roll_back(connection)?;
                let code = error.sqlite_error_code();
                if !matches!(code, Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)) {
                    return Err(failed("taking it over", &error));
                }
                // Where there is no room to write, there is nothing to lose, and deleting makes room.
                warn!(
                    "{}; the store {} is opened all the same",
                    failed("taking it over", &error),
                    path.display()
                );
                read_token(connection).map_err(|error| failed("reading who has it", &error))?
            }
        };
        Ok(Self { token, looked: Instant::now() })
    }

    /// Whether the store has this process's token, within a transaction.
    pub(super) fn has_token(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(read_token(connection)? == self.token)
    }

    /// Looks where the store's path leads, but not again within a second.
    ///
    /// # Errors
    /// It leads to no file, or to another one.
    pub(super) fn look(&mut self, lock: &StoreLock) -> Result<(), StoreError> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        check_name(lock)
    }
}

/// Looks where the store's path leads.
///
/// # Errors
/// It leads to no file, or to another one.
pub(super) fn check_name(lock: &StoreLock) -> Result<(), StoreError> {
    if lock.has_its_name() { Ok(()) } else { Err(name_lost(lock.path())) }
}

fn roll_back(connection: &Connection) -> Result<(), StoreError> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.execute_batch("ROLLBACK").map_err(|error| failed("rolling back", &error))
}

fn write_token(connection: &Connection) -> rusqlite::Result<i64> {
    // SQLite seeds its random numbers from the system's.
    let write = "BEGIN IMMEDIATE; INSERT OR REPLACE INTO counters VALUES ('owner', random())";
    connection.execute_batch(write)?;
    let token = connection.query_row(READ_TOKEN, [], |row| row.get(0))?;
    connection.execute_batch("COMMIT")?;
    Ok(token)
}

const READ_TOKEN: &str = "SELECT value FROM counters WHERE name = 'owner'";

fn read_token(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached(READ_TOKEN)?.query_row([], |row| row.get(0)).optional()
}

/// The error in a transaction that has found another process's token.
pub(super) fn fenced() -> rusqlite::Error {
    let failure = ffi::Error { code: ErrorCode::OperationAborted, extended_code: ffi::SQLITE_ABORT };
    rusqlite::Error::SqliteFailure(failure, Some("another process has taken over the store".to_owned()))
}

/// The error for a store that another process has opened.
pub(super) fn taken_over(path: &Path) -> StoreError {
    StoreError(format!(
        "another process has taken over the store {}, and nothing is written to it by this one any more; stop one of \
         them, or give each a file of its own",
        path.display()
    ))
}

/// The error for a store whose path leads elsewhere.
fn name_lost(path: &Path) -> StoreError {
    StoreError(format!(
        "the store {} or its -wal was removed, replaced or moved while it was in use, and what is written to it would be found by \
         nobody; put the file back, with its -wal, and start again",
        path.display()
    ))
}
