//! Copies a store, which a broker may have open.

use std::fmt;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::reader::outside;
use super::schema::failed;

/// The size of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupReport {
    /// SQLite's pages.
    pub pages: u64,
    /// Bytes of the copy.
    pub bytes: u64,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copied {} pages, {} bytes", self.pages, self.bytes)
    }
}

/// Pages copied between two calls of `progress`.
const STEP_PAGES: i32 = 256;

/// Copies the current state of the store at `source` to a new file.
///
/// # Errors
/// A sentence that says what failed; a partial copy is removed.
pub fn backup(
    source: &Path,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<BackupReport, String> {
    if target.exists() {
        return Err(format!(
            "{} exists already; name a new file, a backup overwrites nothing",
            target.display()
        ));
    }
    let from = outside(source).map_err(|error| error.0)?;
    let copied = copy(&from, target, progress).map_err(|error| failed("copying", &error).0);
    if copied.is_err() && target.exists() {
        std::fs::remove_file(target).map_err(|error| {
            format!(
                "the backup failed, and its unfinished file {} cannot be removed: {error}",
                target.display()
            )
        })?;
    }
    copied
}

fn copy(
    from: &Connection,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> rusqlite::Result<BackupReport> {
    // A read transaction pins a snapshot. Without it, every commit of the broker would restart the copy.
    from.execute_batch("BEGIN")?;
    from.query_row("SELECT count(*) FROM garbage", [], |row| row.get::<_, i64>(0))?;
    let page_bytes: i64 = from.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let mut to = Connection::open(target)?;
    let pages = {
        let steps = Backup::new(from, &mut to)?;
        loop {
            let step = steps.step(STEP_PAGES)?;
            let state = steps.progress();
            progress((state.pagecount - state.remaining) as u64, state.pagecount as u64);
            match step {
                StepResult::Done => break state.pagecount as u64,
                StepResult::More => {}
                // Another process has the file locked for a moment.
                _ => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
    };
    from.execute_batch("COMMIT")?;
    to.close().map_err(|(_, error)| error)?;
    Ok(BackupReport { pages, bytes: pages * page_bytes as u64 })
}
