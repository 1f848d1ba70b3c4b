//! The reserve: a file beside the store that keeps room on the disk. It is let go when the disk is full, so that what
//! makes room (deletions, retention) and what must go on (offsets, groups, a clean stop) can still be written.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use kernel::units::ByteSize;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use tracing::warn;

use super::real_path::{beside, real_path};

/// Room that must be left beside the reserve before a disk that was full counts as having room again: it would be full
/// at once otherwise.
const MARGIN: u64 = 16 << 20;
/// What is tried, to tell whether the disk or a limit is what stops a file from growing.
const TRIED: u64 = 1 << 20;
/// Where a file system cannot set room aside, zeros are written in pieces of this size.
const PIECE: usize = 1 << 20;
/// The least that is kept when there is no room for all.
const LEAST: u64 = 1 << 20;

/// The file.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    /// Zeros that were written, while there are more to write.
    zeros: Option<u64>,
}

/// Whether an error says that there is no room: on the disk, in a quota, or below a limit on the size of a file.
pub(super) fn is_lack(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// The file beside a store.
fn path_of(store: &Path) -> PathBuf {
    beside(&real_path(store), "-reserve")
}

/// Lets the reserve of a store go that is not open yet, if it has one and the disk has no room; returns whether it did.
pub(super) fn let_go_before_opening(store: &Path) -> bool {
    let mut reserve = Reserve { path: path_of(store), bytes: 0, zeros: None };
    reserve.held() > 0 && !reserve.can_grow(0) && reserve.let_go()
}

impl Reserve {
    /// The reserve of a store, which is not made yet.
    pub(super) fn of(store: &Path, bytes: ByteSize) -> Self {
        Self { path: path_of(store), bytes: bytes.0, zeros: None }
    }

    pub(super) fn bytes(&self) -> ByteSize {
        ByteSize(self.bytes)
    }

    /// Bytes that the file has now.
    pub(super) fn held(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn open(&self) -> io::Result<File> {
        File::options().create(true).truncate(false).write(true).open(&self.path)
    }

    /// Makes it, when the store is opened; returns whether the disk has room for it. What there was of it stays.
    pub(super) fn make(&mut self) -> bool {
        if self.bytes == 0 {
            let _ = std::fs::remove_file(&self.path);
            return true;
        }
        let before = self.held();
        let made = self.open().and_then(|file| {
            let made = allocate(&file, 0, self.bytes);
            file.set_len(if made.is_ok() { self.bytes } else { before })?;
            made
        });
        self.zeros = None;
        let Err(error) = made else { return true };
        if error.kind() == ErrorKind::FileTooLarge {
            // A limit on the size of files, which the store may never reach.
            let bytes = self.bytes();
            warn!(%error, "no reserve of {bytes} could be made beside the store, so that on a full disk deletions may fail; lower disk_reserve, or raise the limit on the size of files");
            return true;
        }
        if is_lack(&error) {
            return false;
        }
        // The file system cannot set room aside.
        self.zeros = (before < self.bytes).then_some(before);
        true
    }

    /// Makes it again, if there is room for more than it; `longest` is the length of the longest file of the store, which
    /// must be able to grow. What there is of it stays if there is not.
    pub(super) fn make_again(&mut self, longest: u64) -> bool {
        let Ok(file) = self.open() else { return false };
        let before = self.held();
        // Cheap, and takes no room from others. It knows nothing of quotas and limits, though.
        let wanted = self.bytes.saturating_add(MARGIN);
        let made = match free(&file) {
            Some(free) if free.saturating_add(before) < wanted => Err(ErrorKind::StorageFull.into()),
            _ if self.bytes == 0 => allocate(&file, longest, MARGIN),
            _ => {
                allocate(&file, 0, self.bytes).and_then(|()| allocate(&file, longest.max(self.bytes), MARGIN))
            }
        };
        let cut = file.set_len(if made.is_ok() { self.bytes } else { before });
        if self.bytes == 0 {
            let _ = std::fs::remove_file(&self.path);
        }
        match made {
            Ok(()) => cut.is_ok(),
            Err(error) if is_lack(&error) => false,
            Err(_) => {
                self.zeros = (before < self.bytes).then_some(before);
                true
            }
        }
    }

    /// Whether zeros are still to be written.
    pub(super) fn is_growing(&self) -> bool {
        self.zeros.is_some()
    }

    /// Writes the next zeros; returns whether there was room for them.
    pub(super) fn grow(&mut self) -> bool {
        let Some(at) = self.zeros else { return true };
        let bytes = self.bytes.saturating_sub(at).min(PIECE as u64);
        if bytes == 0 {
            self.zeros = None;
            return true;
        }
        let written = self.open().and_then(|mut file| {
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&vec![0; bytes as usize])
        });
        self.zeros = written.is_ok().then_some(at + bytes);
        match written {
            Err(error) if !is_lack(&error) => {
                let path = self.path.display();
                warn!(%error, "{path} could not be written, so that on a full disk deletions may fail");
                true
            }
            written => written.is_ok(),
        }
    }

    /// Gives its room back; returns whether there was any.
    pub(super) fn let_go(&mut self) -> bool {
        self.zeros = None;
        let held = self.held();
        let cut = File::options().write(true).open(&self.path).and_then(|file| file.set_len(0));
        held > 0 && cut.is_ok()
    }

    /// Whether a file could grow beyond this length.
    pub(super) fn can_grow(&self, length: u64) -> bool {
        let held = self.held();
        let tried = self.open().and_then(|file| {
            let tried = allocate(&file, length.max(held), TRIED);
            file.set_len(held)?;
            tried
        });
        if self.bytes == 0 && held == 0 {
            let _ = std::fs::remove_file(&self.path);
        }
        tried.err().is_none_or(|error| !is_lack(&error))
    }

    /// Bytes that are free on the disk, if the file system tells.
    pub(super) fn free_on_disk(&self) -> Option<u64> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        free(&File::open(folder.unwrap_or(Path::new("."))).ok()?)
    }

    /// Keeps what there is room for, so that the next start finds some whatever others write meanwhile.
    pub(super) fn keep_what_is_left(&self) {
        let mut bytes = self.bytes;
        while bytes >= LEAST && self.held() < bytes {
            let kept = self.open().and_then(|file| {
                let made = allocate(&file, 0, bytes);
                file.set_len(if made.is_ok() { bytes } else { 0 })?;
                made
            });
            match kept {
                Err(error) if is_lack(&error) => bytes /= 2,
                _ => return,
            }
        }
    }
}

