//! Migrates a store of format 1, at its first start with this release.
//!
//! Everything is copied to a new file beside the store. Once that is complete and on disk, the store is renamed to a backup,
//! the new file takes its name and is opened, and the backup is deleted. A crash at any point loses nothing: between the
//! renames [`finish`] goes on from there at the next start, and after them the backup is left over.
//!
//! Format 1 had no journal and no index: a row of `batches` had the facts of its batch, and the documents of
//! partitions and counters had the partition numbers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kernel::records::NO_TIMESTAMP;
use rules::documents::{DocumentKind, Key, PartitionDocument};
use rusqlite::{Connection, params};
use serde::Deserialize;
use tracing::{info, warn};

use super::commit::{parse, text_of};
use super::index::Span;
use super::lock::StoreLock;
use super::logs::{Log, LogChange, Numbers};
use super::open::{connect, prepare};
use super::real_path::{beside, real_path};
use super::schema::{FORMAT, failed, offset_of, rows_of};
use super::texts::put_text;
use crate::engines::StoreError;
use crate::engines::resident::Times;

/// A list of a group's offsets, which are found by their prefix now.
const OLD_OFFSET_INDEX: &str = "offset-index";
/// How often progress is logged.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Bytes that are copied in a transaction: more would only make the WAL large.
pub(super) const COMMIT_BYTES: u64 = 64 << 20;

/// A partition's document in format 1.
#[derive(Deserialize)]
struct OldPartition {
    number: u32,
    log_start: i64,
    end: i64,
}

/// The files of a migration.
struct Files {
    store: PathBuf,
    wal: PathBuf,
    new: PathBuf,
    backup: PathBuf,
}

impl Files {
    fn of(path: &Path) -> Self {
        let store = real_path(path);
        let beside = |suffix: &str| beside(&store, suffix);
        Self { wal: beside("-wal"), new: beside("-migrating"), backup: beside("-format-1"), store }
    }

    /// Makes the renames durable.
    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.store.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// Ends a migration that a crash has interrupted between its renames. Returns the backup, which is not needed once the store
/// is open.
pub(super) fn finish(path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let files = Files::of(path);
    if !files.backup.exists() {
        return Ok(None);
    }
    if files.store.exists() {
        let backup = files.backup.display();
        warn!("{backup} is a store as it was before a migration; delete it when you do not need it any more");
        return Ok(None);
    }
    let complete = if files.new.exists() { &files.new } else { &files.backup };
    let renamed = std::fs::rename(complete, &files.store).and_then(|()| files.sync_folder());
    renamed.map(|()| Some(files.backup.clone()).filter(|backup| backup.exists())).map_err(|error| {
        StoreError(format!(
            "the migration of {} was interrupted and cannot be ended: {error}; {} is the store as it was before",
            files.store.display(),
            files.backup.display()
        ))
    })
}

/// Migrates an open store of format 1, and opens it again. The lock follows.
pub(super) fn migrate(old: Connection, path: &Path, lock: &mut StoreLock) -> Result<Connection, StoreError> {
    let files = Files::of(path);
    if files.backup.exists() {
        return Err(StoreError(format!(
            "the store {} cannot be migrated: {} is where its backup goes; move that file away",
            path.display(),
            files.backup.display()
        )));
    }
    let started = Instant::now();
    info!(store = %path.display(), "the store is migrated to format {FORMAT}, once; it needs as much free space as the file has");
    copy_to_new(&old, &files).map_err(|error| {
        let removed = remove(&files.new).err().map(|error| format!("; {}: {error}", files.new.display()));
        StoreError(format!(
            "the store {} cannot be migrated to format {FORMAT}: {}; the store is unchanged: make room for a copy of it, or start the release that wrote it{}",
            path.display(),
            error.0,
            removed.unwrap_or_default()
        ))
    })?;
    put_in_place(old, &files, lock).map_err(|why| {
        StoreError(format!("the migrated store {} cannot be put in place: {why}", path.display()))
    })?;
    info!(store = %path.display(), "the store was migrated in {:.1} s", started.elapsed().as_secs_f64());
    let connection = connect(path)?;
    prepare(&connection, path)?;
    // Only a store that can be read whole replaces the one before.
    Numbers::load(&connection).map_err(|error| failed("reading the migrated file", &error))?;
    remove_backup(&files.backup);
    Ok(connection)
}

/// Deletes the backup of a migration that is done.
pub(super) fn remove_backup(backup: &Path) {
    if let Err(error) = std::fs::remove_file(backup) {
        warn!(%error, "{} is not needed any more and could not be deleted", backup.display());
    }
}

/// Closes the old file, makes it the backup, and gives its name to the new one.
fn put_in_place(old: Connection, files: &Files, lock: &mut StoreLock) -> Result<(), String> {
    // Its WAL must be gone: the new file would get it with the name. Leaving WAL mode fails while others have it open.
    let mode = old.query_row("PRAGMA journal_mode=DELETE", [], |row| row.get::<_, String>(0));
    let is_alone = mode.as_ref().is_ok_and(|mode| mode == "delete");
    let closed = old.close().map_err(|(_, error)| error.to_string());
    if !is_alone || closed.is_err() || files.wal.exists() {
        let why = mode.err().map(|error| error.to_string()).or(closed.err());
        let why = why.unwrap_or_else(|| "its WAL is in use".to_owned());
        return Err(format!(
            "another process has the old file open ({why}); stop it (a backup, a shell, a replicator) and start again. The store is unchanged"
        ));
    }
    let renamed = lock.follow(&files.new, || {
        std::fs::rename(&files.store, &files.backup)?;
        std::fs::rename(&files.new, &files.store)?;
        files.sync_folder()
    });
    renamed.map_err(|error| format!("{error}; {} is the store as it was before", files.backup.display()))
}

/// Removes a file, and what SQLite has beside it.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match std::fs::remove_file(beside(file, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn copy_to_new(old: &Connection, files: &Files) -> Result<(), StoreError> {
    write_new(&files.new, |new| copy(old, new))?;
    let cannot = |error: io::Error| StoreError(format!("{}: {error}", files.new.display()));
    files.sync_folder().map_err(cannot)
}

