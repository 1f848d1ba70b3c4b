//! Makes the tables of a store, and brings those of an earlier release up to date.
//!
//! Whoever comes first does it, in one transaction under a lock; ten brokers that start at once wait for each other.

use rules::documents::{Document, DocumentKind, FIRST_LEVEL, LEVEL, StoreLevel};
use tokio_postgres::Error;
use tracing::info;

use super::errors::failed;
use super::session::Session;
use crate::engines::StoreError;

/// The version of the tables that this release makes and needs.
const VERSION: i64 = 2;
const SCHEMA: [&str; 3] = [include_str!("schema.sql"), include_str!("outbox.sql"), include_str!("inbox.sql")];
/// Rows of `locks` (see [`super::locks`]).
const MAKE_LOCKS: &str = "INSERT INTO locks SELECT generate_series(0, $1::int)";
/// Of all Yagura stores in a database; whoever makes one waits for the others.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('yagura'), hashtext('migrate'))";

/// Makes the tables, unless they are there.
///
/// # Errors
/// Something else has the schema, it is of a newer release, or the role may not make it.
pub(super) async fn migrate(session: &Session, schema: &str, stripes: i32) -> Result<(), StoreError> {
    let looking = |error: Error| failed("opening", &error);
    if let Some(version) = version(session, schema).await.map_err(looking)? {
        return check(schema, version);
    }
    session.run("BEGIN").await.map_err(looking)?;
    let made = make(session, schema, stripes).await;
    let end = if made.is_ok() { "COMMIT" } else { "ROLLBACK" };
    // If it cannot be rolled back, the connection is lost, and the server does it.
    let ended = session.run(end).await;
    made?;
    ended.map_err(|error| failed("making the tables of", &error))
}

/// Looks whether the tables are there.
///
/// # Errors
/// They are not, or not those of this release.
pub(super) async fn expect(session: &Session, schema: &str) -> Result<(), StoreError> {
    match version(session, schema).await.map_err(|error| failed("opening", &error))? {
        Some(version) => check(schema, version),
        None => Err(StoreError(format!(
            "there is no store in the schema {schema}; a broker makes it at its first start"
        ))),
    }
}

async fn make(session: &Session, schema: &str, stripes: i32) -> Result<(), StoreError> {
    let making = |error: Error| failed("making the tables of", &error);
    session.run(LOCK).await.map_err(making)?;
    // Somebody else may have been faster.
    if let Some(version) = version(session, schema).await.map_err(making)? {
        return check(schema, version);
    }
    let relations = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1";
    let row = session.client.query_one(relations, &[&schema]).await.map_err(making)?;
    if row.get::<_, i64>(0) > 0 {
        return Err(StoreError(format!(
            "the schema {schema} holds tables of another program; name another with ?schema=NAME in the store's URL"
        )));
    }
    session.run(&format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await.map_err(making)?;
    // Functions keep it, some of which have their owner's rights: nobody's temporary table may stand in for one of the store.
    session.run(&format!("SET LOCAL search_path = {schema}, pg_temp")).await.map_err(making)?;
    for part in SCHEMA {
        session.run(part).await.map_err(making)?;
    }
    session.client.execute(MAKE_LOCKS, &[&stripes]).await.map_err(making)?;
    let insert = "INSERT INTO meta VALUES ('version', $1::bigint::text), ('instance', this_store())";
    session.client.execute(insert, &[&VERSION]).await.map_err(making)?;
    if LEVEL > FIRST_LEVEL {
        let level = Document::new::<StoreLevel>(StoreLevel { level: LEVEL }).write();
        let level =
            level.map_err(|error| StoreError(format!("the store's level cannot be written: {error}")))?;
        let insert = "INSERT INTO documents VALUES (convert_to($1, 'UTF8'), $2)";
        session.client.execute(insert, &[&StoreLevel::PREFIX, &level]).await.map_err(making)?;
    }
    info!(schema, "the tables of a new store were made");
    Ok(())
}

/// The version of the tables; `None` if there are none. The catalog is asked itself: what a connection remembers of it may be
/// older than the lock that it holds.
async fn version(session: &Session, schema: &str) -> Result<Option<i64>, Error> {
    let exists = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname IN ('meta', 'documents')";
    if session.client.query_one(exists, &[&schema]).await?.get::<_, i64>(0) < 2 {
        return Ok(None);
    }
    let version = format!("SELECT value FROM {schema}.meta WHERE name = 'version'");
    let row = session.client.query_opt(&version, &[]).await?;
    Ok(Some(row.and_then(|row| row.get::<_, String>(0).parse().ok()).unwrap_or(0)))
}

fn check(schema: &str, version: i64) -> Result<(), StoreError> {
    if version == VERSION {
        return Ok(());
    }
    if version > VERSION {
        return Err(StoreError(format!(
            "the store in the schema {schema} is of a newer release of Yagura (version {version}, this one reads up to {VERSION}); upgrade Yagura"
        )));
    }
    if version == 1 {
        return Err(StoreError(format!(
            "the store in the schema {schema} was made by a build from before the first release, which this one cannot read; use that build, or name another schema with ?schema=NAME in the store's URL"
        )));
    }
    Err(StoreError(format!(
        "the schema {schema} holds tables that are not those of a Yagura store; name another with ?schema=NAME in the store's URL"
    )))
}
