//! Checks that each partition number belongs to one log, and that nothing of a log that is in use is garbage.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::schema::{WHOLE_LOG, number_of, rows_of};
use super::verify::Partition;
use crate::engines::verified::VerifyReport;

/// Checks numbers, garbage and the journal's counter. `last_seq` is the last row of the journal.
pub(super) fn verify_numbers(
    connection: &Connection,
    partitions: &BTreeMap<u32, Partition>,
    last_seq: i64,
    report: &mut VerifyReport,
) -> rusqlite::Result<()> {
    let numbers = |sql: &str| -> rusqlite::Result<BTreeSet<u32>> {
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    for number in numbers("SELECT number FROM numbers")? {
        if let Some(partition) = partitions.get(&number) {
            report.fault(format!("{} has number {number}, which was given back", partition.key));
        }
    }
    let counter = |name: &str| -> rusqlite::Result<i64> {
        connection.query_row("SELECT value FROM counters WHERE name = ?1", [name], |row| row.get(0))
    };
    let next = counter("next_number")?;
    if let Some((number, partition)) =
        partitions.last_key_value().filter(|(last, _)| i64::from(**last) >= next)
    {
        report.fault(format!("{} has number {number}, but the next new one is {next}", partition.key));
    }
    // What is parked is in none of the rows that are to be folded.
    let first = "SELECT min(seq) FROM journal WHERE seq > 0";
    let first: Option<i64> = connection.query_row(first, [], |row| row.get(0))?;
    let folded = counter("folded_seq")?;
    if first.is_some_and(|first| first <= folded) || folded > last_seq {
        report
            .fault(format!("the journal says that it is folded up to row {folded}, and begins at {first:?}"));
    }
    verify_garbage(connection, partitions, report)?;
    let mut known = numbers("SELECT number FROM garbage")?;
    known.extend(partitions.keys());
    for table in ["batches", "blocks"] {
        for number in used_numbers(connection, table)?.difference(&known) {
            report.fault(format!("{table} has rows of partition number {number}, which nothing has"));
        }
    }
    Ok(())
}

fn verify_garbage(
    connection: &Connection,
    partitions: &BTreeMap<u32, Partition>,
    report: &mut VerifyReport,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT number, before_offset FROM garbage")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (number, before): (u32, i64) = (row.get(0)?, row.get(1)?);
        let Some(Partition { key, document, .. }) = partitions.get(&number) else { continue };
        if before == WHOLE_LOG {
            report.fault(format!("{key} is in use, and its log is garbage"));
        } else if before > document.log_start {
            let start = document.log_start;
            report.fault(format!("{key} begins at {start}, but all before {before} is garbage"));
        }
    }
    Ok(())
}

/// The numbers that a table has rows of, one look-up each.
fn used_numbers(connection: &Connection, table: &str) -> rusqlite::Result<BTreeSet<u32>> {
    let mut statement = connection.prepare(&format!("SELECT min(id) FROM {table} WHERE id > ?1"))?;
    let (mut used, mut after) = (BTreeSet::new(), -1);
    while let Some(id) = statement.query_row(params![after], |row| row.get::<_, Option<i64>>(0))? {
        used.insert(number_of(id));
        after = rows_of(number_of(id)).1;
    }
    Ok(used)
}
