//! Room for records: on the disk, within the file, and below `store_bytes_max`.
//!
//! A store without room refuses what adds records, topics or partitions, or something to a transaction of a client, before it
//! gets to a transaction of its own. All else goes on:
//! on a full disk the reserve ([`super::reserve`]) is let go for it. There is room again when the disk has room for the
//! reserve and some more, or when enough pages within the file are free, which appends can use whatever the disk has.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kernel::ErrorCode;
use kernel::units::ByteSize;
use rules::commands::{Command, Outcome, Refused};
use tracing::{debug, warn};

use super::commit::Committer;
use super::real_path::{beside, real_path};
use super::reserve::Reserve;
use super::schema::PAGE_BYTES;
use crate::engines::StoreError;
use crate::engines::room::{AT_LIMIT, WhyFull, growth, is_over, refuse_growth, why_at_limit};

/// Free bytes within the file that take records again on a full disk: a few of the largest commits, and the fold of the
/// journal that they need.
const FREE_AGAIN: u64 = if cfg!(test) { 512 << 10 } else { 16 << 20 };
/// At how many they are refused again: what is left is for the fold, and for what frees room.
const FREE_LEFT: u64 = FREE_AGAIN / 2;
/// What the write-ahead log must have or be able to get, beside the free bytes within the file.
const LOG_BYTES: u64 = 8 << 20;
/// How often the room is looked at while there is none.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And otherwise, if the writer has something to do at all, for the metrics: what is deleted frees room as well.
const LOOK_EVERY_AT_EASE: Duration = Duration::from_secs(10);
/// After how many bytes of records it is looked at, where there is something to stop at; and otherwise, for the metrics.
const LOOK_BYTES: u64 = if cfg!(test) { 32 << 10 } else { 1 << 20 };
const LOOK_BYTES_AT_EASE: u64 = 16 << 20;

/// What a transaction may have in it that ends on a full disk.
const ENDED_MAX: usize = 1_000;

/// What a client is told on a full disk.
const DISK_FULL: &str = "The disk of the store is full: no records, topics or partitions are taken, and nothing is added to transactions, until there is room.";

/// Whether there is room for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Left,
    DiskFull,
    AtLimit,
}

/// What a look has found, in bytes.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Of the file, without its free pages.
    used: u64,
    /// Of its free pages.
    free: u64,
    /// Of the write-ahead log, with what the disk has for it.
    log: u64,
}

impl Room {
    /// The state after a look. `lacks_disk` tells whether a write has failed for want of room, and the disk has had none for
    /// the reserve since.
    fn after(self, sizes: Sizes, bytes_max: Option<u64>, lacks_disk: bool) -> Self {
        let free_min = if self == Room::DiskFull { FREE_AGAIN } else { FREE_LEFT };
        let fits_in_file = sizes.free >= free_min && sizes.log >= LOG_BYTES;
        if bytes_max.is_some_and(|bytes_max| is_over(sizes.used, bytes_max, self == Room::AtLimit)) {
            Room::AtLimit
        } else if lacks_disk && !fits_in_file {
            Room::DiskFull
        } else {
            Room::Left
        }
    }
}

/// The room of a store, as its writer knows it.
#[derive(Debug)]
pub(super) struct StoreRoom {
    room: Room,
    why: WhyFull,
    bytes_max: Option<u64>,
    reserve: Reserve,
    /// The files that grow.
    files: [PathBuf; 2],
    /// Why a write failed for want of room, until that is dealt with.
    lacked: Option<String>,
    /// Whether the reserve is not there because the disk has no room.
    lacks_disk: bool,
    /// Bytes of records since the last look.
    appended: u64,
    looked: Option<Instant>,
}

impl StoreRoom {
    pub(super) fn new(store: &Path, reserve: ByteSize, bytes_max: Option<u64>) -> Self {
        let real = real_path(store);
        let log = beside(&real, "-wal");
        Self {
            room: Room::Left,
            why: None,
            bytes_max,
            reserve: Reserve::of(store, reserve),
            files: [real, log],
            lacked: None,
            lacks_disk: false,
            appended: 0,
            looked: None,
        }
    }

