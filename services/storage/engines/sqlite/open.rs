//! Opens the file: locks it, checks that it is a Yagura store, and applies the settings.

use std::path::Path;

use kernel::TopicPartition;
use rusqlite::{Connection, OpenFlags};

use super::fold::Fold;
use super::foreign::{is_of_another_program, not_a_store, of_another_program, refuse_foreign};
use super::lock::{LockBeside, StoreLock};
use super::logs::Numbers;
use super::migrate;
use super::owner::{Ownership, check_name};
use super::replay::{Replayed, replay};
use super::reserve;
use super::schema::{APPLICATION_ID, CREATE, FORMAT, FROM_FORMAT_2, PAGES, failed};
use super::state::Unfolded;
use super::texts::CREATE_TEXTS;
use crate::engines::StoreError;

pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) owner: Ownership,
    pub(super) unfolded: Unfolded,
    pub(super) numbers: Numbers,
    pub(super) fold: Fold,
    /// Partitions whose logs could not be read, with the reason.
    pub(super) unreadable: Vec<(TopicPartition, StoreError)>,
    /// Held while the store is open, and dropped after the connection.
    pub(super) lock: StoreLock,
}

pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    refuse_foreign(path)?;
    let beside = LockBeside::take(path)?;
    let made = beside.made.clone();
    let backup = migrate::finish(path)?;
    let mut lock = beside.with_database(path)?;
    // Opening writes some KiB: on a full disk the reserve is there for that.
    let opened = match open_locked(path, made.as_deref(), &mut lock) {
        Err(_) if reserve::let_go_before_opening(path) => open_locked(path, made.as_deref(), &mut lock),
        opened => opened,
    };
    let Connected { connection, owner, numbers, replayed } = opened?;
    if let Some(backup) = backup {
        migrate::remove_backup(&backup);
    }
    let Replayed { unfolded, fold, unreadable, .. } = replayed;
    Ok(Opened { connection, owner, unfolded, numbers, fold, unreadable, lock })
}

/// A store that is connected to.
struct Connected {
    connection: Connection,
    owner: Ownership,
    numbers: Numbers,
    replayed: Replayed,
}

/// Opens a store that is locked; `made` is the lock's file if it was not there before.
fn open_locked(path: &Path, made: Option<&Path>, lock: &mut StoreLock) -> Result<Connected, StoreError> {
    let mut connection = connect(path)?;
    let prepared = prepare(&connection, path);
    if let (Err(_), Some(made)) = (&prepared, made)
        && is_of_another_program(&connection)
    {
        // Whoever waits for this lock is refused as well.
        let _ = std::fs::remove_file(made);
    }
    if prepared? == Prepared::Format1 {
        connection = migrate::migrate(connection, path, lock)?;
    }
    // What SQLite has opened by the path is what is locked.
    check_name(lock)?;
    // Before anything is read: whoever had the store before writes nothing from here on.
    let owner = Ownership::take_over(&connection, path)?;
    let damaged = |error: rusqlite::Error| cannot_open(path, &error);
    let numbers = Numbers::load(&connection).map_err(damaged)?;
    let replayed = replay(&connection)?;
    replayed.set_aside(&connection)?;
    Ok(Connected { connection, owner, numbers, replayed })
}

/// Opens a file, or creates it.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => not_a_store(path),
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => StoreError(format!(
            "the store {} is damaged ({error}); `yagura store verify` tells how much, `yagura store salvage` copies what can be read, a backup brings it back",
            path.display()
        )),
        _ => StoreError(format!("the store {} cannot be opened: {error}", path.display())),
    }
}

/// Chosen by measurement: frequent checkpoints write the fewest extra bytes per batch. The caches are small because a
/// log is read once and a larger cache gained nothing.
const SETTINGS: &str = "
    PRAGMA journal_mode=WAL;
    PRAGMA synchronous=FULL;
    PRAGMA wal_autocheckpoint=128;
    PRAGMA journal_size_limit=67108864;
    PRAGMA cache_size=-1024;
    PRAGMA temp_store=MEMORY;
";

/// A file that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// A store of the current format.
    Ready,
    /// A store of format 1, which is to be migrated.
    Format1,
}

pub(super) fn prepare(connection: &Connection, path: &Path) -> Result<Prepared, StoreError> {
    let cannot = |error: rusqlite::Error| cannot_open(path, &error);
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let (application, format) =
        (pragma("application_id").map_err(cannot)?, pragma("user_version").map_err(cannot)?);
    let is_new = pragma("schema_version").map_err(cannot)? == 0 && application == 0;
    if is_new {
        connection.execute_batch(PAGES).map_err(cannot)?;
    } else if application != APPLICATION_ID {
        return Err(of_another_program(path));
    } else if format > FORMAT {
        return Err(StoreError(format!(
            "the store {} was written by a newer release (format {format}, this one reads up to {FORMAT}); upgrade Yagura, or restore a backup made before the upgrade",
            path.display()
        )));
    } else if format == 1 {
        return Ok(Prepared::Format1);
    }
    connection.execute_batch(SETTINGS).map_err(cannot)?;
    if is_new || format == 2 {
        let change = [if is_new { CREATE } else { FROM_FORMAT_2 }, CREATE_TEXTS].concat();
        let stamp = format!("PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT};");
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {change} {stamp} COMMIT;")).map_err(cannot)?;
    }
    Ok(Prepared::Ready)
}

/// Checks that a file is a store of the current format, for tools that only read.
pub(super) fn check_format(connection: &Connection) -> Result<(), StoreError> {
    let reading = |error: rusqlite::Error| failed("reading", &error);
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let application = pragma("application_id").map_err(reading)?;
    let format = pragma("user_version").map_err(reading)?;
    if application == APPLICATION_ID && format < FORMAT {
        return Err(StoreError(format!(
            "the store has format {format}; start a broker on it once, which migrates it to format {FORMAT}"
        )));
    }
    if application != APPLICATION_ID || format > FORMAT {
        return Err(StoreError(format!(
            "the file is not a store of format {FORMAT}: it has application id {application:#x} and format {format}"
        )));
    }
    Ok(())
}

/// A second connection to an open store, for reading.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    let settings = "PRAGMA query_only=1; PRAGMA cache_size=-512;";
    connection.execute_batch(settings).map_err(|error| failed("opening a reader", &error))?;
    Ok(connection)
}
