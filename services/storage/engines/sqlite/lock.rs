//! Locks a store against other processes and against other services of this one, by whatever name they know it.
//!
//! The lock is on the database file itself, so that symbolic links, hard links and other mounts of its folder lead to
//! the same lock, and on a file beside it, which earlier releases look at. SQLite's own locks would let in several
//! processes, and two brokers that each hold documents in memory would overwrite each other's offsets.
//!
//! SQLite's locks belong to the process: closing any descriptor of a file drops all locks that the process has on it, as if
//! its connections had none. So all of this process share one descriptor of a file, which is closed once nobody uses it;
//! and a store's is in use until its last connection is closed.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tracing::warn;

use super::real_path::{beside, real_path};
use crate::engines::StoreError;

/// Which file it is, however many names it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino() }
    }
}

/// A descriptor that several use.
struct SharedFile {
    file: File,
    users: usize,
    is_locked: bool,
}

/// The files that this process has open beside SQLite's connections.
static FILES: Mutex<BTreeMap<Inode, SharedFile>> = Mutex::new(BTreeMap::new());

/// A use of this process's descriptor of a database file.
#[derive(Debug)]
pub(super) struct DatabaseFile(Inode);

impl DatabaseFile {
    /// Opens a file for reading.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::with(path, || File::open(path))
    }

    /// Opens a file, or creates it empty, which SQLite takes for a new database.
    fn open_or_create(path: &Path) -> io::Result<Self> {
        Self::with(path, || match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut options = File::options();
                options.read(true).write(true).create(true).truncate(false).mode(0o644).open(path)
            }
            opened => opened,
        })
    }

    fn with(path: &Path, open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        let mut files = FILES.lock();
        // Looked up before it is opened: a second descriptor would have to be closed.
        if let Ok(metadata) = std::fs::metadata(path)
            && let Some(shared) = files.get_mut(&Inode::of(&metadata))
        {
            shared.users += 1;
            return Ok(Self(Inode::of(&metadata)));
        }
        let file = open()?;
        let inode = Inode::of(&file.metadata()?);
        if let Some(shared) = files.get_mut(&inode) {
            // It has taken the other one's place at this very moment. Better a descriptor too many than a lock too few.
            std::mem::forget(file);
            shared.users += 1;
        } else {
            files.insert(inode, SharedFile { file, users: 1, is_locked: false });
        }
        Ok(Self(inode))
    }

    /// Uses the descriptor while no other thread can close it.
    fn shared<T>(&self, work: impl FnOnce(&mut SharedFile) -> io::Result<T>) -> io::Result<T> {
        FILES.lock().get_mut(&self.0).map_or_else(|| Err(ErrorKind::NotFound.into()), work)
    }

    /// The beginning of the file.
    pub(super) fn read_head(&self, head: &mut [u8]) -> io::Result<()> {
        self.shared(|shared| shared.file.read_exact_at(head, 0))
    }

    /// How many names the file has.
    fn names(&self) -> io::Result<u64> {
        self.shared(|shared| Ok(shared.file.metadata()?.nlink()))
    }

    /// Whether a path leads to this file; an error if that cannot be told.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Inode::of(&metadata) == self.0),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Locks the file, unless another process or service has.
    fn lock(self) -> Result<LockedFile, TryLockError> {
        let locked = self.shared(|shared| {
            if shared.is_locked {
                return Ok(Err(TryLockError::WouldBlock));
            }
            // flock, which has nothing to do with SQLite's locks on Linux. On other systems it might.
            let locked = if cfg!(target_os = "linux") { shared.file.try_lock() } else { Ok(()) };
            shared.is_locked = locked.is_ok();
            Ok(locked)
        });
        locked.map_err(TryLockError::Error)??;
        Ok(LockedFile { file: self, is_held: AtomicBool::new(true) })
    }
}

impl Drop for DatabaseFile {
    fn drop(&mut self) {
        let mut files = FILES.lock();
        let Some(shared) = files.get_mut(&self.0) else { return };
        shared.users -= 1;
        if shared.users == 0 {
            // Closed under the lock: whoever opens the file next connects after that.
            files.remove(&self.0);
        }
    }
}

/// A database file that is locked until this is dropped.
#[derive(Debug)]
struct LockedFile {
    file: DatabaseFile,
    is_held: AtomicBool,
}

impl LockedFile {
    fn unlock(&self) {
        // Once: another service of this process may have locked it since.
        if !self.is_held.swap(false, Ordering::AcqRel) {
            return;
        }
        let unlocked = self.file.shared(|shared| {
            shared.is_locked = false;
            shared.file.unlock()
        });
        if let Err(error) = unlocked {
            warn!(%error, "a store could not be unlocked; it is once this process has ended");
        }
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        self.unlock();
    }
}

