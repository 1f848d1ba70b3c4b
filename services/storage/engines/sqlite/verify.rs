//! Reads a whole store and checks its consistency.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::records::Batch;
use rules::documents::{Document, DocumentKind, Key, PartitionDocument, TopicDocument, TopicName, read};
use rusqlite::Connection;

use super::logs::{LogFacts, Logs};
use super::reader::outside;
use super::schema::{failed, unpack};
use crate::engines::StoreError;

/// What was read, and the faults found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Documents.
    pub documents: u64,
    /// Record batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// A sentence per fault; empty if the store is sound.
    pub faults: Vec<String>,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { documents, batches, records, bytes, faults } = self;
        write!(f, "{documents} documents, {batches} batches, {records} records, {bytes} bytes: ")?;
        match faults.len() {
            0 => f.write_str("all is well"),
            count => {
                write!(f, "{count} fault(s)")?;
                faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
            }
        }
    }
}

/// Limit on listed faults; a badly damaged file would list every row.
const FAULTS_MAX: usize = 100;

/// Checks SQLite's own structure, every batch's CRC, that offsets are dense, and that documents match the
/// logs. `progress` gets the rows done and the total.
///
/// # Errors
/// The file cannot be read.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, String> {
    let connection = outside(path).map_err(|error| error.0)?;
    run(&connection, progress).map_err(|error| error.0)
}

fn run(connection: &Connection, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, StoreError> {
    let reading = |error: rusqlite::Error| failed("reading", &error);
    let mut report = VerifyReport::default();
    // One transaction, so that all reads see the same snapshot while a broker writes.
    connection.execute_batch("BEGIN").map_err(reading)?;
    let mut check = connection.prepare("PRAGMA integrity_check(20)").map_err(reading)?;
    let lines = check.query_map([], |row| row.get::<_, String>(0)).map_err(reading)?;
    for line in lines {
        let line = line.map_err(reading)?;
        if line != "ok" {
            report.fault(format!("SQLite: {line}"));
        }
    }
    let partitions = documents(connection, &mut report).map_err(reading)?;
    let logs = batches(connection, &partitions, &mut report, progress).map_err(reading)?;
    compare(&partitions, &logs, &mut report);
    Ok(report)
}

impl VerifyReport {
    fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

/// A partition according to its document.
struct Partition {
    key: Key,
    document: PartitionDocument,
    bytes: u64,
}

/// Partitions by number.
type VerifiedPartitions = HashMap<u32, Partition>;

fn documents(connection: &Connection, report: &mut VerifyReport) -> rusqlite::Result<VerifiedPartitions> {
    let (mut all, mut logs) = (HashMap::new(), Logs::default());
    let mut statement = connection.prepare("SELECT key, value FROM documents")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        report.documents += 1;
        let (key, text): (String, String) = (row.get(0)?, row.get(1)?);
        let key = Key::from_text(&key);
        match logs.load(&key, &text).and_then(|()| read(&key, &text)) {
            Ok(document) => drop(all.insert(key, document)),
            Err(error) => report.fault(format!("the document {key} cannot be read: {error}")),
        }
    }
    for topic in all.values().filter_map(Document::get::<TopicDocument>) {
        let partitions = topic.all_partitions().map(|at| PartitionDocument::key(&at));
        for key in partitions.chain([TopicName::key(&topic.id)]).filter(|key| !all.contains_key(key)) {
            report.fault(format!("topic {} has no document {key}", topic.name));
        }
    }
    Ok(partitions(&all, &logs, report))
}

fn partitions(all: &HashMap<Key, Document>, logs: &Logs, report: &mut VerifyReport) -> VerifiedPartitions {
    let mut partitions = VerifiedPartitions::new();
    for (key, document) in all {
        let facts = |at: TopicPartition| logs.get(at);
        let log = document.get::<PartitionDocument>().zip(PartitionDocument::parse_key(key).and_then(facts));
        let Some((document, LogFacts { number, bytes })) = log else { continue };
        let partition = Partition { key: key.clone(), document: *document, bytes };
        if let Some(other) = partitions.insert(number, partition) {
            report.fault(format!("{key} and {} have the same number", other.key));
        }
    }
    partitions
}

/// A log according to its rows.
#[derive(Default)]
struct VerifiedLog {
    first: Option<i64>,
    next: i64,
    /// Size of the batches that end after the log start offset.
    bytes: u64,
}

fn batches(
    connection: &Connection,
    partitions: &VerifiedPartitions,
    report: &mut VerifyReport,
    progress: &mut dyn FnMut(u64, u64),
) -> rusqlite::Result<HashMap<u32, VerifiedLog>> {
    let total: i64 = connection.query_row("SELECT count(*) FROM batches", [], |row| row.get(0))?;
    let mut logs: HashMap<u32, VerifiedLog> = HashMap::new();
    let mut statement =
        connection.prepare("SELECT id, next_offset, max_timestamp, bytes, data FROM batches ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, base) = unpack(row.get(0)?);
        report.batches += 1;
        progress(report.batches, total as u64);
        // Rows of a deleted topic, and rows before a log start offset, are garbage that is not deleted yet.
        let Some(Partition { key, document, .. }) = partitions.get(&number) else { continue };
        let next: i64 = row.get(1)?;
        let data = Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?);
        report.bytes += data.len() as u64;
        if let Some(fault) = batch_fault(&data, base, next, row.get(2)?, row.get(3)?) {
            report.fault(format!("{key}, the batch at offset {base}: {fault}"));
        }
        report.records += (next - base).max(0) as u64;
        if next <= document.log_start {
            continue;
        }
        let log = logs.entry(number).or_default();
        if log.first.is_some() && log.next != base {
            report.fault(format!("{key}: offsets {} to {} are missing", log.next, base - 1));
        }
        log.first.get_or_insert(base);
        log.next = next;
        log.bytes += data.len() as u64;
    }
    Ok(logs)
}

fn batch_fault(data: &Bytes, base: i64, next: i64, max_timestamp: i64, bytes: i64) -> Option<String> {
    let batch = match Batch::check(data.clone()) {
        Ok(batch) => batch,
        Err(error) => return Some(error.to_string()),
    };
    let row = (base, next, max_timestamp, bytes);
    let own = (batch.base_offset(), batch.next_offset(), batch.max_timestamp(), data.len() as i64);
    (row != own).then(|| format!("its row says {row:?}, the batch itself {own:?}"))
}

fn compare(partitions: &VerifiedPartitions, logs: &HashMap<u32, VerifiedLog>, report: &mut VerifyReport) {
    for (number, Partition { key, document, bytes }) in partitions {
        let empty = VerifiedLog { first: None, next: document.end, bytes: 0 };
        let log = logs.get(number).unwrap_or(&empty);
        if log.first.is_none() && document.log_start != document.end {
            report.fault(format!("{key} has no batches, but ends at {}", document.end));
        }
        if log.first.is_some_and(|first| first > document.log_start) {
            report.fault(format!("{key} begins at {}, but its first batch is later", document.log_start));
        }
        if log.next != document.end {
            report.fault(format!("{key} ends at {}, but its last batch at {}", document.end, log.next));
        }
        if log.bytes != *bytes {
            report.fault(format!("{key} says {bytes} bytes, but its batches have {}", log.bytes));
        }
    }
}
