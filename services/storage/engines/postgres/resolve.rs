//! Whether a transaction was committed whose COMMIT was sent and never answered.
//!
//! Each connection that writes has a row of its own, and each of its transactions sets a number there before all else. So the
//! store itself tells, also where a standby has taken over that does not have the last transactions, and has given their ids
//! to others: `pg_xact_status` would tell of those.

use std::time::{Duration, Instant};

use tokio_postgres::Error;
use uuid::Uuid;

use super::connect::Server;
use super::errors::failed;
use super::session::Session;
use crate::engines::StoreError;

/// How long it is asked for.
const DEADLINE: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(50);
const ADD: &str = "INSERT INTO commits VALUES (gen_random_uuid(), 0) RETURNING writer";
const MARK: &str = "UPDATE commits SET number = $2, since = now() WHERE writer = $1";
/// Nobody asks for one for as long. A connection that finds its row gone is opened anew.
const FORGET: &str = "DELETE FROM commits WHERE since < now() - interval '1 day'";
/// It waits until the transaction has ended that has set the number.
const LAST: &str = "SELECT number FROM commits WHERE writer = $1 FOR UPDATE";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 1] = [MARK];

/// The number of a connection's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    writer: Uuid,
    number: i64,
}

impl Mark {
    /// Makes the row of a connection.
    pub(super) async fn new(session: &Session) -> Result<Self, Error> {
        let rows = session.query(ADD, &[]).await?;
        Ok(Self { writer: rows.first().map(|row| row.get(0)).unwrap_or_default(), number: 0 })
    }

    /// That of the next transaction.
    pub(super) fn next(&mut self) -> Self {
        self.number += 1;
        *self
    }

    /// Sets it, within the transaction; returns whether there is such a row.
    pub(super) async fn set(&self, session: &Session) -> Result<bool, Error> {
        Ok(session.execute(MARK, &[&self.writer, &self.number]).await? == 1)
    }
}

/// Deletes the rows of connections that are gone.
pub(super) async fn forget(session: &Session) -> Result<(), Error> {
    session.execute(FORGET, &[]).await.map(drop)
}

/// How a transaction has ended.
pub(super) enum Fate {
    Committed,
    RolledBack,
    /// It could not be found out. The sentence says so to whoever waits for it.
    Unknown(StoreError),
}

/// Finds out how a transaction has ended, once it has.
pub(super) async fn fate(server: &Server, mark: Mark) -> Fate {
    let (begun, mut why) = (Instant::now(), StoreError(String::new()));
    while begun.elapsed() < DEADLINE {
        match last(server, mark.writer).await {
            // Without the row, what came after it is gone as well.
            Ok(last) if last == Some(mark.number) => return Fate::Committed,
            Ok(_) => return Fate::RolledBack,
            Err(error) => why = error,
        }
        tokio::time::sleep(EVERY).await;
    }
    Fate::Unknown(StoreError(format!(
        "the connection to Postgres was lost at a COMMIT, and whether it was done cannot be found out: {why}"
    )))
}

async fn last(server: &Server, writer: Uuid) -> Result<Option<i64>, StoreError> {
    let session = server.connect().await?;
    let rows = session.query(LAST, &[&writer]).await.map_err(|error| failed("asking", &error))?;
    Ok(rows.first().map(|row| row.get(0)))
}