    /// Refuses a command that there is no room for; `ended` says how much a transaction has in it that the command ends.
    pub(super) fn admit(&self, command: &Command, ended: impl Fn() -> usize) -> Result<(), Refused> {
        match self.room {
            Room::Left => Ok(()),
            // The reserve is for the ends of many transactions, not of a few large ones, and for deletions.
            Room::DiskFull if ended() > ENDED_MAX => {
                Err(Refused::new(ErrorCode::CoordinatorNotAvailable, DISK_FULL))
            }
            Room::DiskFull => refuse_growth(command, DISK_FULL),
            Room::AtLimit => refuse_growth(command, AT_LIMIT),
        }
    }

    /// Whether records are refused because the disk is full.
    pub(super) fn is_disk_full(&self) -> bool {
        self.room == Room::DiskFull
    }

    /// Free pages that are not returned to the disk while the reserve is missing: appends need them.
    pub(super) fn pages_kept(&self) -> i64 {
        if self.lacks_disk { (2 * FREE_AGAIN / PAGE_BYTES) as i64 } else { 0 }
    }

    /// Counts bytes of records that were appended.
    pub(super) fn appended(&mut self, bytes: usize) {
        self.appended += bytes as u64;
    }

    /// Whether an error comes from want of room. SQLite's code alone does not tell for quotas and limits.
    pub(super) fn is_lack(&self, error: &rusqlite::Error) -> bool {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => true,
            Some(rusqlite::ErrorCode::SystemIoFailure) => !self.reserve.can_grow(self.longest()),
            _ => false,
        }
    }

    /// Whether the files can grow, as far as that is worth a look: a store without a reserve finds out when it writes.
    fn can_grow(&self) -> bool {
        self.reserve.bytes().0 == 0 || self.reserve.can_grow(self.longest())
    }

    /// The length of the longest file.
    fn longest(&self) -> u64 {
        self.lengths().into_iter().max().unwrap_or(0)
    }

    /// Bytes that the write-ahead log has or can get. Only while the disk lacks room somebody has to know.
    fn log_bytes(&self) -> u64 {
        let free = if self.lacks_disk { self.reserve.free_on_disk() } else { None };
        let [_, log] = self.lengths();
        // What is left of the reserve is let go for it.
        free.map_or(u64::MAX, |free| free.saturating_add(log).saturating_add(self.reserve.held()))
    }

    fn lengths(&self) -> [u64; 2] {
        self.files.each_ref().map(|file| std::fs::metadata(file).map_or(0, |metadata| metadata.len()))
    }

    /// Remembers a failure if it comes from want of room.
    pub(super) fn note(&mut self, error: &rusqlite::Error) {
        if self.is_lack(error) {
            self.lacked = Some(error.to_string());
        }
    }

    fn is_look_due(&self) -> bool {
        let has_bound = self.bytes_max.is_some() || self.lacks_disk;
        if self.appended >= if has_bound { LOOK_BYTES } else { LOOK_BYTES_AT_EASE } {
            return true;
        }
        let is_open = self.room != Room::Left || self.lacks_disk;
        let every = if is_open { LOOK_EVERY } else { LOOK_EVERY_AT_EASE };
        self.looked.is_none_or(|looked| looked.elapsed() >= every)
    }

    /// Goes on to another state; the cause of a full disk is the error of a write, if one has failed.
    fn turn(&mut self, room: Room, cause: &str) {
        if self.room == room {
            return;
        }
        self.room = room;
        self.why = match room {
            Room::Left => None,
            Room::AtLimit => self.bytes_max.map(why_at_limit),
            Room::DiskFull => Some(self.why_disk_full(cause).into()),
        };
    }

    fn why_disk_full(&self, cause: &str) -> String {
        let store = self.files[0].display();
        let reserve = match self.reserve.bytes() {
            ByteSize(0) => "as far as they find room".to_owned(),
            bytes => format!("in a reserve of {bytes}"),
        };
        format!(
            "the store {store} has no free space left ({cause}): clients that produce or create topics get KAFKA_STORAGE_ERROR, while deletions, retention, offsets and groups go on {reserve}; make room on the disk, raise the limit on the file's size if there is one, or delete topics or records"
        )
    }

    /// Keeps what room there is for the next start.
    pub(super) fn close(&self) {
        self.reserve.keep_what_is_left();
    }
}

