//! Numbers of logs and of the bytes of batches. The server hands them out in ranges, so that no row of it is hot; those of a
//! commit that fails are never used.

use std::ops::Range;

use tokio_postgres::Error;

use super::session::Session;

const LOGS: &str = "SELECT nextval('log_ids') FROM generate_series(1, $1::bigint)";
const DATA: &str = "SELECT nextval('data_ids') FROM generate_series(1, $1::bigint)";

/// As the sequences of `schema.sql` count.
const LOGS_AT_ONCE: u64 = 64;
const DATA_AT_ONCE: u64 = 4_096;

/// The ids that a writer has left.
#[derive(Debug)]
pub(super) struct Ids {
    pub(super) logs: Supply,
    pub(super) data: Supply,
}

/// The ids of one kind.
#[derive(Debug)]
pub(super) struct Supply {
    sql: &'static str,
    at_once: u64,
    ranges: Vec<Range<i64>>,
}

impl Default for Ids {
    fn default() -> Self {
        let supply = |sql, at_once| Supply { sql, at_once, ranges: Vec::new() };
        Self { logs: supply(LOGS, LOGS_AT_ONCE), data: supply(DATA, DATA_AT_ONCE) }
    }
}

impl Supply {
    /// Sees to it that so many are left.
    pub(super) async fn provide(&mut self, session: &Session, count: usize) -> Result<(), Error> {
        let left: u64 = self.ranges.iter().map(|range| range.end.abs_diff(range.start)).sum();
        let missing = (count as u64).saturating_sub(left);
        if missing == 0 {
            return Ok(());
        }
        let ranges = missing.div_ceil(self.at_once) as i64;
        let rows = session.query(self.sql, &[&ranges]).await?;
        let range = |first: i64| first..first + self.at_once as i64;
        self.ranges.splice(0..0, rows.iter().rev().map(|row| range(row.get(0))));
        Ok(())
    }

    /// Takes one; `None` if more are taken than were provided.
    pub(super) fn take(&mut self) -> Option<i64> {
        let range = self.ranges.last_mut()?;
        let id = range.next();
        if range.is_empty() {
            self.ranges.pop();
        }
        id
    }
}
