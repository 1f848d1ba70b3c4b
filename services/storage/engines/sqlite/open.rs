//! Opens the file: locks it, checks that it is a Yagura store, and applies the settings.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rules::documents::{DocumentKind, Key, ProducerDocument, ReadError, read};
use rusqlite::{Connection, OpenFlags};

use super::logs::Logs;
use super::schema::{APPLICATION_ID, CREATE, FORMAT, failed};
use crate::engines::StoreError;
use crate::engines::resident::Table;

pub(super) struct Opened {
    pub(super) connection: Connection,
    /// Held while the store is open.
    pub(super) lock: File,
    pub(super) table: Table,
    pub(super) logs: Logs,
}

pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let lock = lock(path)?;
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    prepare(&connection, path)?;
    let (table, logs) = load(&connection, path)?;
    Ok(Opened { connection, lock, table, logs })
}

/// Locks a separate file next to the store: SQLite's locks allow several processes, and two brokers that each
/// hold the documents in memory would overwrite each other's offsets.
fn lock(path: &Path) -> Result<File, StoreError> {
    // A symbolic link to a store is that store.
    let mut lock_path = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
    lock_path.push("-lock");
    let lock_path = PathBuf::from(lock_path);
    let file =
        File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(|error| {
            StoreError(format!(
                "the store {} cannot be opened: {}: {error}; its folder must exist and be writable",
                path.display(),
                lock_path.display()
            ))
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError(format!(
            "the store {} is held by another process; stop that one first, or give this one a file of its own",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => {
            Err(StoreError(format!("the store {} cannot be locked: {error}", path.display())))
        }
    }
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => StoreError(format!(
            "{} is not a Yagura store, or its first page is damaged; restore it from a backup, or name another file",
            path.display()
        )),
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => StoreError(format!(
            "the store {} is damaged ({error}); `yagura store verify` tells how much, a backup brings it back",
            path.display()
        )),
        _ => StoreError(format!("the store {} cannot be opened: {error}", path.display())),
    }
}

/// Chosen by measurement: large pages and frequent checkpoints write the fewest extra bytes per batch. The
/// caches are small because a log is read once and a larger cache gained nothing.
const SETTINGS: &str = "
    PRAGMA journal_mode=WAL;
    PRAGMA synchronous=FULL;
    PRAGMA wal_autocheckpoint=64;
    PRAGMA journal_size_limit=67108864;
    PRAGMA cache_size=-1024;
    PRAGMA temp_store=MEMORY;
";

fn prepare(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let cannot = |error: rusqlite::Error| cannot_open(path, &error);
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let (application, format) =
        (pragma("application_id").map_err(cannot)?, pragma("user_version").map_err(cannot)?);
    let is_new = pragma("schema_version").map_err(cannot)? == 0 && application == 0;
    if is_new {
        // Page size and vacuum mode can be set only before the first page is written.
        connection
            .execute_batch("PRAGMA page_size=65536; PRAGMA auto_vacuum=INCREMENTAL;")
            .map_err(cannot)?;
    } else if application != APPLICATION_ID {
        return Err(StoreError(format!(
            "{} is a SQLite file of another program; name another file for the store",
            path.display()
        )));
    } else if format > FORMAT {
        return Err(StoreError(format!(
            "the store {} was written by a newer release (format {format}, this one reads up to {FORMAT}); upgrade Yagura, or restore a backup made before the upgrade",
            path.display()
        )));
    }
    connection.execute_batch(SETTINGS).map_err(cannot)?;
    if is_new {
        let stamp = format!("PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT};");
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {CREATE} {stamp} COMMIT;")).map_err(cannot)?;
    }
    Ok(())
}

/// Reads all documents except producers, which are loaded on demand.
fn load(connection: &Connection, path: &Path) -> Result<(Table, Logs), StoreError> {
    let reading = |error: rusqlite::Error| cannot_open(path, &error);
    let (mut table, mut logs) = (Table::loading_producers(), Logs::default());
    let sql = "SELECT key, value FROM documents WHERE key < ?1 OR key >= ?2";
    let producers = ProducerDocument::prefix();
    let mut statement = connection.prepare(sql).map_err(reading)?;
    let mut rows = statement.query([producers.as_str(), &producers.end()]).map_err(reading)?;
    while let Some(row) = rows.next().map_err(reading)? {
        let key = row.get_ref(0).and_then(|value| Ok(value.as_str()?)).map_err(reading)?;
        let text = row.get_ref(1).and_then(|value| Ok(value.as_str()?)).map_err(reading)?;
        let key = Key::from_text(key);
        let document = logs.load(&key, text).and_then(|()| read(&key, text));
        let document = document.map_err(|error| unreadable(&key, &error))?;
        table.put(key, Some(document));
    }
    Ok((table, logs))
}

fn unreadable(key: &Key, error: &ReadError) -> StoreError {
    StoreError(match error {
        ReadError::Newer { .. } => {
            format!("the document {key:?} in the store cannot be read: {error}; upgrade Yagura")
        }
        _ => format!("the document {key:?} in the store is damaged: {error}; restore a backup"),
    })
}

/// A second connection to an open store, for reading.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    let settings = "PRAGMA query_only=1; PRAGMA cache_size=-512;";
    connection.execute_batch(settings).map_err(|error| failed("opening a reader", &error))?;
    Ok(connection)
}
