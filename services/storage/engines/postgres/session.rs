//! One connection to the server, with its prepared statements.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, RowStream, Statement};

/// What every connection sets first.
///
/// - A commit that was acknowledged is on disk, also where the server's default is another.
/// - Plans go by indexes, whatever the tables' statistics say: those of a store that was empty when a statement was planned
///   would read whole tables later. A generic plan is made once.
/// - A server whose client has gone notices within half a minute, and lets its locks go.
/// - Nothing waits for ever.
pub(super) const SETTINGS: &str = "SET synchronous_commit = on; SET client_min_messages = warning;
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off;
    SET jit = off; SET plan_cache_mode = force_generic_plan; SET max_parallel_workers_per_gather = 0;
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = '60s'";

/// A connection. Statements that are sent without waiting for each other's answers are executed in order.
pub(super) struct Session {
    pub(super) client: Client,
    /// Is notified when the session hears of its own check (see [`super::connect`]).
    pub(super) heard: Arc<Notify>,
    /// Is notified once the connection has ended.
    pub(super) closed: Arc<Notify>,
    statements: Mutex<HashMap<&'static str, Statement>>,
}

/// The parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Session {
    pub(super) fn new(client: Client) -> Self {
        Self { client, heard: Arc::default(), closed: Arc::default(), statements: Mutex::default() }
    }

    /// Prepares statements together, so that what uses them later can be sent in one go.
    pub(super) async fn prepare(&self, all: &[&'static str]) -> Result<(), Error> {
        try_join_all(all.iter().map(|sql| self.statement(sql))).await.map(drop)
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.lock().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().insert(sql, statement.clone());
        Ok(statement)
    }

    /// The rows of a statement.
    pub(super) async fn query(&self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.statement(sql).await?;
        self.client.query(&statement, params).await
    }

    /// The same, one by one as they arrive: the server goes on meanwhile.
    pub(super) async fn stream(&self, sql: &'static str, params: Params<'_>) -> Result<RowStream, Error> {
        let statement = self.statement(sql).await?;
        let params = params.iter().map(|param| *param as &(dyn ToSql + Sync));
        self.client.query_raw(&statement, params).await
    }

    /// Executes a statement; returns how many rows it has changed.
    pub(super) async fn execute(&self, sql: &'static str, params: Params<'_>) -> Result<u64, Error> {
        let statement = self.statement(sql).await?;
        self.client.execute(&statement, params).await
    }

    /// A statement that copies rows to the server.
    pub(super) async fn copy_in(
        &self,
        sql: &'static str,
    ) -> Result<tokio_postgres::CopyInSink<bytes::Bytes>, Error> {
        let statement = self.statement(sql).await?;
        self.client.copy_in(&statement).await
    }

    /// Executes statements without parameters, such as `BEGIN`.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}
