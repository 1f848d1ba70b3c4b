//! One broker has a store at a time: it holds a lock of the server for as long as a connection of it lives.
//!
//! Whoever loses it, because the connection was lost, takes it again, unless somebody else has it by then. Commits lock what
//! they change, so that two brokers do no harm to data meanwhile; but each would believe that it alone looks after timeouts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::connect::Server;
use super::errors::failed;
use super::session::Session;
use super::shared::Shared;
use crate::engines::StoreError;

/// How long a new broker waits for one that has just gone.
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// How often the connection is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const TAKE: &str = "SELECT pg_try_advisory_lock(hashtext('yagura store'), hashtext($1))";
/// The session that holds it, which the server may not know yet to be dead.
const OWN: &str = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()";
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid = $1 AND backend_start = ($2::text)::timestamptz";
const HOLDER: &str = "SELECT a.pid, coalesce(host(a.client_addr), 'a local socket'), a.backend_start::text
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database
    WHERE datname = current_database()) AND l.classid::bigint = hashtext('yagura store')::bigint & 4294967295
    AND l.objid::bigint = hashtext($1)::bigint & 4294967295";

/// Takes the store on a connection.
///
/// # Errors
/// Another broker has it.
pub(super) async fn take(session: &Session, schema: &str) -> Result<(), StoreError> {
    if is_taken(session, schema).await? { Ok(()) } else { Err(taken(session, schema).await) }
}

/// Takes the store, unless another broker keeps it for longer than one that has just gone.
async fn is_taken(session: &Session, schema: &str) -> Result<bool, StoreError> {
    let begun = Instant::now();
    while !try_take(session, schema).await? {
        if begun.elapsed() > PATIENCE {
            return Ok(false);
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
    Ok(true)
}

async fn try_take(session: &Session, schema: &str) -> Result<bool, StoreError> {
    let rows = session.query(TAKE, &[&schema]).await.map_err(|error| failed("taking", &error))?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

async fn taken(session: &Session, schema: &str) -> StoreError {
    let holder = session.query(HOLDER, &[&schema]).await.ok();
    let holder = holder.as_ref().and_then(|rows| rows.first()).map(|row| {
        let (pid, host, since): (i32, &str, &str) = (row.get(0), row.get(1), row.get(2));
        format!(" (from {host}, server process {pid}, since {since})")
    });
    StoreError(format!(
        "another broker{} has the store in the schema {schema}, and one at a time can; stop it, or name another schema with ?schema=NAME in the store's URL",
        holder.unwrap_or_default()
    ))
}

/// A session of this broker, as the server knows it.
struct Own {
    pid: i32,
    since: String,
}

async fn own(session: &Session) -> Option<Own> {
    let rows = session.query(OWN, &[]).await.ok()?;
    rows.first().map(|row| Own { pid: row.get(0), since: row.get(1) })
}

/// Keeps the store; returns once another broker has it.
pub(super) async fn keep(mut session: Session, server: Arc<Server>, shared: Arc<Shared>) {
    let mut held = own(&session).await;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !session.is_closed() {
            continue;
        }
        let Ok(next) = server.connect().await else { continue };
        if let Some(Own { pid, since }) = &held {
            // A connection that was cut on this side alone still holds the store. If it has ended, nothing is done.
            drop(next.query(END, &[pid, since]).await);
        }
        match is_taken(&next, server.schema()).await {
            Ok(true) => {
                warn!("the connection to Postgres that holds the store was lost; it is held again");
                held = own(&next).await;
                session = next;
            }
            Ok(false) => return shared.health.fail(taken(&next, server.schema()).await),
            // It is tried again, on another connection.
            Err(error) => warn!(%error, "the Postgres store cannot be held again yet"),
        }
    }
}
