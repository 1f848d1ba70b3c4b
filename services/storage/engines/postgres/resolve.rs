//! What became of a transaction whose COMMIT was sent and never answered.

use std::time::{Duration, Instant};

use super::connect::Server;
use super::errors::failed;
use crate::engines::StoreError;

/// How long it is asked for.
const DEADLINE: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(50);

const STATUS: &str = "SELECT pg_xact_status($1::text::xid8)";

/// How a transaction has ended.
pub(super) enum Fate {
    Committed,
    RolledBack,
    /// It could not be found out. The sentence says so to whoever waits for it.
    Unknown(StoreError),
}

/// Asks the server for the state of a transaction, until it has ended.
pub(super) async fn fate(server: &Server, id: &str) -> Fate {
    let begun = Instant::now();
    let mut why = StoreError("it is still in progress".to_owned());
    while begun.elapsed() < DEADLINE {
        match status(server, id).await {
            Ok(Some(status)) if status == "committed" => return Fate::Committed,
            Ok(Some(status)) if status == "aborted" => return Fate::RolledBack,
            Ok(_) => {}
            Err(error) => why = error,
        }
        tokio::time::sleep(EVERY).await;
    }
    Fate::Unknown(StoreError(format!(
        "the connection to Postgres was lost while the transaction {id} was committed, and whether it was cannot be found out: {why}"
    )))
}

async fn status(server: &Server, id: &str) -> Result<Option<String>, StoreError> {
    let session = server.connect().await?;
    let rows = session.query(STATUS, &[&id]).await.map_err(|error| failed("asking", &error))?;
    Ok(rows.first().and_then(|row| row.get(0)))
}
