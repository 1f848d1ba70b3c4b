//! What Postgres and the connection to it report, as sentences with the remedy.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::engines::StoreError;

/// A sentence on an operation that has failed.
pub(super) fn failed(doing: &str, error: &Error) -> StoreError {
    StoreError(format!("{doing} the Postgres store failed: {}", reason(error)))
}

/// The cause of an error, and what to do about it.
pub(super) fn reason(error: &Error) -> String {
    let Some(db) = error.as_db_error() else { return cause(error) };
    let said = db.message();
    match remedy(db) {
        Some(remedy) => format!("{said}; {remedy}"),
        None => format!("{said} (SQLSTATE {})", db.code().code()),
    }
}

/// The innermost error of one that did not come from the server, which tells the most.
fn cause(error: &Error) -> String {
    let mut innermost = error.source();
    while let Some(source) = innermost.and_then(std::error::Error::source) {
        innermost = Some(source);
    }
    innermost.map_or_else(|| error.to_string(), ToString::to_string)
}

/// A pooler lends the same session to many connections, for a statement or a transaction each.
pub(super) const NO_SESSIONS: &str = "a pooler between Yagura and Postgres gives connections no sessions of their own; set pool_mode = session in PgBouncer, or name the server itself in the store's URL";

fn remedy(error: &DbError) -> Option<&'static str> {
    let code = error.code();
    let remedies: [(&[&SqlState], &str); 10] = [
        (
            &[&SqlState::INVALID_PASSWORD, &SqlState::INVALID_AUTHORIZATION_SPECIFICATION],
            "check user and password of the store's URL, and the server's pg_hba.conf",
        ),
        (&[&SqlState::INVALID_CATALOG_NAME], "create the database, or correct its name in the store's URL"),
        (
            &[&SqlState::INSUFFICIENT_PRIVILEGE],
            "grant the role CREATE on the database, or have its owner create the schema for it",
        ),
        (&[&SqlState::DISK_FULL], "make room on the server's disk; it goes on by itself then"),
        (
            &[&SqlState::TOO_MANY_CONNECTIONS],
            "raise max_connections of the server, or lower `connections` in the store's URL",
        ),
        (
            &[&SqlState::READ_ONLY_SQL_TRANSACTION],
            "the server is a standby or read-only; name the primary in the store's URL, or several hosts",
        ),
        (&[&SqlState::CANNOT_CONNECT_NOW, &SqlState::ADMIN_SHUTDOWN], "it is tried again"),
        (&[&SqlState::INVALID_SQL_STATEMENT_NAME, &SqlState::DUPLICATE_PSTATEMENT], NO_SESSIONS),
        (&[&SqlState::OUT_OF_MEMORY], "the server needs more memory"),
        (
            &[&SqlState::UNDEFINED_TABLE, &SqlState::UNDEFINED_COLUMN],
            "something other than Yagura has changed the store's tables",
        ),
    ];
    remedies.iter().find(|(codes, _)| codes.contains(&code)).map(|(_, remedy)| *remedy)
}

/// Whether the connection is of no more use.
pub(super) fn is_lost(error: &Error) -> bool {
    match error.as_db_error() {
        None => true,
        Some(db) => matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
    }
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Somebody else was in the way: tried again, it may well succeed.
    Conflict(StoreError),
    /// There is no connection, and none could be made in time.
    Unreachable(StoreError),
    /// The connection is of no more use, and nothing was committed.
    Lost(StoreError),
    /// The same, but something may have been committed.
    Unknown(StoreError),
    /// The server has no room on its disk.
    DiskFull(StoreError),
    /// Anything else.
    Failed(StoreError),
}

impl Failure {
    pub(super) fn of(doing: &str, error: &Error) -> Self {
        let failure = failed(doing, error);
        let conflicts = [&SqlState::T_R_DEADLOCK_DETECTED, &SqlState::T_R_SERIALIZATION_FAILURE];
        match error.code() {
            _ if is_lost(error) => Failure::Lost(failure),
            Some(code) if conflicts.contains(&code) => Failure::Conflict(failure),
            Some(&SqlState::DISK_FULL) => Failure::DiskFull(failure),
            _ => Failure::Failed(failure),
        }
    }

    pub(super) fn error(self) -> StoreError {
        match self {
            Failure::Conflict(error)
            | Failure::Unreachable(error)
            | Failure::Lost(error)
            | Failure::Unknown(error)
            | Failure::DiskFull(error)
            | Failure::Failed(error) => error,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Failed(error)
    }
}