/// Writes a new store, which is on disk when this returns. Nothing of it is used before.
pub(super) fn write_new(
    path: &Path,
    fill: impl FnOnce(&Connection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let cannot = |error: io::Error| StoreError(format!("{}: {error}", path.display()));
    remove(path).map_err(cannot)?;
    let new = connect(path)?;
    prepare(&new, path)?;
    let writing = |error: rusqlite::Error| failed("copying", &error);
    new.execute_batch("PRAGMA synchronous=OFF; BEGIN IMMEDIATE").map_err(writing)?;
    fill(&new)?;
    new.execute_batch("COMMIT; PRAGMA synchronous=FULL; PRAGMA wal_checkpoint(TRUNCATE)").map_err(writing)?;
    new.close().map_err(|(_, error)| failed("closing the copy", &error))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(cannot)
}

fn copy(old: &Connection, new: &Connection) -> Result<(), StoreError> {
    let copying = |error: rusqlite::Error| failed("copying", &error);
    let mut progress = Progress::of(old).map_err(copying)?;
    let mut statement = old.prepare("SELECT key, value FROM documents ORDER BY key").map_err(copying)?;
    let mut rows = statement.query([]).map_err(copying)?;
    let mut numbers = BTreeSet::new();
    while let Some(row) = rows.next().map_err(copying)? {
        let text = |column| row.get_ref(column).and_then(|value| Ok(value.as_str()?)).map_err(copying);
        let (key, text) = (Key::from_text(text(0)?), text(1)?);
        if key.kind() == OLD_OFFSET_INDEX {
            continue;
        }
        // Written as this release does: documents of partitions and counters had more fields.
        let document = parse(&key, text)?;
        text_of(&document).and_then(|text| put_text(new, &key, &text)).map_err(copying)?;
        if PartitionDocument::parse_key(&key).is_some() {
            let partition: OldPartition = serde_json::from_str(text).map_err(|error| {
                StoreError(format!("the document {key} in the store is damaged: {error}; restore a backup"))
            })?;
            copy_log(old, new, &key, &partition, &mut progress).map_err(copying)?;
            numbers.insert(partition.number);
        }
    }
    give_back(new, &numbers).map_err(copying)
}

/// Copies a partition's batches, and builds their index. Those before the log start are left out.
fn copy_log(
    old: &Connection,
    new: &Connection,
    key: &Key,
    partition: &OldPartition,
    progress: &mut Progress,
) -> rusqlite::Result<()> {
    let OldPartition { number, log_start, end } = *partition;
    let mut log = Log::after(None, LogChange::Created { number }, 0);
    let sql = "SELECT id, next_offset, max_timestamp, bytes, data FROM batches
         WHERE id BETWEEN ?1 AND ?2 AND next_offset > ?3 ORDER BY id";
    let mut statement = old.prepare_cached(sql)?;
    let (first, last) = rows_of(number);
    let mut rows = statement.query(params![first, last, log_start])?;
    let mut insert = new.prepare_cached("INSERT INTO batches VALUES (?1, ?2)")?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        insert.execute(params![id, row.get_ref(4)?.as_blob()?])?;
        let bytes = row.get::<_, i64>(3)? as u64;
        let times = Times::read(row.get(2)?, NO_TIMESTAMP);
        let entry = Span { base: offset_of(id), next: row.get(1)?, times, bytes };
        log = Log::after(log, LogChange::Appended { entry, data: None }, 0);
        if progress.add(bytes) {
            new.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        }
    }
    let at = PartitionDocument::parse_key(key);
    let (Some(log), Some(at)) = (log, at) else { return Ok(()) };
    log.starting_at(log_start, end).fold(new, at)?;
    Ok(())
}

/// Numbers that no partition has can be used again.
fn give_back(new: &Connection, used: &BTreeSet<u32>) -> rusqlite::Result<()> {
    let next = used.last().map_or(0, |last| last + 1);
    new.execute("UPDATE counters SET value = ?1 WHERE name = 'next_number'", [next])?;
    let mut insert = new.prepare("INSERT INTO numbers VALUES (?1)")?;
    (0..next)
        .filter(|number| !used.contains(number))
        .try_for_each(|number| insert.execute([number]).map(drop))
}

/// Logs how far the copy is.
struct Progress {
    done: u64,
    total: u64,
    uncommitted: u64,
    logged: Instant,
}

impl Progress {
    fn of(old: &Connection) -> rusqlite::Result<Self> {
        let pragma = |name: &str| old.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let total = (pragma("page_count")? * pragma("page_size")?) as u64;
        Ok(Self { done: 0, total, uncommitted: 0, logged: Instant::now() })
    }

    /// Counts bytes that were copied; returns whether they should be committed.
    fn add(&mut self, bytes: u64) -> bool {
        self.done += bytes;
        if self.logged.elapsed() > PROGRESS_EVERY {
            self.logged = Instant::now();
            info!("{} of about {} MiB are copied", self.done >> 20, self.total >> 20);
        }
        self.uncommitted += bytes;
        if self.uncommitted < COMMIT_BYTES {
            return false;
        }
        self.uncommitted = 0;
        true
    }
}