/// The lock on an open store.
#[derive(Debug)]
pub(super) struct StoreLock {
    path: PathBuf,
    database: LockedFile,
    beside: File,
    /// The write-ahead log, once it has been looked at.
    wal: OnceLock<Inode>,
}

impl StoreLock {
    /// Whether the store's path still leads to the file that is locked, and the write-ahead log is the one that it was. If
    /// that cannot be told, it is assumed.
    pub(super) fn has_its_name(&self) -> bool {
        self.database.file.is_at(&self.path).unwrap_or(true) && self.has_its_wal()
    }

    /// SQLite keeps its write-ahead log as long as a connection is open, and the latest commits may be nowhere else.
    fn has_its_wal(&self) -> bool {
        match std::fs::metadata(beside(&real_path(&self.path), "-wal")) {
            Ok(metadata) => *self.wal.get_or_init(|| Inode::of(&metadata)) == Inode::of(&metadata),
            Err(error) => error.kind() != ErrorKind::NotFound || self.wal.get().is_none(),
        }
    }

    /// The store's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the store to whoever opens it next, before the descriptors are closed.
    pub(super) fn release(&self) {
        self.database.unlock();
        // It is unlocked when it is closed, at the latest.
        let _ = self.beside.unlock();
    }

    /// Locks the file that takes the database's place, and gives it the place with `put_in_place`.
    ///
    /// # Errors
    /// Why it was not put there; the lock is on the file before it then.
    pub(super) fn follow(
        &mut self,
        next: &Path,
        put_in_place: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let locked = DatabaseFile::open(next)?.lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::other("another process has it open"),
        })?;
        put_in_place()?;
        self.database = locked;
        Ok(())
    }
}

/// The locks of a store that is only read, while no broker has it open. Nothing is made beside it.
#[derive(Debug)]
pub(super) struct ReadLock {
    _database: Option<LockedFile>,
    _beside: Option<File>,
}

impl ReadLock {
    /// Locks what there is to lock, as a broker does.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let beside = File::open(lock_path(path)).ok();
        if let Some(beside) = &beside {
            refuse_held(path, beside.try_lock())?;
        }
        let database = DatabaseFile::open(path).ok().map(DatabaseFile::lock);
        let database = database.map(|locked| match locked {
            Ok(locked) => Ok(Some(locked)),
            Err(error) => refuse_held(path, Err(error)).map(|()| None),
        });
        Ok(Self { _database: database.transpose()?.flatten(), _beside: beside })
    }
}

