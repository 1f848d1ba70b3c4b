//! Connections that are lent for reads. They are opened when they are needed, up to a number.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, join};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connect::Server;
use super::errors::Failure;
use super::session::Session;
use crate::engines::StoreError;

/// How long a read waits for its turn, and then for its answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often a read is tried whose connection is lost.
const ATTEMPTS: usize = 3;

/// Pieces of replies that are read ahead, of all replies together: each is memory that nobody has asked for yet.
const AHEAD_MAX: usize = 4;

/// Connections for reads.
pub(super) struct Pool {
    server: Arc<Server>,
    idle: Mutex<Vec<Arc<Session>>>,
    permits: Semaphore,
    ahead: Arc<Semaphore>,
}

impl Pool {
    /// At most so many connections.
    pub(super) fn new(server: Arc<Server>, size: usize) -> Self {
        let ahead = Arc::new(Semaphore::new(AHEAD_MAX));
        Self { server, idle: Mutex::default(), permits: Semaphore::new(size), ahead }
    }

    /// Adds a connection that is open already.
    pub(super) fn add(&self, session: Session) {
        self.idle.lock().push(Arc::new(session));
    }

    /// Reads on a connection; on another one, if that was lost.
    ///
    /// One that is dropped before its end, because nobody waits for it any more, takes its connection with it: nothing is left
    /// in the midst of a transaction.
    pub(super) async fn read<T, F>(&self, work: impl Fn(Arc<Session>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let permit = timeout(DEADLINE, self.permits.acquire()).await.map_err(|_| {
            StoreError(format!(
                "no connection to Postgres was free within {DEADLINE:?}; the server is slow, or `connections` in the store's URL is too few"
            ))
        })?;
        let _permit = permit.map_err(|_| StoreError("the store is closed".to_owned()))?;
        let mut attempt = 1;
        loop {
            let idle = self.take_idle();
            let session = match idle {
                Some(session) => session,
                None => Arc::new(self.server.connect_patiently().await?),
            };
            let read = timeout(DEADLINE, work(Arc::clone(&session))).await;
            let read = read.unwrap_or_else(|_| {
                // The connection goes with it.
                Err(Failure::Lost(StoreError(format!("Postgres did not answer within {DEADLINE:?}"))))
            });
            match read {
                Err(Failure::Lost(_)) if attempt < ATTEMPTS => {}
                Err(Failure::Lost(error)) => return Err(error),
                read => {
                    self.idle.lock().push(session);
                    return read.map_err(Failure::error);
                }
            }
            attempt += 1;
        }
    }

    fn take_idle(&self) -> Option<Arc<Session>> {
        let mut idle = self.idle.lock();
        while let Some(session) = idle.pop() {
            if !session.is_closed() {
                return Some(session);
            }
        }
        None
    }

    /// Reads several statements that all see the same state of the store.
    pub(super) async fn snapshot<T, F>(&self, work: impl Fn(Arc<Session>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.read(|session| in_snapshot(Arc::clone(&session), work(session))).await
    }

    /// Leave to read a piece ahead, if few are.
    pub(super) fn may_read_ahead(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.ahead).try_acquire_owned().ok()
    }

    /// Lends no more, and closes those that are idle.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }
}

async fn in_snapshot<T>(
    session: Arc<Session>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Sent together with the first statement.
    let begin = session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    let (begun, read) = join!(begin, work);
    begun.map_err(|error| Failure::of("reading", &error))?;
    // Nobody waits for the answer: whoever has the connection next is served after it, and would learn that it is lost.
    drop(session.run("COMMIT").now_or_never());
    read
}
