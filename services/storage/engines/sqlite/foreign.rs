//! Recognizes what is not a Yagura store, before anything is made beside it.

use std::io::ErrorKind;
use std::path::Path;

use rusqlite::Connection;

use super::lock::DatabaseFile;
use super::real_path::{beside, real_path};
use super::schema::APPLICATION_ID;
use crate::engines::StoreError;

/// The size of the header of a SQLite file, and its first bytes.
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where the header has the schema's version, which is 0 in an empty file, and the application id.
const SCHEMA_VERSION_AT: usize = 40;
const APPLICATION_ID_AT: usize = 68;

/// Refuses a folder, and a file that is certainly no store. A file that is not there, or empty, is no store yet.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), StoreError> {
    let shown = path.display();
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
    if metadata.is_dir() {
        return Err(StoreError(format!(
            "{shown} is a folder; name a file in it, such as {}",
            path.join("yagura.db").display()
        )));
    }
    if !metadata.is_file() {
        return Err(StoreError(format!("{shown} is not a file; name a file for the store")));
    }
    let mut header = [0; HEADER_BYTES];
    match DatabaseFile::open(path).and_then(|file| file.read_head(&mut header)) {
        Ok(()) if header.starts_with(MAGIC) => {}
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
            return Err(StoreError(format!("the store {shown} cannot be read: {error}")));
        }
        Err(_) if metadata.len() == 0 => return Ok(()),
        _ => return Err(not_a_store(path)),
    }
    let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (application, schema_version) = (number(APPLICATION_ID_AT), number(SCHEMA_VERSION_AT));
    let is_new = application == 0 && schema_version == 0;
    // What a WAL has of the first page is newer than the file: SQLite is asked later.
    if application == APPLICATION_ID || is_new || has_wal(path) {
        return Ok(());
    }
    Err(of_another_program(path))
}

fn has_wal(path: &Path) -> bool {
    let wal = beside(&real_path(path), "-wal");
    std::fs::metadata(wal).is_ok_and(|wal| wal.len() > 0)
}

/// Whether an open file is another program's.
pub(super) fn is_of_another_program(connection: &Connection) -> bool {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
    let is_other = pragma("application_id").is_ok_and(|id| id != APPLICATION_ID);
    is_other && pragma("schema_version").is_ok_and(|version| version != 0)
}

/// The error for a file that is not one of SQLite's.
pub(super) fn not_a_store(path: &Path) -> StoreError {
    StoreError(format!(
        "{} is not a Yagura store, or its first page is damaged; restore it from a backup, or name another file",
        path.display()
    ))
}

/// The error for a file that is one of SQLite's, and not ours.
pub(super) fn of_another_program(path: &Path) -> StoreError {
    StoreError(format!(
        "{} is a SQLite file of another program; name another file for the store",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::open::open;
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("yagura-foreign-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn files(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn refusal(path: &Path) -> String {
        open(path).map(drop).unwrap_err().0
    }

    #[test]
    fn what_is_not_a_store_gets_nothing_beside_it() {
        let home = folder("refused");
        std::fs::create_dir(home.join("folder")).unwrap();
        std::fs::write(home.join("short"), "hello\n").unwrap();
        std::fs::write(home.join("long"), [b'x'; 5_000]).unwrap();
        let other = Connection::open(home.join("other.db")).unwrap();
        other.execute_batch("CREATE TABLE t (x)").unwrap();
        drop(other);
        let before = files(&home);
        assert!(refusal(&home.join("folder")).contains("is a folder; name a file in it"));
        for file in ["short", "long"] {
            assert!(refusal(&home.join(file)).contains("is not a Yagura store"), "{file}");
        }
        assert!(refusal(&home.join("other.db")).contains("another program"));
        assert_eq!(files(&home), before);
        std::fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn a_file_that_another_program_has_open_gets_nothing_beside_it() {
        let home = folder("in-use");
        let path = home.join("other.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (x)").unwrap();
        let before = files(&home);
        assert!(before.contains(&"other.db-wal".to_owned()), "{before:?}");
        assert!(refusal(&path).contains("another program"));
        assert_eq!(files(&home), before);
        drop(other);
        std::fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn an_empty_file_becomes_a_store() {
        let home = folder("empty");
        let path = home.join("y.db");
        std::fs::write(&path, "").unwrap();
        drop(open(&path).unwrap());
        assert!(refuse_foreign(&path).is_ok());
        drop(open(&path).unwrap());
        std::fs::remove_dir_all(&home).unwrap();
    }
}