/// Sets room of a file aside.
fn allocate(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    let none = FallocateFlags::empty();
    rustix::io::retry_on_intr(|| fallocate(file, none, from, bytes)).map_err(io::Error::from)
}

fn free(disk: &File) -> Option<u64> {
    let disk = fstatvfs(disk).ok()?;
    // Some file systems tell nothing.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reserve in a folder of its own.
    fn reserve(name: &str, bytes: u64) -> (PathBuf, Reserve) {
        let folder = std::env::temp_dir().join(format!("yagura-reserve-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let reserve = Reserve::of(&folder.join("y.db"), ByteSize(bytes));
        (folder, reserve)
    }

    fn make_whole(reserve: &mut Reserve) {
        assert!(reserve.make());
        while reserve.is_growing() {
            assert!(reserve.grow());
        }
    }

    #[test]
    fn it_is_made_let_go_and_made_again() {
        let (folder, mut reserve) = reserve("again", 3 << 20);
        make_whole(&mut reserve);
        assert_eq!(reserve.held(), 3 << 20);
        make_whole(&mut reserve);
        assert_eq!(reserve.held(), 3 << 20, "what is there stays");
        assert!(reserve.let_go());
        assert_eq!(reserve.held(), 0);
        assert!(!reserve.let_go(), "nothing is left to let go");
        assert!(reserve.can_grow(1 << 20));
        assert!(reserve.make_again(1 << 20), "a test needs 32 MiB on the disk");
        while reserve.is_growing() {
            assert!(reserve.grow());
        }
        assert_eq!(reserve.held(), 3 << 20);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn without_a_reserve_there_is_no_file() {
        let (folder, mut reserve) = reserve("none", 0);
        std::fs::write(folder.join("y.db-reserve"), "of the settings before").unwrap();
        assert!(reserve.make() && reserve.make_again(0) && reserve.can_grow(0));
        reserve.keep_what_is_left();
        assert!(!reserve.let_go());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn more_than_the_disk_has_is_not_there() {
        let (folder, mut reserve) = reserve("large", 1 << 60);
        assert!(!reserve.make_again(0));
        assert_eq!(reserve.held(), 0, "nothing is taken from others");
        assert!(!let_go_before_opening(&folder.join("y.db")), "there is none");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_reserve_is_not_let_go_while_there_is_room() {
        let (folder, mut reserve) = reserve("kept", 1 << 20);
        make_whole(&mut reserve);
        assert!(!let_go_before_opening(&folder.join("y.db")));
        assert_eq!(reserve.held(), 1 << 20);
        reserve.keep_what_is_left();
        assert_eq!(reserve.held(), 1 << 20);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