/// How long the writer waits for readers otherwise: rusqlite's default.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl Committer {
    /// Makes the reserve. A disk that has no room for it counts as full from the start.
    pub(super) fn make_reserve(&mut self) {
        let has_room = self.room.reserve.make() && self.room.can_grow();
        self.room.lacks_disk = !has_room;
        self.look();
    }

    pub(super) fn is_reserve_growing(&self) -> bool {
        self.room.reserve.is_growing()
    }

    /// Writes a piece of the reserve.
    pub(super) fn grow_reserve(&mut self) {
        if !self.room.reserve.grow() {
            self.room.reserve.let_go();
            self.room.lacks_disk = true;
            self.look();
        }
    }

    /// Whether the disk is full and has less room than a fold of the journal may need. It would use up what deletions need,
    /// and get nowhere.
    pub(super) fn lacks_room_to_fold(&self) -> bool {
        let needed = (self.fold.bytes() as u64).saturating_add(LOG_BYTES);
        let has_room = |sizes: Sizes| sizes.free.saturating_add(sizes.log) >= needed;
        self.room.is_disk_full() && self.sizes().is_ok_and(|sizes| !has_room(sizes))
    }

    /// Decides commands and makes them durable. If there is no room for all of them, those that add are refused, and the
    /// others made durable.
    pub(super) fn commit_within_room(&mut self, commands: &[Command]) -> Result<Vec<Outcome>, StoreError> {
        if self.room.room != Room::Left
            && self.room.is_look_due()
            && commands.iter().any(|command| growth(command).is_some())
        {
            self.look();
        }
        let committed = self.commit(commands);
        if committed.is_ok() || self.room.lacked.is_none() {
            return committed;
        }
        self.let_reserve_go();
        self.commit(commands)
    }

    /// Deals with what the last job has found out about room, and looks at it from time to time.
    pub(super) fn tend_room(&mut self) {
        if self.room.lacked.is_some() {
            self.let_reserve_go();
        } else if self.room.is_look_due() {
            self.look();
        }
    }

    /// Folds the whole journal when the store is closed. What there is no room for stays in the journal: the next start reads
    /// it.
    pub(super) fn fold_at_close(&mut self) -> Result<(), StoreError> {
        let folded = self.fold_all();
        if folded.is_ok() || self.room.lacked.is_none() {
            return folded;
        }
        self.let_reserve_go();
        self.fold_all().or_else(|error| {
            if self.room.lacked.is_none() {
                return Err(error);
            }
            warn!("{error}; nothing is lost: the next start reads the journal");
            Ok(())
        })
    }

    /// Lets the reserve go after a write has failed for want of room. That a look finds free pages must not take records
    /// again at once: the write has failed nevertheless.
    fn let_reserve_go(&mut self) {
        let cause = self.room.lacked.take().unwrap_or_default();
        self.room.reserve.let_go();
        self.room.lacks_disk = true;
        self.checkpoint();
        self.room.turn(Room::DiskFull, &cause);
        self.room.looked = Some(Instant::now());
        self.shared.room.tell(self.room.why.clone());
    }

    /// Copies the write-ahead log into the file, and gives its room back, unless a reader needs it at this moment.
    fn checkpoint(&self) {
        let copied = self
            .connection
            .busy_timeout(Duration::ZERO)
            .and_then(|()| self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        if let Err(error) = copied {
            debug!(%error, "the write-ahead log could not be copied into the store; it is tried again");
        }
        // It only sets a number.
        let _ = self.connection.busy_timeout(BUSY_TIMEOUT);
    }

    /// Looks at the room that there is.
    fn look(&mut self) {
        self.room.looked = Some(Instant::now());
        self.room.appended = 0;
        let Ok(sizes) = self.sizes() else { return };
        if self.room.lacks_disk {
            let longest = self.room.longest();
            self.room.lacks_disk = !self.room.reserve.make_again(longest);
        }
        let room = self.room.room.after(sizes, self.room.bytes_max, self.room.lacks_disk);
        self.room.turn(room, "less than disk_reserve asks for");
        self.shared.room.holds(sizes.used);
        self.shared.room.tell(self.room.why.clone());
    }

    fn sizes(&self) -> rusqlite::Result<Sizes> {
        let number = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
        let pages = number("PRAGMA page_count")? as u64;
        let free = number("PRAGMA freelist_count")? as u64;
        let page = number("PRAGMA page_size")? as u64;
        Ok(Sizes { used: pages.saturating_sub(free) * page, free: free * page, log: self.room.log_bytes() })
    }
}
