//! What this machine's disk and SQLite give without a broker, `synchronous=FULL`, WAL, in transactions of 1 MiB:
//!
//! - `records`: 1 KiB rows in pages of 4 KiB, which is what a program gets that stores records as they come;
//! - `batches`: 64 KiB rows in pages of 64 KiB and checkpoints of 4 MiB, which is the fastest that we know.
//!
//! Prints megabytes a second and CPU seconds a gigabyte. `benches/run.py` runs it beside the broker.
//!
//! ```text
//! cargo bench --bench raw_sqlite -- records|batches FILE MEGABYTES
//! ```

use std::time::Instant;

use rusqlite::{Connection, params};

const TRANSACTION_BYTES: usize = 1 << 20;

const RECORDS: &str = "PRAGMA page_size=4096;";
const BATCHES: &str = "PRAGMA page_size=65536; PRAGMA wal_autocheckpoint=64; PRAGMA cache_size=-1024;";

fn main() -> rusqlite::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let (settings, row_bytes, path, megabytes) = match arguments.as_slice() {
        [kind, path, megabytes] if kind == "records" => (RECORDS, 1 << 10, path, megabytes),
        [kind, path, megabytes] if kind == "batches" => (BATCHES, 64 << 10, path, megabytes),
        _ => {
            eprintln!("usage: raw_sqlite records|batches FILE MEGABYTES");
            std::process::exit(2);
        }
    };
    let transactions: usize = megabytes.parse().expect("MEGABYTES is a number");
    let connection = Connection::open(path)?;
    connection.execute_batch(settings)?;
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE records (id INTEGER PRIMARY KEY, data BLOB NOT NULL);",
    )?;
    let row = vec![b'x'; row_bytes];
    let rows = TRANSACTION_BYTES / row_bytes;
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    for transaction in 0..transactions {
        connection.execute_batch("BEGIN")?;
        let mut insert = connection.prepare_cached("INSERT INTO records VALUES (?1, ?2)")?;
        for number in 0..rows {
            insert.execute(params![(transaction * rows + number) as i64, &row[..]])?;
        }
        drop(insert);
        connection.execute_batch("COMMIT")?;
    }
    let megabytes = (transactions * TRANSACTION_BYTES) as f64 / 1e6;
    let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
    println!("{:.1} {:.3}", megabytes / took, cpu / megabytes * 1e3);
    Ok(())
}

/// What this process has used so far, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux says what a process used");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("times are numbers");
    (ticks(11) + ticks(12)) / 100.0
}
