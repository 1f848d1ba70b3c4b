//! Texts of documents, the long ones apart.
//!
//! A search for a key compares whole rows of `documents`, and reads all of a row that does not fit on its page. Beside a
//! document of a megabyte (a member with ten thousand partitions has one) each look-up of a key close to it, there or not,
//! would read that megabyte. So a long text is a row of `texts`, and `documents` has its number; the view `whole` has both.

use rules::documents::{Key, Prefix};
use rusqlite::{Connection, params};

/// Longer texts are kept apart: several rows of shorter ones fit on a page. Few are short in unit tests.
const LONG_BYTES: usize = if cfg!(test) { 200 } else { 4 << 10 };

/// What a file of format 3 has in addition. A text never begins with `@`: that stands for the number of one in `texts`.
pub(super) const CREATE_TEXTS: &str = "
    CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
    CREATE VIEW whole AS SELECT key, CASE WHEN value >= '@' AND value < 'A'
        THEN (SELECT text FROM texts WHERE id = CAST(substr(documents.value, 2) AS INTEGER))
        ELSE value END AS value FROM documents;
";

/// Writes the text of a document, in place of an earlier one.
pub(super) fn put_text(connection: &Connection, key: &Key, text: &str) -> rusqlite::Result<()> {
    forget_long(connection, key)?;
    let sql = "INSERT INTO documents VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2";
    let mut put = connection.prepare_cached(sql)?;
    if text.len() <= LONG_BYTES {
        put.execute([key.as_str(), text])?;
    } else {
        connection.prepare_cached("INSERT INTO texts (text) VALUES (?1)")?.execute([text])?;
        put.execute(params![key.as_str(), format!("@{}", connection.last_insert_rowid())])?;
    }
    Ok(())
}

/// Deletes a document, if it is there.
pub(super) fn delete_text(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    forget_long(connection, key)?;
    connection.prepare_cached("DELETE FROM documents WHERE key = ?1")?.execute([key.as_str()])?;
    Ok(())
}

/// Deletes all documents with a prefix.
pub(super) fn delete_texts(connection: &Connection, prefix: &Prefix) -> rusqlite::Result<()> {
    let end = prefix.end();
    let range = [prefix.as_str(), end.as_str()];
    let sql = "DELETE FROM texts WHERE id IN (SELECT CAST(substr(value, 2) AS INTEGER) FROM documents
         WHERE key >= ?1 AND key < ?2 AND value >= '@' AND value < 'A')";
    connection.prepare_cached(sql)?.execute(range)?;
    connection.prepare_cached("DELETE FROM documents WHERE key >= ?1 AND key < ?2")?.execute(range)?;
    Ok(())
}

fn forget_long(connection: &Connection, key: &Key) -> rusqlite::Result<()> {
    let sql = "DELETE FROM texts WHERE id = (SELECT CAST(substr(value, 2) AS INTEGER) FROM documents
         WHERE key = ?1 AND value >= '@' AND value < 'A')";
    connection.prepare_cached(sql)?.execute([key.as_str()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::sqlite::schema::CREATE;

    #[test]
    fn long_texts_are_kept_apart_and_leave_nothing_behind() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(CREATE).unwrap();
        connection.execute_batch(CREATE_TEXTS).unwrap();
        let (key, long) = (Key::from_text("group/a"), "x".repeat(100_000));
        let read = |from: &str| {
            let sql = format!("SELECT value FROM {from} WHERE key = 'group/a'");
            connection.query_row(&sql, [], |row| row.get::<_, String>(0))
        };
        let texts = || connection.query_row("SELECT count(*) FROM texts", [], |row| row.get::<_, i64>(0));
        put_text(&connection, &Key::from_text("group/b"), &long).unwrap();
        for text in [&long, "{}", &long, &"y".repeat(9_000)] {
            put_text(&connection, &key, text).unwrap();
            assert_eq!(read("whole").unwrap(), text);
            assert!(read("documents").unwrap().len() < 20);
            assert_eq!(texts().unwrap(), 1 + i64::from(text.len() > LONG_BYTES));
        }
        delete_text(&connection, &key).unwrap();
        assert!(read("whole").is_err());
        assert_eq!(texts().unwrap(), 1, "another document has it");
    }
}
