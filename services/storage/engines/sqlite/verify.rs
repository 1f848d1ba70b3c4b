//! Reads a whole store and checks its consistency.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use kernel::TopicId;
use rules::documents::{Document, DocumentKind, Key, PartitionDocument, TopicDocument, read};
use rusqlite::Connection;

use super::logs::Log;
use super::open;
use super::reader::outside;
use super::replay::{Replayed, replay};
use super::scan::{END, behind, step_over};
use super::schema::{VERIFY_ADVICE, failed, is_damage};
use super::state::Unfolded;
use super::verify_log::verify_log;
use super::verify_numbers::verify_numbers;
use crate::engines::StoreError;
use crate::engines::verified::{VerifyReport, verify_documents};

/// Checks SQLite's own structure, every batch's CRC and records, that offsets are dense, that the index says of each batch what it is,
/// that documents match the logs and each other, and that retention will find them. `progress` gets the rows done and the total.
///
/// # Errors
/// The file cannot be read.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, String> {
    let connection = outside(path).map_err(found)?;
    run(&connection, progress).map_err(found)
}

/// An error's text, without the advice to do what is being done.
fn found(error: StoreError) -> String {
    match error.0.strip_suffix(VERIFY_ADVICE) {
        Some(text) => format!("{text}; the file is damaged: restore a backup, or salvage what can be read"),
        None => error.0,
    }
}

fn run(connection: &Connection, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, StoreError> {
    let reading = |error: rusqlite::Error| failed("reading", &error);
    open::check_format(connection)?;
    let mut report = VerifyReport::default();
    // One transaction, so that all reads see the same snapshot while a broker writes.
    connection.execute_batch("BEGIN").map_err(reading)?;
    if let Err(error) = verify_structure(connection, &mut report) {
        report.fault(format!("SQLite: {error}"));
    }
    // What is damaged is named, and the rest is checked.
    let replayed = replay(connection).map_err(|error| report.fault(found(error))).ok();
    let (unfolded, fold) = match replayed {
        Some(Replayed { unfolded, fold, unreadable, .. }) => {
            unreadable.into_iter().for_each(|(_, error)| report.fault(found(error)));
            (unfolded, fold)
        }
        None => Default::default(),
    };
    let all = documents(connection, &unfolded, &mut report).map_err(reading)?;
    verify_documents(&all, &mut report);
    let total = connection.query_row("SELECT count(*) FROM batches", [], |row| row.get::<_, i64>(0));
    let total = total.unwrap_or(0) as u64;
    let partitions = partitions(connection, &all, &unfolded, &mut report);
    if let Err(error) = verify_numbers(connection, &partitions, fold.last_seq(), &mut report) {
        report.fault(format!("partition numbers and garbage cannot be checked: {error}"));
    }
    for (number, partition) in partitions {
        let checked =
            verify_log(connection, number, &partition, &mut report, &mut |done| progress(done, total));
        if let Err(error) = checked {
            report.fault(format!("{}: {error}", partition.key));
        }
    }
    progress(total, total);
    Ok(report)
}

/// Has SQLite check its own structure.
fn verify_structure(connection: &Connection, report: &mut VerifyReport) -> rusqlite::Result<()> {
    let mut check = connection.prepare("PRAGMA integrity_check(20)")?;
    for line in check.query_map([], |row| row.get::<_, String>(0))? {
        let line = line?;
        if line != "ok" {
            report.fault(format!("SQLite: {line}"));
        }
    }
    Ok(())
}

/// A partition according to its document and log.
pub(super) struct Partition {
    /// How faults name it: by its topic, if that is known, and its key.
    pub(super) key: String,
    pub(super) document: PartitionDocument,
    pub(super) log: Log,
}

/// The documents that can be read.
fn documents(
    connection: &Connection,
    unfolded: &Unfolded,
    report: &mut VerifyReport,
) -> rusqlite::Result<HashMap<Key, Document>> {
    let (mut all, mut from) = (HashMap::new(), Vec::new());
    while let Err(error) = documents_from(connection, &mut from, unfolded, &mut all, report) {
        if !is_damage(&error) {
            return Err(error);
        }
        let (key, next) = step_over(connection, &from, END);
        report.fault(format!(
            "the document {key}, or the page that it and others are on, cannot be read: {error}"
        ));
        let Some(next) = next else { break };
        from = next;
    }
    let changed = unfolded.after(None);
    let before = all.len();
    all.extend(changed.filter_map(|(key, document)| Some((key.clone(), document.clone()?))));
    report.documents += (all.len() - before) as u64;
    Ok(all)
}

/// Reads documents up to the first that cannot be read: `from` is moved behind each that was.
fn documents_from(
    connection: &Connection,
    from: &mut Vec<u8>,
    unfolded: &Unfolded,
    all: &mut HashMap<Key, Document>,
    report: &mut VerifyReport,
) -> rusqlite::Result<()> {
    let sql = "SELECT key, value FROM whole WHERE key >= CAST(?1 AS TEXT) ORDER BY key";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([&from[..]])?;
    while let Some(row) = rows.next()? {
        let key = Key::from_text(row.get_ref(0)?.as_str()?);
        if unfolded.document(&key).is_none() {
            let document = read(&key, row.get_ref(1)?.as_str()?);
            report.documents += 1;
            match document {
                Ok(document) => drop(all.insert(key.clone(), document)),
                Err(error) => report.fault(format!("the document {key} cannot be read: {error}")),
            }
        }
        *from = behind(&key);
    }
    Ok(())
}

/// The partitions by number.
fn partitions(
    connection: &Connection,
    all: &HashMap<Key, Document>,
    unfolded: &Unfolded,
    report: &mut VerifyReport,
) -> BTreeMap<u32, Partition> {
    let topics = all.values().filter_map(Document::get::<TopicDocument>);
    let names: HashMap<TopicId, &str> = topics.map(|topic| (topic.id, &*topic.name)).collect();
    let mut partitions = BTreeMap::<u32, Partition>::new();
    for (key, document) in all {
        let partition = document.get::<PartitionDocument>().zip(PartitionDocument::parse_key(key));
        let Some((document, at)) = partition else { continue };
        let name = names.get(&at.topic).map(|topic| format!("{topic}-{} ({key})", at.partition));
        let key = name.unwrap_or_else(|| key.to_string());
        let log = match unfolded.logs.get(&at) {
            Some(log) => log.clone(),
            None => match Log::load(connection, at) {
                Ok(log) => log,
                Err(error) => {
                    report.fault(format!("{key}: its log cannot be read: {error}"));
                    continue;
                }
            },
        };
        let Some(log) = log else {
            report.fault(format!("{key} has no log"));
            continue;
        };
        let number = log.number;
        let partition = Partition { key: key.clone(), document: *document, log };
        if let Some(other) = partitions.insert(number, partition) {
            report.fault(format!("{key} and {} have the same number", other.key));
        }
    }
    partitions
}

#[cfg(test)]
mod tests {
    use super::super::schema::damaged;
    use super::*;

    #[test]
    fn verification_does_not_advise_verification() {
        let error = failed("reading its journal", &damaged("a page is torn"));
        assert!(error.0.contains("store verify"), "{error}");
        let text = found(error);
        assert!(!text.contains("store verify") && text.contains("restore a backup"), "{text}");
    }
}