fn refuse_held(path: &Path, locked: Result<(), TryLockError>) -> Result<(), StoreError> {
    match locked {
        Err(TryLockError::WouldBlock) => Err(StoreError(format!(
            "the store {} is held by another process; stop the broker first, or salvage a copy that `yagura store backup` makes",
            path.display()
        ))),
        // A file system without locks has no broker.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// The file beside a store that is locked.
fn lock_path(path: &Path) -> PathBuf {
    beside(&real_path(path), "-lock")
}

/// The lock on the file beside a store.
pub(super) struct LockBeside {
    file: File,
    /// The file's path, if it was not there.
    pub(super) made: Option<PathBuf>,
}

impl LockBeside {
    /// Locks the file beside a store, which is made if it is not there.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let lock_path = lock_path(path);
        let is_new = !lock_path.exists();
        let file =
            File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(|error| {
                StoreError(format!(
                    "the store {} cannot be opened: {}: {error}; its folder must exist and be writable",
                    path.display(),
                    lock_path.display()
                ))
            })?;
        file.try_lock().map_err(|error| refused(path, &error))?;
        Ok(Self { file, made: Some(lock_path).filter(|_| is_new) })
    }

    /// Locks the store itself, which is created if it is not there.
    pub(super) fn with_database(self, path: &Path) -> Result<StoreLock, StoreError> {
        let locked = Self::lock_database(path, self.made.is_some()).inspect_err(|_| {
            if let Some(made) = &self.made {
                // The store may have another one, beside another name.
                let _ = std::fs::remove_file(made);
            }
        });
        Ok(StoreLock { path: path.to_owned(), database: locked?, beside: self.file, wal: OnceLock::new() })
    }

    fn lock_database(path: &Path, is_new_here: bool) -> Result<LockedFile, StoreError> {
        refuse_lost(path)?;
        let opened = DatabaseFile::open_or_create(path)
            .map_err(|error| StoreError(format!("the store {} cannot be opened: {error}", path.display())))?;
        let names = opened.names().unwrap_or(1);
        let locked = opened.lock().map_err(|error| refused(path, &error))?;
        if names > 1 && is_new_here {
            return Err(StoreError(format!(
                "the store {} has {names} names (hard links), and was not used by this one before: its latest commits may be in a \
                 write-ahead log beside another name; use that name, or start a broker on it once, stop it, and remove it",
                path.display()
            )));
        }
        Ok(locked)
    }
}

/// Refuses a store that is not there although something of it is: it was removed or moved, and an empty one in its place
/// would pass for it.
fn refuse_lost(path: &Path) -> Result<(), StoreError> {
    let real = real_path(path);
    let is_left = |suffix| std::fs::metadata(beside(&real, suffix)).is_ok_and(|left| left.len() > 0);
    let Some(left) = ["-wal", "-reserve"].into_iter().find(|suffix| is_left(suffix)) else { return Ok(()) };
    if real.exists() {
        return Ok(());
    }
    let (shown, left) = (path.display(), beside(&real, left));
    Err(StoreError(format!(
        "the store {shown} is missing, but {} is there: put the store back, or restore a backup after removing {shown}-wal \
         and {shown}-shm; to begin with an empty store, remove these and {shown}-reserve",
        left.display()
    )))
}

fn refused(path: &Path, error: &TryLockError) -> StoreError {
    let shown = path.display();
    match error {
        TryLockError::WouldBlock => StoreError(format!(
            "the store {shown} is held by another process; stop that one first, or give this one a file of its own"
        )),
        TryLockError::Error(error) => StoreError(format!("the store {shown} cannot be locked: {error}")),
    }
}

/// What tells a store from others: its inode, or where it will be once it is there.
pub(super) fn identity(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(metadata) => format!("inode {} of device {}", metadata.ino(), metadata.dev()),
        Err(_) => {
            let real = real_path(path);
            std::path::absolute(&real).unwrap_or(real).display().to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_descriptor_that_is_closed_last() {
        let home = std::env::temp_dir().join(format!("yagura-lock-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).unwrap();
        let path = home.join("y.db");
        let users = |file: &DatabaseFile| FILES.lock().get(&file.0).map(|shared| shared.users);
        let lock = LockBeside::take(&path).unwrap().with_database(&path).unwrap();
        std::fs::hard_link(&path, home.join("other.db")).unwrap();
        let reader = DatabaseFile::open(&home.join("other.db")).unwrap();
        assert_eq!(users(&reader), Some(2));
        let refused = DatabaseFile::open(&path).unwrap().lock();
        assert!(matches!(refused, Err(TryLockError::WouldBlock)));
        assert_eq!(users(&reader), Some(2));
        drop(lock);
        // Another use of the descriptor does not hold the lock.
        let locked = DatabaseFile::open(&path).unwrap().lock().unwrap();
        let inode = reader.0;
        drop((reader, locked));
        assert!(!FILES.lock().contains_key(&inode), "it is closed");
        std::fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn a_store_that_was_removed_is_not_begun_anew() {
        let home = std::env::temp_dir().join(format!("yagura-lost-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).unwrap();
        let path = home.join("y.db");
        let open = || LockBeside::take(&path)?.with_database(&path).map(drop);
        for left in ["-wal", "-reserve"] {
            std::fs::write(beside(&path, left), "x").unwrap();
            let refusal = open().unwrap_err().0;
            assert!(refusal.contains("is missing, but") && refusal.contains(left), "{refusal}");
            std::fs::remove_file(beside(&path, left)).unwrap();
        }
        open().unwrap();
        std::fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn a_store_has_one_identity() {
        let home = std::env::temp_dir().join(format!("yagura-identity-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home).unwrap();
        let (path, other) = (home.join("y.db"), home.join("other.db"));
        std::os::unix::fs::symlink("y.db", home.join("link.db")).unwrap();
        let is_same = |one: &Path, other: &Path| identity(one) == identity(other);
        for same in [home.join("./y.db"), home.join("link.db")] {
            assert!(is_same(&path, &same), "before it is there: {}", same.display());
        }
        assert!(!is_same(&path, &other));
        assert!(is_same(Path::new("nowhere/y.db"), Path::new("./nowhere/y.db")), "nor is its folder");
        std::fs::write(&path, "").unwrap();
        std::fs::hard_link(&path, &other).unwrap();
        assert!(is_same(&path, &other) && is_same(&path, &home.join("link.db")));
        std::fs::remove_dir_all(&home).unwrap();
    }
}
