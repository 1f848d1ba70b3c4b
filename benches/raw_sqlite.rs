//! What this machine's disk and SQLite give without a broker: 1 KiB records in transactions of 1 MiB, `synchronous=FULL`,
//! WAL, pages of 4 KiB. Prints megabytes a second. `benches/run.py` runs it beside the broker.
//!
//! ```text
//! cargo bench --bench raw_sqlite -- FILE MEGABYTES
//! ```

use std::time::Instant;

use rusqlite::{Connection, params};

const RECORD_BYTES: usize = 1024;
const RECORDS_PER_TRANSACTION: usize = 1024;

fn main() -> rusqlite::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [path, megabytes] = arguments.as_slice() else {
        eprintln!("usage: raw_sqlite FILE MEGABYTES");
        std::process::exit(2);
    };
    let transactions: usize = megabytes.parse().expect("MEGABYTES is a number");
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE records (id INTEGER PRIMARY KEY, data BLOB NOT NULL);",
    )?;
    let record = vec![b'x'; RECORD_BYTES];
    let started = Instant::now();
    for transaction in 0..transactions {
        connection.execute_batch("BEGIN")?;
        let mut insert = connection.prepare_cached("INSERT INTO records VALUES (?1, ?2)")?;
        for row in 0..RECORDS_PER_TRANSACTION {
            insert.execute(params![(transaction * RECORDS_PER_TRANSACTION + row) as i64, &record[..]])?;
        }
        drop(insert);
        connection.execute_batch("COMMIT")?;
    }
    let bytes = (transactions * RECORDS_PER_TRANSACTION * RECORD_BYTES) as f64;
    println!("{:.1}", bytes / started.elapsed().as_secs_f64() / 1e6);
    Ok(())
}
